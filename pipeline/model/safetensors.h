// Safetensors files: named tensors behind a JSON header (huggingface/safetensors, format of README.md).
//
//   8 bytes: N, little-endian | N bytes: JSON object, name -> {dtype, shape, data_offsets} | data
//
// A file from the network is hostile until shown otherwise: everything in the header is checked when the file is
// opened, so that Bytes never reaches outside the mapping and no number overflows.
#ifndef STORYFARM_PIPELINE_MODEL_SAFETENSORS_H_
#define STORYFARM_PIPELINE_MODEL_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/base/mapped_file.h"

namespace storyfarm::model {

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
inline constexpr size_t kMaxTensors = 1'000'000;          // SDXL's UNet has 1,680; draws files about 10,000
inline constexpr size_t kMaxTensorRank = 16;              // convolutions have 4
inline constexpr size_t kMaxTensorNameBytes = 1024;

enum class TensorType {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64
};

// As in headers: "F16".
std::string_view TensorTypeName(TensorType type);
uint64_t TensorTypeBytes(TensorType type);  // of one element

struct TensorInfo {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;  // none: a scalar; a 0 in it: no elements
  uint64_t offset_bytes = 0;   // in the file
  uint64_t size_bytes = 0;     // elements x TensorTypeBytes

  uint64_t elements() const { return size_bytes / TensorTypeBytes(type); }
};

// Immutable, so any thread may read it. Bytes stay valid as long as the object: share it with whoever holds views.
class SafetensorsFile {
 public:
  // Maps the file and checks all of the header. `display_name` stands for the path in messages where a file's place
  // says nothing to a person (a blob); empty: the path. DATA_LOSS: not a valid file; the message names file, tensor and
  // what is wrong. NOT_FOUND and so on as MappedFile says.
  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Open(const std::string& path,
                                                                     const std::string& display_name = "");

  // Sorted by place in the file, which is without gaps or overlaps.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // Null where there is none.
  const TensorInfo* Find(std::string_view name) const;
  // Row-major, little-endian; of this file's tensors only. Not aligned: a file's offsets may be odd.
  std::span<const std::byte> Bytes(const TensorInfo& tensor) const;
  // The header's __metadata__.
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  const std::string& name() const { return name_; }  // for messages
  const base::MappedFile& mapping() const { return file_; }

 private:
  explicit SafetensorsFile(base::MappedFile file) : file_(std::move(file)) {}
  absl::Status ParseHeader();
  base::MappedFile file_;
  std::string name_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string_view, size_t> by_name_;  // views of tensors_' names
  std::map<std::string, std::string, std::less<>> metadata_;
};

struct TensorToWrite {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // shape's product x element size; borrowed until the call returns
};

// The file's bytes depend on the arguments alone: tensors in the order given, the header padded with spaces so that
// data starts at a multiple of 8. INVALID_ARGUMENT: a name twice or "__metadata__", bytes that don't match type and
// shape. Written durably (Env::WriteFileDurably's promise); errors as Env says.
absl::Status WriteSafetensors(base::Env& env, const std::string& path, std::span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string, std::less<>>& metadata = {});

}  // namespace storyfarm::model

#endif  // STORYFARM_PIPELINE_MODEL_SAFETENSORS_H_
