// The files of the page (coordinator/web/page), which the build puts into the program: nothing has to be installed beside
// it, and the page that is served is always the one that fits.
#ifndef STORYFARM_COORDINATOR_WEB_PAGE_FILES_H_
#define STORYFARM_COORDINATOR_WEB_PAGE_FILES_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace storyfarm::coordinator {

struct EmbeddedFile {
  absl::string_view name;  // "index.html"
  absl::string_view bytes;
};
const std::vector<EmbeddedFile>& EmbeddedFiles();

// Null where there is none.
const EmbeddedFile* FindPageFile(absl::string_view name);
// By the name's ending: "text/html; charset=utf-8".
const char* PageFileType(absl::string_view name);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_PAGE_FILES_H_
