// Zip archives of stored entries (APPNOTE.TXT 6.3.3), written front to back.
#ifndef STORYFARM_PIPELINE_PAGE_ZIP_H_
#define STORYFARM_PIPELINE_PAGE_ZIP_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "pipeline/base/env.h"

namespace storyfarm::page {

// Entries are stored as they are (PNG does not deflate) and dated 1980-01-01, the format's first day: equal entries
// give equal archives. Archives over 4 GiB are written in the format's 64-bit form.
class ZipWriter {
 public:
  // `file` must outlive the writer.
  explicit ZipWriter(base::WritableFile& file) : file_(file) {}

  // `name` is UTF-8 with '/' between folders. INVALID_ARGUMENT: over 65,535 bytes of name or 4 GiB of bytes.
  absl::Status Add(std::string_view name, std::string_view bytes);
  // Writes the directory. Once, at the end.
  absl::Status Finish();

 private:
  struct Entry {
    std::string name;
    uint32_t crc = 0;
    uint32_t size_bytes = 0;
    uint64_t offset_bytes = 0;
  };
  absl::Status Append(std::string_view bytes);

  base::WritableFile& file_;
  uint64_t written_bytes_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace storyfarm::page

#endif  // STORYFARM_PIPELINE_PAGE_ZIP_H_
