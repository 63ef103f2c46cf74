// Shell completion, made from the command line's own definition.
#ifndef STORYFARM_TOOLS_STORYCTL_COMPLETION_H_
#define STORYFARM_TOOLS_STORYCTL_COMPLETION_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace storyfarm::storyctl {

struct CommandWords {
  std::string name;  // "models add" for a command of a command; empty: storyctl itself
  std::string description;
  std::vector<std::string> options;  // "--json"
};

// The script for "bash", "zsh" or "fish", to be sourced; INVALID_ARGUMENT for another shell.
absl::StatusOr<std::string> CompletionScript(const std::string& shell, const std::vector<CommandWords>& commands);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_COMPLETION_H_
