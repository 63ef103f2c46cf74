// How weights are rounded to int8: what the renderer does and the planner counts.
#ifndef STORYFARM_PIPELINE_MODEL_INT8_H_
#define STORYFARM_PIPELINE_MODEL_INT8_H_

#include <algorithm>
#include <cstdint>

namespace storyfarm::model {

// Weights that share a scale, at most: a scale in fp16 adds a thirtieth to them.
inline constexpr int64_t kMostInt8Group = 64;

// Of an output channel's weights, how many share a scale: groups of a channel are equal.
inline int64_t Int8Group(int64_t weights) {
  int64_t group = std::max<int64_t>(1, std::min(kMostInt8Group, weights));
  while (weights % group != 0) --group;
  return group;
}

}  // namespace storyfarm::model

#endif  // STORYFARM_PIPELINE_MODEL_INT8_H_
