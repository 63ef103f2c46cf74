#include "coordinator/web/page_files.h"

#include <algorithm>

#include "absl/strings/match.h"

namespace storyfarm::coordinator {

const EmbeddedFile* FindPageFile(absl::string_view name) {
  const std::vector<EmbeddedFile>& files = EmbeddedFiles();
  const auto found = std::find_if(files.begin(), files.end(), [name](const auto& file) { return file.name == name; });
  return found == files.end() ? nullptr : &*found;
}

const char* PageFileType(absl::string_view name) {
  if (absl::EndsWith(name, ".html")) return "text/html; charset=utf-8";
  if (absl::EndsWith(name, ".css")) return "text/css; charset=utf-8";
  if (absl::EndsWith(name, ".js")) return "text/javascript; charset=utf-8";
  if (absl::EndsWith(name, ".svg")) return "image/svg+xml";
  return "application/octet-stream";
}

}  // namespace storyfarm::coordinator
