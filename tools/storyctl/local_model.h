// A model in a folder of this machine, as far as headers tell: for what is done without a farm.
#ifndef STORYFARM_TOOLS_STORYCTL_LOCAL_MODEL_H_
#define STORYFARM_TOOLS_STORYCTL_LOCAL_MODEL_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "farm/v1/model.pb.h"
#include "pipeline/model/word_list.h"
#include "tools/storyctl/commands.h"

namespace storyfarm::storyctl {

struct LocalModel {
  farm::v1::ModelManifest manifest;      // named for the folder, with its profile; no files, no digest
  std::optional<model::WordList> words;  // that it was taught; nothing: all
};

// Reads configs and the headers of the weights, never the weights. What is wrong with the folder is bad input. `fp16`:
// the fp16 variant where there are both.
absl::StatusOr<LocalModel> ReadLocalModel(const Context& context, const std::string& folder, bool fp16);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_LOCAL_MODEL_H_
