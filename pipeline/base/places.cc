#include "pipeline/base/places.h"

#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"

namespace storyfarm::base {

Variables ProcessVariables() {
  return [](const std::string& name) {
    const char* value = std::getenv(name.c_str());
    return std::string(value == nullptr ? "" : value);
  };
}

absl::StatusOr<std::string> DefaultDataFolder(const Variables& variables, std::string_view program) {
  const std::string home = variables("HOME");
#ifdef __APPLE__
  if (!home.empty()) return JoinPath(JoinPath(home, "Library/Application Support/storyfarm"), program);
#else
  const std::string data_home = variables("XDG_DATA_HOME");
  if (!data_home.empty() && data_home.front() == '/') return JoinPath(JoinPath(data_home, "storyfarm"), program);
  if (!home.empty()) return JoinPath(JoinPath(home, ".local/share/storyfarm"), program);
#endif
  return absl::FailedPreconditionError(
      "There is no home folder to keep data in: HOME is not set. Set it, or name a folder with --data.");
}

std::string CoordinatorSocket(const std::string& data_folder) {
  std::string inside = JoinPath(data_folder, "coordinator.sock");
  if (inside.size() <= kMaxSocketPathBytes) return inside;
  return absl::StrCat("/tmp/storyfarm-", static_cast<uint64_t>(getuid()), "/", Digest::Of(data_folder).ShortHex(),
                      ".sock");
}

absl::StatusOr<std::string> DefaultCoordinatorTarget(const Variables& variables) {
  absl::StatusOr<std::string> folder = DefaultDataFolder(variables, "coordinator");
  if (!folder.ok()) return folder.status();
  return absl::StrCat("unix:", CoordinatorSocket(*folder));
}

absl::Status CheckCoordinatorTarget(const std::string& target) {
  constexpr std::string_view kUnix = "unix:";
  bool right = false;
  if (target.rfind(kUnix, 0) == 0) {
    right = target.size() > kUnix.size();
  } else if (const size_t colon = target.rfind(':'); colon != std::string::npos && colon > 0) {
    uint32_t port = 0;
    right = absl::SimpleAtoi(target.substr(colon + 1), &port) && port > 0 && port <= 65535;
  }
  if (right) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", target, "\" is no address of a coordinator: write unix:PATH or HOST:PORT, such as 127.0.0.1:7850."));
}

}  // namespace storyfarm::base
