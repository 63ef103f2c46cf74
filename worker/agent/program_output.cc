#include "worker/agent/program_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "pipeline/base/env.h"
#include "pipeline/base/subprocess.h"
#include "pipeline/base/unique_fd.h"

namespace storyfarm::worker {
namespace {

constexpr size_t kMostOutput = 64 << 10;

absl::StatusOr<std::string> Run(absl::Duration at_most, const std::string& program,
                                const std::vector<std::string>& arguments) {
  int ends[2];
  if (pipe(ends) != 0) return base::ErrorFromErrno(errno, "open", "a pipe");
  const base::UniqueFd from(ends[0]);
  base::UniqueFd to(ends[1]);
  for (const int end : ends) fcntl(end, F_SETFD, FD_CLOEXEC);
  base::SubprocessOptions options;
  options.program = program;
  options.arguments = arguments;
  options.descriptors = {{to.get(), 1}};
  auto child = base::Subprocess::Start(options);
  if (!child.ok()) return child.status();
  to = base::UniqueFd();
  // What it writes fits into the pipe, so that it ends without anybody reading.
  const auto ended = (*child)->Wait(at_most);
  if (!ended.has_value()) return absl::DeadlineExceededError(absl::StrCat(program, " did not answer"));
  if (!ended->ok()) return absl::InternalError(absl::StrCat(program, " ", ended->ToString()));
  std::string output(kMostOutput, '\0');
  const ssize_t count = read(from.get(), output.data(), output.size());
  if (count < 0) return base::ErrorFromErrno(errno, "read from", program);
  output.resize(static_cast<size_t>(count));
  return output;
}

}  // namespace

ProgramOutput RunWithin(absl::Duration at_most) {
  return [at_most](const std::string& program, const std::vector<std::string>& arguments) {
    return Run(at_most, program, arguments);
  };
}

}  // namespace storyfarm::worker
