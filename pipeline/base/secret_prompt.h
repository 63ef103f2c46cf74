// A secret from a person: never from a command line, which every user of the machine may list and shells remember.
#ifndef STORYFARM_PIPELINE_BASE_SECRET_PROMPT_H_
#define STORYFARM_PIPELINE_BASE_SECRET_PROMPT_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "pipeline/base/env.h"

namespace storyfarm::base {

// One line of stdin. On a terminal `prompt` is shown on stderr and what is typed is not; from a file or a pipe it is
// just read. INVALID_ARGUMENT: nothing came.
absl::StatusOr<std::string> ReadSecretLine(std::string_view prompt);

// The first line of a file, for machines that nobody types at. INVALID_ARGUMENT: it has none.
absl::StatusOr<std::string> ReadSecretFile(Env& env, const std::string& path);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_SECRET_PROMPT_H_
