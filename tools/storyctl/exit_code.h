// What storyctl's exit code tells a script. The table stands in deploy/docs/storyctl.md and in --help.
#ifndef STORYFARM_TOOLS_STORYCTL_EXIT_CODE_H_
#define STORYFARM_TOOLS_STORYCTL_EXIT_CODE_H_

#include "absl/status/status.h"

namespace storyfarm::storyctl {

enum class ExitCode {
  kOk = 0,
  kFailed = 1,       // the job or some of its panels failed, or it was cancelled
  kBadInput = 2,     // usage, story, settings or model
  kUnreachable = 3,  // no coordinator answers
  kNotFound = 4,     // no such job, model or file at the farm
  kConflict = 5,     // the farm forbids it: job already ended, key or name in use for something else, role too small
  kNoRoom = 6,       // no device has the memory, or a disk is full
  kInternal = 7,     // a defect or a failing machine; the message says what is known
};

// The code for a command that ended with this error.
inline ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnimplemented:
      return ExitCode::kBadInput;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kUnreachable;
    case absl::StatusCode::kNotFound:
      return ExitCode::kNotFound;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kUnauthenticated:
      return ExitCode::kConflict;
    case absl::StatusCode::kResourceExhausted:
      return ExitCode::kNoRoom;
    default:
      return ExitCode::kInternal;
  }
}

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_EXIT_CODE_H_
