// The final latents of a story's panels in one file.
#ifndef STORYFARM_TOOLS_STORYCTL_LATENTS_H_
#define STORYFARM_TOOLS_STORYCTL_LATENTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "pipeline/base/env.h"

namespace storyfarm::storyctl {

// Writes `path`: safetensors, float32, keys "latents/{panel}" counted from 0, each [C, H/f, W/f]. `files` are the
// panels' own files (key "latents") by number; an empty one, of a panel that failed, is left out.
absl::Status CollectLatents(base::Env& env, const std::vector<std::string>& files, const std::string& path);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_LATENTS_H_
