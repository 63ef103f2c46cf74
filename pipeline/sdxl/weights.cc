#include "pipeline/sdxl/weights.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace storyfarm::sdxl {
namespace {

// A wrong config makes every tensor wrong: enough to see which.
constexpr size_t kMaxProblemsShown = 12;

std::string ShapeText(at::IntArrayRef shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

absl::StatusOr<at::ScalarType> ScalarTypeOf(model::TensorType type) {
  switch (type) {
    case model::TensorType::kF16:
      return at::kHalf;
    case model::TensorType::kBF16:
      return at::kBFloat16;
    case model::TensorType::kF32:
      return at::kFloat;
    case model::TensorType::kF64:
      return at::kDouble;
    case model::TensorType::kF8E4M3:
      return at::kFloat8_e4m3fn;
    case model::TensorType::kF8E5M2:
      return at::kFloat8_e5m2;
    case model::TensorType::kI64:
      return at::kLong;
    case model::TensorType::kI32:
      return at::kInt;
    default:
      return absl::UnimplementedError(absl::StrCat("is stored as ", std::string(model::TensorTypeName(type)),
                                                   "; weights may be F16, BF16, F32, F64 or F8"));
  }
}

// A tensor over the mapped file itself, which stays mapped as long as any view of it. Only read: mappings are
// read-only.
at::Tensor View(const std::shared_ptr<const model::SafetensorsFile>& file, const model::TensorInfo& info,
                at::ScalarType type) {
  const std::span<const std::byte> bytes = file->Bytes(info);
  auto* data = const_cast<std::byte*>(bytes.data());
  const bool aligned = reinterpret_cast<uintptr_t>(data) % c10::elementSize(type) == 0;
  if (aligned && !bytes.empty())
    return at::from_blob(
        data, info.shape, [file](void*) {}, at::dtype(type));
  at::Tensor copy = at::empty(info.shape, at::dtype(type));
  if (!bytes.empty()) std::memcpy(copy.data_ptr(), data, bytes.size());
  return copy;
}

}  // namespace

absl::StatusOr<Weights> Weights::Open(const model::ModelFolder& folder, std::string_view component,
                                      Placement placement) {
  auto files = folder.OpenWeights(component);
  if (!files.ok()) return files.status();
  Weights weights;
  weights.component_ = std::string(component);
  weights.placement_ = placement;
  weights.stream_ = std::make_shared<WeightStream>(placement);
  for (const auto& file : *files) {
    for (const model::TensorInfo& info : file->tensors()) {
      const auto type = ScalarTypeOf(info.type);
      if (!type.ok()) {
        return absl::Status(type.status().code(), absl::StrCat(file->name(), ": tensor \"", info.name, "\" ",
                                                               std::string(type.status().message())));
      }
      weights.stored_[info.name] = {.tensor = {View(file, info, *type), file, info.offset_bytes}};
    }
    weights.files_.push_back(file->name());
  }
  return weights;
}

const StoredTensor* Weights::Find(std::string_view name, at::IntArrayRef shape) {
  const auto found = stored_.find(name);
  if (found == stored_.end()) {
    missing_.push_back(absl::StrCat("\"", std::string(name), "\" ", ShapeText(shape), " is missing"));
    return nullptr;
  }
  Stored& stored = found->second;
  stored.taken = true;
  const at::Tensor& tensor = stored.tensor.tensor;
  if (tensor.sizes() != shape) {
    mis_shaped_.push_back(absl::StrCat(stored.tensor.file->name(), ": \"", std::string(name), "\" has shape ",
                                       ShapeText(tensor.sizes()), ", the config asks for ", ShapeText(shape)));
    return nullptr;
  }
  return &stored.tensor;
}

at::Tensor Weights::Take(std::string_view name, at::IntArrayRef shape) {
  const StoredTensor* stored = Find(name, shape);
  return stored != nullptr ? Place(*stored, placement_) : at::Tensor();
}

Parameter Weights::TakeParameter(std::string_view name, at::IntArrayRef shape, const WeightBlock& block) {
  return TakeStack({std::string(name)}, shape, block);
}

Parameter Weights::TakeStack(const std::vector<std::string>& names, at::IntArrayRef shape, const WeightBlock& block) {
  std::vector<StoredTensor> all;
  for (const std::string& name : names) {
    if (const StoredTensor* stored = Find(name, shape)) all.push_back(*stored);
  }
  if (all.size() < names.size()) return {};
  auto slot = std::make_shared<Parameter::Slot>();
  if (block) {
    stream_->Add(block.number(), std::move(all), slot);
  } else {
    slot->values = PlaceStack(all, placement_);
  }
  return Parameter(std::move(slot));
}

WeightBlock Weights::NewBlock() { return {stream_, stream_->AddBlock()}; }

bool Weights::Has(std::string_view name) const { return stored_.find(name) != stored_.end(); }

void Weights::Ignore(std::string_view name) {
  if (const auto found = stored_.find(name); found != stored_.end()) found->second.taken = true;
}

void Weights::IgnoreAll(std::string_view prefix) {
  for (auto at = stored_.lower_bound(prefix); at != stored_.end() && at->first.starts_with(prefix); ++at) {
    at->second.taken = true;
  }
}

absl::Status Weights::Finish() {
  std::vector<std::string> problems = mis_shaped_;
  for (const std::string& missing : missing_) {
    problems.push_back(absl::StrCat(absl::StrJoin(files_, " + "), ": ", missing));
  }
  for (const auto& [name, stored] : stored_) {
    if (stored.taken) continue;
    problems.push_back(absl::StrCat(stored.tensor.file->name(), ": \"", name, "\" ",
                                    ShapeText(stored.tensor.tensor.sizes()), " belongs to nothing in the config"));
  }
  if (problems.empty()) {
    stream_->Start();
    return absl::OkStatus();
  }
  const size_t count = problems.size();
  if (count > kMaxProblemsShown) {
    problems.resize(kMaxProblemsShown);
    problems.push_back(absl::StrCat("and ", count - kMaxProblemsShown, " more"));
  }
  return absl::InvalidArgumentError(absl::StrCat("the weights of ", component_, " do not fit ", component_,
                                                 "/config.json: ", absl::StrJoin(problems, "; ")));
}

std::string WeightScope::Join(std::string_view name) const {
  return prefix_.empty() ? std::string(name) : absl::StrCat(prefix_, ".", std::string(name));
}
WeightScope WeightScope::operator/(std::string_view child) const {
  return WeightScope(weights_, Join(child), block_);
}
at::Tensor WeightScope::Take(std::string_view name, at::IntArrayRef shape) const {
  return weights_->Take(Join(name), shape);
}
Parameter WeightScope::TakeParameter(std::string_view name, at::IntArrayRef shape) const {
  return weights_->TakeParameter(Join(name), shape, block_);
}
Parameter WeightScope::TakeStack(const std::vector<std::string>& names, at::IntArrayRef shape) const {
  std::vector<std::string> joined;
  for (const std::string& name : names) joined.push_back(Join(name));
  return weights_->TakeStack(joined, shape, block_);
}
bool WeightScope::Has(std::string_view name) const { return weights_->Has(Join(name)); }

}  // namespace storyfarm::sdxl
