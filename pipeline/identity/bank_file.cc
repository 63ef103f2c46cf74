#include "pipeline/identity/bank_file.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "pipeline/base/checksum.h"
#include "pipeline/base/digest.h"

namespace storyfarm::identity {
namespace {

constexpr std::string_view kMagic = "SFBANK\r\n";
constexpr std::string_view kEndMagic = "SFBANKED";
constexpr uint32_t kVersion = 2;
// Bounds of what a header may claim, far beyond any model: 36 layers, 2 halves, 16 frames of 4,096 tokens, 1,280
// channels are SDXL's.
constexpr uint32_t kMostParts = 1u << 16;
constexpr uint32_t kMostLayers = 1u << 16;
constexpr uint32_t kMostTokens = 1u << 24;
constexpr uint32_t kMostChannels = 1u << 16;

constexpr char kRenderAgain[] = "render the character's identity frames again";

uint64_t Aligned(uint64_t bytes) {
  return (bytes + kBankAlignmentBytes - 1) / kBankAlignmentBytes * kBankAlignmentBytes;
}

template <typename Number>
void Put(std::string* to, Number value) {
  for (size_t i = 0; i < sizeof(Number); ++i) to->push_back(static_cast<char>(value >> (8 * i) & 0xFF));
}

template <typename Number>
Number Get(std::string_view from, size_t at) {
  Number value = 0;
  for (size_t i = 0; i < sizeof(Number); ++i) {
    value |= static_cast<Number>(static_cast<Number>(static_cast<uint8_t>(from[at + i])) << (8 * i));
  }
  return value;
}

std::string HeaderOf(const BankOrigin& origin, int step, int64_t halves, BankElement element) {
  std::string header(kMagic);
  Put(&header, kVersion);
  Put(&header, static_cast<uint32_t>(step));
  header.append(reinterpret_cast<const char*>(origin.character_key.data()), origin.character_key.size());
  header += base::Digest::Of(origin.model).Bytes();
  header += base::Digest::Of(origin.settings).Bytes();
  Put(&header, static_cast<uint32_t>(origin.identity_frames));
  Put(&header, static_cast<uint32_t>(halves));
  Put(&header, static_cast<uint32_t>(element));
  header.resize(kBankHeaderBytes, '\0');
  return header;
}

std::string_view View(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

uint64_t PartShape::ElementBytes() const {
  switch (element) {
    case BankElement::kFp32:
      return 4;
    case BankElement::kFp16:
    case BankElement::kBf16:
      return 2;
    case BankElement::kInt8:
      return 1;
  }
  return 1;
}

uint64_t PartShape::DataOffset() const {
  constexpr uint64_t kScaleBytes = 2;
  return element == BankElement::kInt8 ? Aligned(static_cast<uint64_t>(tokens) * kScaleBytes) : 0;
}

uint64_t PartShape::Bytes() const {
  return DataOffset() + Aligned(static_cast<uint64_t>(tokens) * static_cast<uint64_t>(channels) * ElementBytes());
}

// ---- Reading ------------------------------------------------------------------------------------------------------

absl::Status BankStepFile::Damaged(const std::string& what) const {
  return absl::DataLossError(
      absl::StrCat("identity bank ", path_, ": ", what, ". Fetch it again where it came from, or ", kRenderAgain));
}

absl::StatusOr<std::string> BankStepFile::ReadExactly(uint64_t offset_bytes, uint64_t size_bytes) const {
  std::string bytes(size_bytes, '\0');
  const absl::StatusOr<size_t> got = file_->ReadAt(offset_bytes, bytes.data(), bytes.size());
  if (!got.ok()) return got.status();
  if (*got != size_bytes) return Damaged(absl::StrCat("it ends at ", offset_bytes + *got, " bytes while being read"));
  return bytes;
}

absl::StatusOr<std::shared_ptr<const BankStepFile>> BankStepFile::Open(base::Env& env, const std::string& path,
                                                                       const BankOrigin& origin, int step) {
  absl::StatusOr<std::unique_ptr<base::ReadableFile>> file = env.OpenForReading(path);
  if (!file.ok()) {
    return absl::Status(file.status().code(), absl::StrCat("identity bank, step ", step, ": ", file.status().message(),
                                                           " Fetch it again where it came from, or ", kRenderAgain));
  }
  std::shared_ptr<BankStepFile> bank(new BankStepFile(path, *std::move(file)));
  if (bank->file_->SizeBytes() < kBankHeaderBytes + kBankTrailerBytes) {
    return bank->Damaged(absl::StrCat("it has only ", bank->file_->SizeBytes(), " bytes: cut off, or no bank"));
  }
  const absl::StatusOr<std::string> header = bank->ReadExactly(0, kBankHeaderBytes);
  if (!header.ok()) return header.status();
  if (std::string_view(*header).substr(0, kMagic.size()) != kMagic) {
    return bank->Damaged("it does not begin as a bank does");
  }
  if (const uint32_t version = Get<uint32_t>(*header, 8); version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("identity bank ", path, ": it has version ", version,
                                                   ", this program reads ", kVersion, ": ", kRenderAgain));
  }
  if (const absl::Status status = bank->ReadTable(*header); !status.ok()) return status;
  if (const absl::Status status = bank->CheckHeader(*header, origin, step); !status.ok()) return status;
  return bank;
}

absl::Status BankStepFile::ReadTable(const std::string& header) {
  const uint64_t size = file_->SizeBytes();
  const absl::StatusOr<std::string> trailer = ReadExactly(size - kBankTrailerBytes, kBankTrailerBytes);
  if (!trailer.ok()) return trailer.status();
  const uint64_t table_at = Get<uint64_t>(*trailer, 0);
  const uint32_t count = Get<uint32_t>(*trailer, 8);
  if (std::string_view(*trailer).substr(24) != kEndMagic || Get<uint32_t>(*trailer, 12) != 0 || count > kMostParts ||
      table_at < kBankHeaderBytes || table_at > size ||
      size - table_at != count * kBankTableEntryBytes + kBankTrailerBytes) {
    return Damaged(absl::StrCat("it has ", size, " bytes and does not end as a bank does: it was cut off"));
  }
  const absl::StatusOr<std::string> table = ReadExactly(table_at, count * kBankTableEntryBytes);
  if (!table.ok()) return table.status();
  if (base::Checksum(header + *table) != Get<uint64_t>(*trailer, 16)) {
    return Damaged("the checksum of its header and table is wrong");
  }
  halves_ = Get<uint32_t>(header, 100);
  const uint32_t element = Get<uint32_t>(header, 104);
  const bool known = (halves_ == 1 || halves_ == 2) && element <= static_cast<uint32_t>(BankElement::kInt8);
  std::set<std::pair<int64_t, int64_t>> places;
  uint64_t end = kBankHeaderBytes;
  for (uint32_t i = 0; i < count; ++i) {
    const std::string_view entry = std::string_view(*table).substr(i * kBankTableEntryBytes, kBankTableEntryBytes);
    const uint32_t tokens = Get<uint32_t>(entry, 8), channels = Get<uint32_t>(entry, 12);
    BankPart part{.layer = Get<uint32_t>(entry, 0),
                  .half = Get<uint32_t>(entry, 4),
                  .shape = {tokens, channels, static_cast<BankElement>(element)},
                  .offset_bytes = Get<uint64_t>(entry, 16),
                  .checksum = Get<uint64_t>(entry, 32)};
    if (!known || part.layer >= kMostLayers || part.half >= halves_ || tokens > kMostTokens ||
        channels > kMostChannels || part.offset_bytes != end || Get<uint64_t>(entry, 24) != part.shape.Bytes() ||
        part.shape.Bytes() > table_at - end || !places.emplace(part.layer, part.half).second) {
      return Damaged(absl::StrCat("part ", i, " of its table can't be: the program that wrote it is at fault"));
    }
    end += part.shape.Bytes();
    parts_.push_back(part);
  }
  return end == table_at ? absl::OkStatus() : Damaged("its parts do not fill it");
}

absl::Status BankStepFile::CheckHeader(const std::string& header, const BankOrigin& origin, int step) const {
  const std::string wanted = HeaderOf(origin, step, 0, BankElement::kFp32);
  const auto same = [&](size_t at, size_t size) { return header.compare(at, size, wanted, at, size) == 0; };
  std::string what;
  if (!same(16, 16)) {
    what = "it is another character's (`character_key`)";
  } else if (!same(12, 4)) {
    what = absl::StrCat("it is step ", Get<uint32_t>(header, 12), ", this run needs step ", step);
  } else if (!same(32, 32)) {
    what = absl::StrCat("it was made with another model than `", origin.model, "`");
  } else if (!same(64, 32)) {
    what = absl::StrCat("it was made under other settings than this run's: ", origin.settings);
  } else if (!same(96, 4)) {
    what =
        absl::StrCat("it has ", Get<uint32_t>(header, 96), " identity frames, this run reads ", origin.identity_frames);
  } else {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("identity bank ", path_, ": ", what, ". Use the bank that belongs here, or ", kRenderAgain));
}

const BankPart* BankStepFile::Find(int64_t layer, int64_t half) const {
  const auto found =
      std::find_if(parts_.begin(), parts_.end(), [&](const BankPart& p) { return p.layer == layer && p.half == half; });
  return found == parts_.end() ? nullptr : &*found;
}

absl::Status BankStepFile::Read(const BankPart& part, std::span<std::byte> to) const {
  const absl::StatusOr<size_t> got =
      file_->ReadAt(part.offset_bytes, reinterpret_cast<char*>(to.data()), part.shape.Bytes());
  if (!got.ok()) return got.status();
  const std::string place = absl::StrCat("layer ", part.layer, ", half ", part.half);
  if (*got != part.shape.Bytes()) return Damaged(absl::StrCat(place, " ends after ", *got, " bytes: it was cut off"));
  if (base::Checksum(View(to.first(*got))) != part.checksum) {
    return Damaged(absl::StrCat("the checksum of ", place, " is wrong"));
  }
  return absl::OkStatus();
}

// ---- Writing ------------------------------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<BankStepWriter>> BankStepWriter::Create(base::Env& env, const std::string& path,
                                                                       const BankOrigin& origin, int step,
                                                                       int64_t halves, BankElement element) {
  std::unique_ptr<BankStepWriter> writer(new BankStepWriter(env, path));
  absl::StatusOr<std::unique_ptr<base::WritableFile>> file =
      env.OpenForWriting(path + ".part", base::WriteMode::kTruncate);
  if (!file.ok()) return file.status();
  writer->file_ = *std::move(file);
  writer->header_ = HeaderOf(origin, step, halves, element);
  if (const absl::Status status = writer->file_->WriteAt(0, writer->header_); !status.ok()) return status;
  writer->offset_bytes_ = writer->header_.size();
  return writer;
}

BankStepWriter::~BankStepWriter() {
  if (file_ == nullptr || finished_) return;
  file_.reset();
  // What can't be removed lies in a folder that the run's owner clears as a whole.
  env_.Remove(path_ + ".part").IgnoreError();
}

BankPart& BankStepWriter::Reserve(int64_t layer, int64_t half, const PartShape& shape) {
  BankPart& part = parts_.emplace_back();
  part.layer = layer;
  part.half = half;
  part.shape = shape;
  part.offset_bytes = offset_bytes_;
  offset_bytes_ += shape.Bytes();
  return part;
}

absl::Status BankStepWriter::Write(BankPart& part, std::span<const std::byte> bytes) {
  if (bytes.size() != part.shape.Bytes()) return absl::InternalError("identity bank: a part of the wrong size");
  part.checksum = base::Checksum(View(bytes));
  return file_->WriteAt(part.offset_bytes, View(bytes));
}

absl::Status BankStepWriter::Finish(bool durable) {
  std::string table;
  for (const BankPart& part : parts_) {
    Put(&table, static_cast<uint32_t>(part.layer));
    Put(&table, static_cast<uint32_t>(part.half));
    Put(&table, static_cast<uint32_t>(part.shape.tokens));
    Put(&table, static_cast<uint32_t>(part.shape.channels));
    Put(&table, part.offset_bytes);
    Put(&table, uint64_t{part.shape.Bytes()});
    Put(&table, part.checksum);
  }
  std::string end = table;
  Put(&end, offset_bytes_);
  Put(&end, static_cast<uint32_t>(parts_.size()));
  Put(&end, uint32_t{0});
  Put(&end, base::Checksum(header_ + table));
  end += kEndMagic;
  if (const absl::Status status = file_->WriteAt(offset_bytes_, end); !status.ok()) return status;
  if (durable) {
    if (const absl::Status status = file_->Sync(); !status.ok()) return status;
  }
  if (const absl::Status status = file_->Close(); !status.ok()) return status;
  if (const absl::Status status = env_.Rename(path_ + ".part", path_); !status.ok()) return status;
  finished_ = true;
  return durable ? env_.SyncFolder(base::FolderOf(path_)) : absl::OkStatus();
}

}  // namespace storyfarm::identity
