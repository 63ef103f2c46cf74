#include "pipeline/render/text_file.h"

#include <ATen/ATen.h>

#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"
#include "pipeline/model/safetensors.h"

namespace storyfarm::render {
namespace {

using model::TensorType;

constexpr char kFormat[] = "storyfarm-text";
constexpr char kVersion[] = "1";
constexpr char kEmbeds[] = "embeds/";
constexpr char kPooled[] = "pooled/";

TensorType FileType(at::ScalarType type) {
  if (type == at::kHalf) return TensorType::kF16;
  return type == at::kBFloat16 ? TensorType::kBF16 : TensorType::kF32;
}

at::Tensor ToTensor(const model::SafetensorsFile& file, const model::TensorInfo& info) {
  const at::ScalarType type = info.type == TensorType::kF16    ? at::kHalf
                              : info.type == TensorType::kBF16 ? at::kBFloat16
                                                               : at::kFloat;
  std::vector<int64_t> shape = info.shape;
  shape.insert(shape.begin(), 1);
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(type));
  const std::span<const std::byte> bytes = file.Bytes(info);
  std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

absl::Status Damaged(const std::string& path, const std::string& why) {
  return Fail(FailureKind::kBlobUnavailable, absl::StrCat("the embeddings ", path, " ", why));
}

// A file's bytes are checked once more where they are used: what a disk changed since it came would be drawn.
absl::Status CheckWhole(base::Env& env, const TextFiles::File& file) {
  const absl::StatusOr<base::FileDigest> hashed = base::HashFile(env, file.path);
  if (!hashed.ok()) return Damaged(file.path, absl::StrCat("can't be read: ", hashed.status().message()));
  if (hashed->digest.Bytes() != file.sha256) return Damaged(file.path, "are damaged: their bytes do not hash to their digest");
  return absl::OkStatus();
}

bool IsEmbedding(const model::TensorInfo& info, size_t dimensions) {
  return info.shape.size() == dimensions &&
         (info.type == TensorType::kF32 || info.type == TensorType::kF16 || info.type == TensorType::kBF16);
}

}  // namespace

absl::Status WriteTextFile(base::Env& env, const std::string& path, const std::string& encoders,
                           const TextEmbeddings& embeddings) {
  std::vector<model::TensorToWrite> tensors;
  std::vector<at::Tensor> held;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    const at::Tensor& bytes = held.emplace_back(tensor.squeeze(0).contiguous());
    tensors.push_back({name,
                       FileType(bytes.scalar_type()),
                       {bytes.sizes().begin(), bytes.sizes().end()},
                       {static_cast<const std::byte*>(bytes.const_data_ptr()), bytes.nbytes()}});
  };
  held.reserve(2 * embeddings.size());
  for (const auto& [text, embeds] : embeddings) {
    const std::string name = base::Digest::Of(text).Hex();
    add(kEmbeds + name, embeds.embeds);
    add(kPooled + name, embeds.pooled);
  }
  return model::WriteSafetensors(env, path, tensors,
                                 {{"format", kFormat}, {"version", kVersion}, {"encoders", encoders}});
}

absl::StatusOr<TextReader> TextReader::Open(base::Env& env, const TextFiles& files) {
  TextReader reader;
  for (const TextFiles::File& each : files.files) {
    if (absl::Status whole = CheckWhole(env, each); !whole.ok()) return whole;
    auto file = model::SafetensorsFile::Open(each.path);
    if (!file.ok()) return Fail(FailureKind::kBadInput, std::string(file.status().message()));
    const auto& metadata = (*file)->metadata();
    const auto says = [&metadata](const char* key, const std::string& value) {
      const auto found = metadata.find(key);
      return found != metadata.end() && found->second == value;
    };
    if (!says("format", kFormat) || !says("version", kVersion)) {
      return Fail(FailureKind::kBadInput, absl::StrCat(each.path, " is no file of text embeddings of version ",
                                                       kVersion, ": who wrote it is of another version"));
    }
    if (!says("encoders", files.encoders)) {
      return Fail(FailureKind::kBadInput,
                  absl::StrCat("the embeddings ", each.path, " were made by other text encoders than the model's"));
    }
    for (const model::TensorInfo& info : (*file)->tensors()) {
      const bool pooled = info.name.rfind(kPooled, 0) == 0;
      if (!IsEmbedding(info, pooled ? 1 : 2)) {
        return Fail(FailureKind::kBadInput, absl::StrCat("the embeddings ", each.path, ": ", info.name,
                                                         " is none: who wrote it is at fault"));
      }
      sdxl::PromptEmbeds& embeds = reader.embeds_[info.name.substr(std::strlen(pooled ? kPooled : kEmbeds))];
      (pooled ? embeds.pooled : embeds.embeds) = ToTensor(**file, info);
    }
  }
  return reader;
}

absl::StatusOr<sdxl::PromptEmbeds> TextReader::Find(const std::string& text) const {
  const auto found = embeds_.find(base::Digest::Of(text).Hex());
  if (found == embeds_.end() || !found->second.embeds.defined() || !found->second.pooled.defined()) {
    return Fail(FailureKind::kBadInput, absl::StrCat("no file of embeddings has the prompt \"", text.substr(0, 100),
                                                     "\": it was planned from another story"));
  }
  return found->second;
}

}  // namespace storyfarm::render
