#include "pipeline/base/program_folder.h"

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <system_error>

#include "pipeline/base/env.h"

#ifdef __APPLE__
#include <limits.h>
#include <mach-o/dyld.h>
#endif

namespace storyfarm::base {

std::string ProgramFolder() {
  std::error_code error;
#ifdef __APPLE__
  char buffer[PATH_MAX];
  uint32_t size = sizeof(buffer);
  if (_NSGetExecutablePath(buffer, &size) != 0) return "";
  const std::filesystem::path program = std::filesystem::canonical(buffer, error);
#else
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
#endif
  return error ? "" : program.parent_path().string();
}

std::string ProgramBeside(std::string_view name) {
  const std::string folder = ProgramFolder();
  if (folder.empty()) return "";
  std::string program = JoinPath(folder, name);
  return access(program.c_str(), X_OK) == 0 ? program : "";
}

}  // namespace storyfarm::base
