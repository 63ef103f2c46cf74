// How long an engine may be silent before it counts as hung, learned from what it did before.
#ifndef STORYFARM_WORKER_CORE_SILENCE_H_
#define STORYFARM_WORKER_CORE_SILENCE_H_

#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "worker/core/limits.h"

namespace storyfarm::worker {

// What an engine is doing between two of its signs of life. Their lengths differ by orders of magnitude, so each learns
// for itself.
enum class Phase {
  kLoading,    // from the request to the first step: weights, prompts
  kStepping,   // between two steps
  kFinishing,  // after a pass's last step: decoding, encoding, writing
};

// What a silence belongs to, and its size.
struct RunKind {
  uint32_t device = 0;
  std::string model_digest;  // empty: pages
  bool identity = false;
  bool text = false;   // prompts, one a step
  int64_t pixels = 1;  // of all frames in the slice: silences are compared per pixel
};

class SilenceLimits {
 public:
  explicit SilenceLimits(const Limits& limits) : limits_(limits) {}

  // An engine was silent for so long and then went on.
  void Observe(const RunKind& run, Phase phase, int64_t silence_ms);

  // Longer than this means hung.
  int64_t LimitMs(const RunKind& run, Phase phase) const;

 private:
  using Key = std::tuple<uint32_t, std::string, bool, bool, Phase>;
  struct Longest {
    int64_t silence_ms = 0;
    int64_t pixels = 1;
  };

  Limits limits_;
  std::map<Key, Longest> longest_;  // a few entries a model that this node ever ran
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_CORE_SILENCE_H_
