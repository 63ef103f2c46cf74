// Runs a small program and hears what it says.
#ifndef STORYFARM_WORKER_AGENT_PROGRAM_OUTPUT_H_
#define STORYFARM_WORKER_AGENT_PROGRAM_OUTPUT_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace storyfarm::worker {

// Runs a program and gives what it wrote to its standard output; an error where it can't be run or fails.
using ProgramOutput =
    std::function<absl::StatusOr<std::string>(const std::string& program, const std::vector<std::string>& arguments)>;

// For programs that write at most 64 KiB; DEADLINE_EXCEEDED, and it is killed, where it takes longer.
ProgramOutput RunWithin(absl::Duration at_most);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_PROGRAM_OUTPUT_H_
