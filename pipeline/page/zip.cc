#include "pipeline/page/zip.h"

#include <zlib.h>

#include <limits>

#include "absl/strings/str_cat.h"

namespace storyfarm::page {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50;
constexpr uint32_t kDirectoryEntry = 0x02014b50;
constexpr uint32_t kDirectoryEnd = 0x06054b50;
constexpr uint32_t kDirectoryEnd64 = 0x06064b50;
constexpr uint32_t kDirectoryEnd64Locator = 0x07064b50;
constexpr uint16_t kVersion = 20;    // 2.0, as folders need
constexpr uint16_t kVersion64 = 45;  // 4.5: 64-bit offsets
constexpr uint16_t kUtf8Names = 0x0800;
constexpr uint16_t kStored = 0;
constexpr uint16_t kTime = 0;
constexpr uint16_t kDate = 1 << 5 | 1;  // 1980-01-01
constexpr uint16_t kExtra64 = 1;
constexpr uint32_t kSee64 = 0xFFFFFFFF;
constexpr uint16_t kSee64Short = 0xFFFF;

template <typename T>
void Put(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i)));
}

// The part that both headers of an entry share.
void PutEntry(std::string& out, uint32_t crc, uint32_t size_bytes, size_t name_bytes, uint16_t extra_bytes) {
  Put(out, kUtf8Names);
  Put(out, kStored);
  Put(out, kTime);
  Put(out, kDate);
  Put(out, crc);
  Put(out, size_bytes);  // stored
  Put(out, size_bytes);  // unpacked
  Put(out, static_cast<uint16_t>(name_bytes));
  Put(out, extra_bytes);
}

}  // namespace

absl::Status ZipWriter::Append(std::string_view bytes) {
  written_bytes_ += bytes.size();
  return file_.Append(bytes);
}

absl::Status ZipWriter::Add(std::string_view name, std::string_view bytes) {
  if (name.empty() || name.size() > std::numeric_limits<uint16_t>::max() || bytes.size() >= kSee64) {
    return absl::InvalidArgumentError(absl::StrCat("an entry with a name of ", name.size(), " bytes and ", bytes.size(),
                                                   " bytes in it does not fit a zip file"));
  }
  Entry entry{std::string(name), 0, static_cast<uint32_t>(bytes.size()), written_bytes_};
  entry.crc = static_cast<uint32_t>(
      crc32_z(crc32_z(0, nullptr, 0), reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
  std::string header;
  Put(header, kLocalHeader);
  Put(header, kVersion);
  PutEntry(header, entry.crc, entry.size_bytes, name.size(), 0);
  header += name;
  if (absl::Status written = Append(header); !written.ok()) return written;
  if (absl::Status written = Append(bytes); !written.ok()) return written;
  entries_.push_back(std::move(entry));
  return absl::OkStatus();
}

absl::Status ZipWriter::Finish() {
  std::string directory;
  for (const Entry& entry : entries_) {
    const bool far = entry.offset_bytes >= kSee64;
    Put(directory, kDirectoryEntry);
    Put(directory, far ? kVersion64 : kVersion);  // made by, on FAT: no file modes
    Put(directory, far ? kVersion64 : kVersion);  // needed
    PutEntry(directory, entry.crc, entry.size_bytes, entry.name.size(), far ? 12 : 0);
    Put(directory, uint16_t{0});  // comment
    Put(directory, uint16_t{0});  // disk
    Put(directory, uint16_t{0});  // internal attributes
    Put(directory, uint32_t{0});  // external attributes
    Put(directory, far ? kSee64 : static_cast<uint32_t>(entry.offset_bytes));
    directory += entry.name;
    if (far) {
      Put(directory, kExtra64);
      Put(directory, uint16_t{8});
      Put(directory, entry.offset_bytes);
    }
  }
  const uint64_t start = written_bytes_;
  const uint64_t count = entries_.size();
  const bool far = start >= kSee64 || directory.size() >= kSee64 || count >= kSee64Short;
  std::string end;
  if (far) {
    Put(end, kDirectoryEnd64);
    Put(end, uint64_t{44});  // bytes of this record from here on
    Put(end, kVersion64);
    Put(end, kVersion64);
    Put(end, uint32_t{0});
    Put(end, uint32_t{0});
    Put(end, count);
    Put(end, count);
    Put(end, uint64_t{directory.size()});
    Put(end, start);
    Put(end, kDirectoryEnd64Locator);
    Put(end, uint32_t{0});
    Put(end, start + directory.size());
    Put(end, uint32_t{1});
  }
  Put(end, kDirectoryEnd);
  Put(end, uint16_t{0});
  Put(end, uint16_t{0});
  Put(end, far ? kSee64Short : static_cast<uint16_t>(count));
  Put(end, far ? kSee64Short : static_cast<uint16_t>(count));
  Put(end, far ? kSee64 : static_cast<uint32_t>(directory.size()));
  Put(end, far ? kSee64 : static_cast<uint32_t>(start));
  Put(end, uint16_t{0});
  if (absl::Status written = Append(directory); !written.ok()) return written;
  return Append(end);
}

}  // namespace storyfarm::page
