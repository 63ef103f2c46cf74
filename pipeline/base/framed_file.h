// Messages in a file, each after its length (4 bytes, little-endian), as framing.h has them on a stream; and a digest
// of what was written, so that a file that was cut or damaged is told from a whole one.
#ifndef STORYFARM_PIPELINE_BASE_FRAMED_FILE_H_
#define STORYFARM_PIPELINE_BASE_FRAMED_FILE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"

namespace storyfarm::base {

// Not thread-safe.
class FramedFileWriter {
 public:
  static absl::StatusOr<std::unique_ptr<FramedFileWriter>> Create(Env& env, const std::string& path);
  // INVALID_ARGUMENT: longer than framing.h's kMaxFrameBytes.
  absl::Status Append(std::string_view message);
  uint64_t messages() const { return messages_; }
  // Of everything appended. Nothing is to be appended but a last message that holds it.
  Digest Finish() { return hasher_.Finish(); }
  // Durable on OK.
  absl::Status Close();

 private:
  explicit FramedFileWriter(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  std::unique_ptr<WritableFile> file_;
  Sha256 hasher_;
  uint64_t messages_ = 0;
};

// Not thread-safe.
class FramedFileReader {
 public:
  static absl::StatusOr<std::unique_ptr<FramedFileReader>> Open(Env& env, const std::string& path);
  // nullopt at the end of the file. DATA_LOSS: it ends inside a message, or the length can't be one.
  absl::StatusOr<std::optional<std::string>> Next();
  uint64_t messages() const { return messages_; }  // that Next gave
  // Of everything before the last message that Next gave. Call once.
  Digest BeforeLast() { return hasher_.Finish(); }

 private:
  FramedFileReader(std::string path, std::unique_ptr<ReadableFile> file)
      : path_(std::move(path)), file_(std::move(file)) {}
  absl::Status Read(uint64_t bytes, std::string* out);

  const std::string path_;
  std::unique_ptr<ReadableFile> file_;
  uint64_t offset_bytes_ = 0;
  uint64_t messages_ = 0;
  std::string last_;  // the message that Next gave, with its length; not hashed yet
  Sha256 hasher_;
};

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_FRAMED_FILE_H_
