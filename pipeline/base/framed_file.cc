#include "pipeline/base/framed_file.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/framing.h"

namespace storyfarm::base {
namespace {

constexpr size_t kLengthBytes = 4;

std::string LengthOf(std::string_view message) {
  std::string length;
  for (size_t i = 0; i < kLengthBytes; ++i) length.push_back(static_cast<char>((message.size() >> (8 * i)) & 0xff));
  return length;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FramedFileWriter>> FramedFileWriter::Create(Env& env, const std::string& path) {
  absl::StatusOr<std::unique_ptr<WritableFile>> file = env.OpenForWriting(path, WriteMode::kTruncate);
  if (!file.ok()) return file.status();
  return std::unique_ptr<FramedFileWriter>(new FramedFileWriter(*std::move(file)));
}

absl::Status FramedFileWriter::Append(std::string_view message) {
  if (message.size() > kMaxFrameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("A message of ", message.size(), " bytes; at most ", kMaxFrameBytes, " are taken."));
  }
  const std::string length = LengthOf(message);
  hasher_.Update(length);
  hasher_.Update(message);
  ++messages_;
  if (absl::Status status = file_->Append(length); !status.ok()) return status;
  return file_->Append(message);
}

absl::Status FramedFileWriter::Close() {
  if (absl::Status status = file_->Sync(); !status.ok()) return status;
  return file_->Close();
}

absl::StatusOr<std::unique_ptr<FramedFileReader>> FramedFileReader::Open(Env& env, const std::string& path) {
  absl::StatusOr<std::unique_ptr<ReadableFile>> file = env.OpenForReading(path);
  if (!file.ok()) return file.status();
  return std::unique_ptr<FramedFileReader>(new FramedFileReader(path, *std::move(file)));
}

absl::Status FramedFileReader::Read(uint64_t bytes, std::string* out) {
  const size_t begin = out->size();
  out->resize(begin + bytes);
  size_t got = 0;
  while (got < bytes) {
    const absl::StatusOr<size_t> some = file_->ReadAt(offset_bytes_, out->data() + begin + got, bytes - got);
    if (!some.ok()) return some.status();
    if (*some == 0) {
      return absl::DataLossError(absl::StrCat(path_, " is cut off at byte ", offset_bytes_, "."));
    }
    got += *some;
    offset_bytes_ += *some;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> FramedFileReader::Next() {
  hasher_.Update(last_);
  last_.clear();
  if (offset_bytes_ == file_->SizeBytes()) return std::nullopt;
  if (absl::Status status = Read(kLengthBytes, &last_); !status.ok()) return status;
  uint64_t size = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) size |= uint64_t{static_cast<unsigned char>(last_[i])} << (8 * i);
  if (size > kMaxFrameBytes || size > file_->SizeBytes() - offset_bytes_) {
    return absl::DataLossError(absl::StrCat(path_, " is cut off or damaged at byte ", offset_bytes_, "."));
  }
  if (absl::Status status = Read(size, &last_); !status.ok()) return status;
  ++messages_;
  return last_.substr(kLengthBytes);
}

}  // namespace storyfarm::base
