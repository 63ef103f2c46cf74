#include "pipeline/identity/bank.h"

#include <memory>
#include <optional>
#include <span>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pipeline/model/safetensors.h"

namespace storyfarm::identity {
namespace {

using model::TensorType;

constexpr char kFormat[] = "storyfarm-bank";
constexpr char kVersion[] = "1";

std::string HexOf(const CharacterKey& key) {
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(key.data()), key.size()));
}

std::optional<TensorType> FileType(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return TensorType::kF32;
    case at::kHalf:
      return TensorType::kF16;
    case at::kBFloat16:
      return TensorType::kBF16;
    default:
      return std::nullopt;
  }
}

std::optional<at::ScalarType> TorchType(TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return at::kFloat;
    case TensorType::kF16:
      return at::kHalf;
    case TensorType::kBF16:
      return at::kBFloat16;
    default:
      return std::nullopt;
  }
}

std::optional<std::pair<int64_t, int64_t>> ParseName(const std::string& name) {
  const std::vector<std::string> parts = absl::StrSplit(name, '/');
  int64_t layer = 0, frame = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &layer) || !absl::SimpleAtoi(parts[1], &frame)) {
    return std::nullopt;
  }
  if (absl::StrCat(layer, "/", frame) != name) return std::nullopt;
  return std::pair(layer, frame);
}

// A tensor over the mapping, which it keeps alive; a copy where its bytes are not aligned.
at::Tensor TensorOver(const std::shared_ptr<const model::SafetensorsFile>& file, const model::TensorInfo& info,
                      at::ScalarType type) {
  void* bytes = const_cast<std::byte*>(file->Bytes(info).data());
  const bool aligned = reinterpret_cast<uintptr_t>(bytes) % c10::elementSize(type) == 0;
  if (info.size_bytes == 0) return at::empty(info.shape, type);
  if (aligned)
    return at::from_blob(
        bytes, info.shape, [file](void*) {}, at::TensorOptions(type));
  at::Tensor copy = at::empty(info.shape, type);
  std::memcpy(copy.mutable_data_ptr(), bytes, info.size_bytes);
  return copy;
}

absl::Status CheckMetadata(const model::SafetensorsFile& file, const BankOrigin& origin, int step) {
  const std::pair<const char*, std::string> expected[] = {
      {"format", kFormat},
      {"version", kVersion},
      {"character_key", HexOf(origin.character_key)},
      {"step", std::to_string(step)},
      {"identity_frames", std::to_string(origin.identity_frames)},
      {"model", origin.model},
  };
  for (const auto& [key, value] : expected) {
    const auto found = file.metadata().find(key);
    const std::string is = found == file.metadata().end() ? "" : found->second;
    if (is == value) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("identity bank ", file.name(), ": `", key, "` is \"", is, "\", this run needs \"", value, "\""));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteBankStep(base::Env& env, const std::string& path, const BankOrigin& origin, int step,
                           const BankStep& entries) {
  std::vector<model::TensorToWrite> tensors;
  std::vector<at::Tensor> held;
  for (const auto& [place, tensor] : entries) {
    const at::Tensor host = tensor.to(at::kCPU).contiguous();
    const std::optional<TensorType> type = FileType(host.scalar_type());
    if (!type) return absl::InternalError("identity bank: a number format that bank files do not have");
    held.push_back(host);
    tensors.push_back({absl::StrCat(place.first, "/", place.second), *type, host.sizes().vec(),
                       std::span(static_cast<const std::byte*>(host.const_data_ptr()), host.nbytes())});
  }
  return model::WriteSafetensors(env, path, tensors,
                                 {{"format", kFormat},
                                  {"version", kVersion},
                                  {"character_key", HexOf(origin.character_key)},
                                  {"step", std::to_string(step)},
                                  {"identity_frames", std::to_string(origin.identity_frames)},
                                  {"model", origin.model}});
}

absl::StatusOr<BankStep> ReadBankStep(const std::string& path, const BankOrigin& origin, int step, at::Device device,
                                      at::ScalarType dtype) {
  const absl::StatusOr<std::shared_ptr<const model::SafetensorsFile>> file = model::SafetensorsFile::Open(path);
  if (!file.ok()) return file.status();
  if (const absl::Status status = CheckMetadata(**file, origin, step); !status.ok()) return status;
  BankStep entries;
  for (const model::TensorInfo& info : (*file)->tensors()) {
    const std::optional<std::pair<int64_t, int64_t>> place = ParseName(info.name);
    const std::optional<at::ScalarType> type = TorchType(info.type);
    const bool fits = place && type && info.shape.size() == 3 && place->first >= 0 && place->second >= 0 &&
                      place->second < origin.identity_frames && (info.shape[0] == 1 || info.shape[0] == 2);
    if (!fits) {
      return absl::InvalidArgumentError(absl::StrCat("identity bank ", (*file)->name(), ": `", info.name,
                                                     "` can't be an entry of ", origin.identity_frames,
                                                     " identity frames"));
    }
    entries[*place] = TensorOver(*file, info, *type).to(device, dtype);
  }
  return entries;
}

absl::Status BankReader::Load(int64_t step) {
  if (loaded_ == step) return absl::OkStatus();
  if (const auto kept = kept_.find(step); kept != kept_.end()) {
    current_ = kept->second;
    loaded_ = step;
    return absl::OkStatus();
  }
  current_.clear();  // before the next one comes: two steps never share the device's memory
  loaded_ = -1;
  if (step < static_cast<int64_t>(files_.size()) && !files_[step].empty()) {
    absl::StatusOr<BankStep> entries = ReadBankStep(files_[step], origin_, static_cast<int>(step), device_, dtype_);
    if (!entries.ok()) return entries.status();
    current_ = *std::move(entries);
  }
  if (resident_) kept_[step] = current_;
  loaded_ = step;
  return absl::OkStatus();
}

}  // namespace storyfarm::identity
