// One step of an identity bank as a file: the unit of upload, of resuming and of a CharacterPack. A part of it, one
// layer of one guidance half, is the unit of streaming and has a checksum of its own.
//
// Layout, all numbers little-endian:
//     0  header   128 bytes
//                   0  "SFBANK\r\n"     a transfer as text would change it
//                   8  u32 version, 2   12  u32 step
//                  16  16 bytes: the character's key
//                  32  SHA-256 of the model's name   64  SHA-256 of the settings that a reader must share
//                  96  u32 identity frames  100  u32 guidance halves  104  u32 element (BankElement)  108  zeros
//   128  parts    each at a multiple of 64 bytes, in the order in which the writer computed them:
//                   int8: tokens x fp16 scale, padded with zeros to 64 bytes; then
//                   tokens x channels elements, padded with zeros to 64 bytes
//     T  table    40 bytes a part: u32 layer, u32 half, u32 tokens, u32 channels, u64 offset, u64 bytes, u64 checksum
//        trailer  32 bytes: u64 T, u32 parts, u32 zero, u64 checksum of header and table, "SFBANKED"
// Tokens are those kept of identity frame 0, ascending, then those of frame 1 and so on. Element values: int8 q stands
// for q x its token's scale. Parts that nobody reads (gates closed in that step) are left out. The table comes last, so
// that a writer holds one part in memory, and a file that was cut off has no trailer.
//
// No torch here: this and bank_ring.h run under the thread sanitizer, which libtorch does not.
#ifndef STORYFARM_PIPELINE_IDENTITY_BANK_FILE_H_
#define STORYFARM_PIPELINE_IDENTITY_BANK_FILE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/identity/draws.h"

namespace storyfarm::identity {

enum class BankElement : uint32_t { kFp32 = 0, kFp16 = 1, kBf16 = 2, kInt8 = 3 };

inline constexpr uint64_t kBankAlignmentBytes = 64;  // a cache line, and what torch's CPU kernels like best
inline constexpr uint64_t kBankHeaderBytes = 128;
inline constexpr uint64_t kBankTableEntryBytes = 40;
inline constexpr uint64_t kBankTrailerBytes = 32;

// The tokens of one layer and half, as bytes.
struct PartShape {
  int64_t tokens = 0, channels = 0;
  BankElement element = BankElement::kFp32;

  uint64_t ElementBytes() const;
  uint64_t DataOffset() const;  // of the elements, in the part: behind the scales
  uint64_t Bytes() const;       // of the part, a multiple of kBankAlignmentBytes
  friend bool operator==(const PartShape&, const PartShape&) = default;
};

// What ties a bank to the run that made it.
struct BankOrigin {
  CharacterKey character_key{};
  int identity_frames = 0;
  std::string model;     // digest in hex, or its name where nobody knows a digest
  std::string settings;  // what writer and reader must share, as text: schedule, guidance, FreeU, gates
};

struct BankPart {
  int64_t layer = 0, half = 0;
  PartShape shape;
  uint64_t offset_bytes = 0;
  uint64_t checksum = 0;
};

// Reading. Thread-safe.
class BankStepFile {
 public:
  // Checks header, table and trailer. NOT_FOUND: no such file. DATA_LOSS: cut off or damaged. INVALID_ARGUMENT: whole,
  // but of another character, step, model, settings, version or number of identity frames. Each names the file, what
  // does not fit and what to do.
  static absl::StatusOr<std::shared_ptr<const BankStepFile>> Open(base::Env& env, const std::string& path,
                                                                  const BankOrigin& origin, int step);

  int64_t halves() const { return halves_; }
  const std::vector<BankPart>& parts() const { return parts_; }
  // Null where there is none.
  const BankPart* Find(int64_t layer, int64_t half) const;
  // All of the part, verified. `to` has shape.Bytes(). DATA_LOSS names file, layer and half.
  absl::Status Read(const BankPart& part, std::span<std::byte> to) const;
  const std::string& path() const { return path_; }

 private:
  BankStepFile(std::string path, std::unique_ptr<base::ReadableFile> file)
      : path_(std::move(path)), file_(std::move(file)) {}
  absl::StatusOr<std::string> ReadExactly(uint64_t offset_bytes, uint64_t size_bytes) const;
  absl::Status Damaged(const std::string& what) const;
  absl::Status CheckHeader(const std::string& header, const BankOrigin& origin, int step) const;
  absl::Status ReadTable(const std::string& header);

  const std::string path_;
  const std::unique_ptr<base::ReadableFile> file_;
  int64_t halves_ = 0;
  std::vector<BankPart> parts_;  // in the order of the file
};

// Writing, part by part. Nothing stands at `path` before Finish returned OK; destruction without it leaves no trace.
// Thread-safe in Write alone. RESOURCE_EXHAUSTED: the disk is full.
class BankStepWriter {
 public:
  static absl::StatusOr<std::unique_ptr<BankStepWriter>> Create(base::Env& env, const std::string& path,
                                                                const BankOrigin& origin, int step, int64_t halves,
                                                                BankElement element);
  ~BankStepWriter();

  // A part's place in the file, behind those reserved before. Each (layer, half) once.
  BankPart& Reserve(int64_t layer, int64_t half, const PartShape& shape);
  // What belongs there, of part.shape.Bytes(). Each place once; any thread, several at a time.
  absl::Status Write(BankPart& part, std::span<const std::byte> bytes);
  absl::Status Append(int64_t layer, int64_t half, const PartShape& shape, std::span<const std::byte> bytes) {
    return Write(Reserve(layer, half, shape), bytes);
  }
  // Once all that was reserved is written. `durable`: it outlives a power cut.
  absl::Status Finish(bool durable = true);

 private:
  BankStepWriter(base::Env& env, std::string path) : env_(env), path_(std::move(path)) {}
  base::Env& env_;
  const std::string path_;
  std::unique_ptr<base::WritableFile> file_;
  std::string header_;
  std::deque<BankPart> parts_;  // they stay where they are
  uint64_t offset_bytes_ = 0;   // where the next part goes
  bool finished_ = false;
};

}  // namespace storyfarm::identity

#endif  // STORYFARM_PIPELINE_IDENTITY_BANK_FILE_H_
