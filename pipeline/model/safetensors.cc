#include "pipeline/model/safetensors.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace storyfarm::model {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kDataAlignment = 8;  // of what we write
constexpr char kMetadataKey[] = "__metadata__";

struct TypeRow {
  TensorType type;
  std::string_view name;
  uint64_t bytes;
};
constexpr TypeRow kTypes[] = {
    {TensorType::kBool, "BOOL", 1},      {TensorType::kU8, "U8", 1},          {TensorType::kI8, "I8", 1},
    {TensorType::kF8E4M3, "F8_E4M3", 1}, {TensorType::kF8E5M2, "F8_E5M2", 1}, {TensorType::kI16, "I16", 2},
    {TensorType::kU16, "U16", 2},        {TensorType::kF16, "F16", 2},        {TensorType::kBF16, "BF16", 2},
    {TensorType::kI32, "I32", 4},        {TensorType::kU32, "U32", 4},        {TensorType::kF32, "F32", 4},
    {TensorType::kI64, "I64", 8},        {TensorType::kU64, "U64", 8},        {TensorType::kF64, "F64", 8},
};

const TypeRow& RowOf(TensorType type) {
  return *std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& row) { return row.type == type; });
}

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// For messages: names come from the file and may hold anything.
std::string Quoted(std::string_view name) {
  constexpr size_t kShown = 120;
  return absl::StrCat("'", absl::Utf8SafeCEscape(View(name.substr(0, kShown))), name.size() > kShown ? "...'" : "'");
}

// Reads the header as it is parsed, without building a tree of it: `{name: {dtype, shape, data_offsets}, ...}`. Each
// event returns false with `error` set where it is not what the format says.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  struct Tensor {
    TensorInfo info;
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  std::vector<Tensor> tensors;
  std::map<std::string, std::string, std::less<>> metadata;
  std::string error;

  bool start_object(size_t) override {
    if (place_ == Place::kStart) return Go(Place::kTop);
    if (place_ == Place::kTop && in_metadata_) return Go(Place::kMetadata);
    if (place_ == Place::kTop) {
      current_ = {};
      current_.info.name = name_;
      has_type_ = has_shape_ = has_offsets_ = false;
      return Go(Place::kTensor);
    }
    return Fail("an object where none belongs");
  }
  bool end_object() override {
    if (place_ == Place::kTensor) {
      if (!has_type_) return Fail("dtype is missing");
      if (!has_shape_) return Fail("shape is missing");
      if (!has_offsets_) return Fail("data_offsets is missing");
      tensors.push_back(std::move(current_));
      return Go(Place::kTop);
    }
    return Go(place_ == Place::kMetadata ? Place::kTop : Place::kEnd);
  }
  bool key(std::string& text) override {
    if (text.size() > kMaxTensorNameBytes) return Fail(absl::StrCat("a name of ", text.size(), " bytes"));
    if (place_ == Place::kTop) {
      if (!names_.insert(text).second) {
        name_ = text;
        return Fail("it is there twice");
      }
      name_ = text;
      in_metadata_ = text == kMetadataKey;
      if (tensors.size() >= kMaxTensors) return Fail(absl::StrCat("there are more than ", kMaxTensors, " tensors"));
      return true;
    }
    if (place_ == Place::kMetadata && metadata.count(text) > 0) return Fail("a metadata key is there twice");
    field_ = text;
    if (place_ != Place::kTensor) return true;
    bool* seen = field_ == "dtype"          ? &has_type_
                 : field_ == "shape"        ? &has_shape_
                 : field_ == "data_offsets" ? &has_offsets_
                                            : nullptr;
    if (seen == nullptr) return Fail(absl::StrCat("unknown field ", Quoted(field_)));
    if (*seen) return Fail(absl::StrCat(field_, " is there twice"));
    *seen = true;
    return true;
  }
  bool string(std::string& text) override {
    if (place_ == Place::kMetadata) {
      metadata[field_] = text;
      return true;
    }
    if (place_ != Place::kTensor || field_ != "dtype") return Fail("a string where none belongs");
    for (const TypeRow& row : kTypes) {
      if (row.name == text) {
        current_.info.type = row.type;
        return true;
      }
    }
    return Fail(absl::StrCat("unknown dtype ", Quoted(text)));
  }
  bool start_array(size_t) override {
    if (place_ != Place::kTensor || field_ == "dtype") return Fail("a list where none belongs");
    numbers_ = 0;
    return Go(Place::kNumbers);
  }
  bool end_array() override {
    if (field_ == "data_offsets" && numbers_ != 2) return Fail("data_offsets are not two numbers");
    return Go(Place::kTensor);
  }
  bool number_unsigned(uint64_t value) override {
    if (place_ != Place::kNumbers) return Fail("a number where none belongs");
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Fail(absl::StrCat("the number ", value, " in ", field_, " is too large"));
    }
    ++numbers_;
    if (field_ == "shape") {
      if (numbers_ > kMaxTensorRank) return Fail(absl::StrCat("it has more than ", kMaxTensorRank, " dimensions"));
      current_.info.shape.push_back(static_cast<int64_t>(value));
    } else if (numbers_ == 1) {
      current_.begin = value;
    } else if (numbers_ == 2) {
      current_.end = value;
    } else {
      return Fail("data_offsets are not two numbers");
    }
    return true;
  }
  bool number_integer(int64_t) override { return Fail("a negative number"); }
  bool number_float(double, const std::string&) override { return Fail("a number that is not a natural number"); }
  bool boolean(bool) override { return Fail("true or false where neither belongs"); }
  bool null() override { return Fail("null where it does not belong"); }
  bool binary(nlohmann::json::binary_t&) override { return Fail("binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    error = absl::StrCat("its header is not JSON at byte ", position);
    return false;
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kNumbers, kEnd };
  bool Go(Place place) {
    place_ = place;
    return true;
  }
  bool Fail(const std::string& what) {
    error = place_ == Place::kStart ? absl::StrCat("its header is not a JSON object: ", what)
            : name_ == kMetadataKey ? absl::StrCat("its metadata: ", what, "; metadata are strings by name")
            : name_.empty()         ? absl::StrCat("its header: ", what)
                                    : absl::StrCat("tensor ", Quoted(name_), ": ", what);
    return false;
  }

  Place place_ = Place::kStart;
  std::set<std::string> names_;
  std::string name_;   // key at the top
  std::string field_;  // key below it
  bool in_metadata_ = false;
  Tensor current_;
  size_t numbers_ = 0;  // of the list being read
  bool has_type_ = false, has_shape_ = false, has_offsets_ = false;
};

// Bytes of a tensor; nullopt where the product overflows.
std::optional<uint64_t> SizeOf(TensorType type, const std::vector<int64_t>& shape) {
  uint64_t size = TensorTypeBytes(type);
  bool overflow = false;
  for (int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    overflow = overflow || __builtin_mul_overflow(size, static_cast<uint64_t>(dimension), &size);
  }
  // A zero after an overflow would hide it: [2^63, 4, 0] has no elements, but nobody means it.
  if (overflow) return std::nullopt;
  return size;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (int64_t dimension : shape) absl::StrAppend(&text, text.size() > 1 ? ", " : "", dimension);
  return text + "]";
}

}  // namespace

std::string_view TensorTypeName(TensorType type) { return RowOf(type).name; }
uint64_t TensorTypeBytes(TensorType type) { return RowOf(type).bytes; }

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::Open(const std::string& path,
                                                                             const std::string& display_name) {
  absl::StatusOr<base::MappedFile> mapped = base::MappedFile::Open(path);
  if (!mapped.ok()) return mapped.status();
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile(*std::move(mapped)));
  file->name_ = display_name.empty() ? path : display_name;
  absl::Status parsed = file->ParseHeader();
  if (!parsed.ok()) {
    return absl::Status(parsed.code(), absl::StrCat(file->name_, " is not a valid safetensors file: ", parsed.message(),
                                                    ". Download or export it again."));
  }
  return file;
}

absl::Status SafetensorsFile::ParseHeader() {
  const std::span<const std::byte> bytes = file_.bytes();
  if (bytes.size() < kLengthBytes) {
    return absl::DataLossError(absl::StrCat("it has only ", bytes.size(), " bytes"));
  }
  uint64_t header_bytes = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) header_bytes |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
  if (header_bytes > kMaxHeaderBytes) {
    return absl::DataLossError(
        absl::StrCat("its header claims ", header_bytes, " bytes; at most ", kMaxHeaderBytes, " are allowed"));
  }
  if (header_bytes > bytes.size() - kLengthBytes) {
    return absl::DataLossError(absl::StrCat("its header claims ", header_bytes, " bytes, but the file has only ",
                                            bytes.size(), ": it was cut"));
  }
  const uint64_t data_start = kLengthBytes + header_bytes;
  const uint64_t data_bytes = bytes.size() - data_start;

  HeaderReader reader;
  const char* text = reinterpret_cast<const char*>(bytes.data()) + kLengthBytes;
  if (!nlohmann::json::sax_parse(text, text + header_bytes, &reader)) return absl::DataLossError(reader.error);

  for (HeaderReader::Tensor& tensor : reader.tensors) {
    const std::string name = absl::StrCat("tensor ", Quoted(tensor.info.name), ": ");
    const std::optional<uint64_t> size = SizeOf(tensor.info.type, tensor.info.shape);
    if (!size.has_value()) {
      return absl::DataLossError(
          absl::StrCat(name, "its shape ", ShapeText(tensor.info.shape), " is impossibly large"));
    }
    if (tensor.begin > tensor.end || tensor.end > data_bytes) {
      return absl::DataLossError(absl::StrCat(name, "its data_offsets [", tensor.begin, ", ", tensor.end,
                                              "] lie outside the file's ", data_bytes, " bytes of data"));
    }
    if (tensor.end - tensor.begin != *size) {
      return absl::DataLossError(absl::StrCat(name, "its shape ", ShapeText(tensor.info.shape), " and dtype ",
                                              View(TensorTypeName(tensor.info.type)), " need ", *size,
                                              " bytes, its data_offsets hold ", tensor.end - tensor.begin));
    }
    tensor.info.offset_bytes = data_start + tensor.begin;
    tensor.info.size_bytes = *size;
    tensors_.push_back(std::move(tensor.info));
  }
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.offset_bytes, a.size_bytes, a.name) < std::tie(b.offset_bytes, b.size_bytes, b.name);
  });
  uint64_t expected = data_start;
  for (const TensorInfo& tensor : tensors_) {
    if (tensor.offset_bytes != expected) {
      return absl::DataLossError(
          absl::StrCat("tensor ", Quoted(tensor.name),
                       tensor.offset_bytes < expected ? " overlaps the one before it" : " leaves a gap before it"));
    }
    expected += tensor.size_bytes;
  }
  if (expected != bytes.size()) {
    return absl::DataLossError(absl::StrCat("its last ", bytes.size() - expected, " bytes belong to no tensor"));
  }
  for (size_t i = 0; i < tensors_.size(); ++i) by_name_[tensors_[i].name] = i;
  metadata_ = std::move(reader.metadata);
  return absl::OkStatus();
}

const TensorInfo* SafetensorsFile::Find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

std::span<const std::byte> SafetensorsFile::Bytes(const TensorInfo& tensor) const {
  return file_.bytes().subspan(tensor.offset_bytes, tensor.size_bytes);
}

namespace {

absl::StatusOr<std::string> MakeHeader(std::span<const TensorToWrite> tensors,
                                       const std::map<std::string, std::string, std::less<>>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  for (const auto& [key, value] : metadata) header[kMetadataKey][key] = value;
  std::set<std::string_view> names;
  uint64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    const std::string quoted = Quoted(tensor.name);
    if (tensor.name == kMetadataKey || tensor.name.size() > kMaxTensorNameBytes) {
      return absl::InvalidArgumentError(absl::StrCat("A tensor can't be named ", quoted, "."));
    }
    if (!names.insert(tensor.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("Two tensors are named ", quoted, "."));
    }
    if (tensor.shape.size() > kMaxTensorRank || SizeOf(tensor.type, tensor.shape) != tensor.bytes.size()) {
      return absl::InvalidArgumentError(absl::StrCat("Tensor ", quoted, " of shape ", ShapeText(tensor.shape),
                                                     " can't have ", tensor.bytes.size(), " bytes."));
    }
    header[tensor.name] = {{"dtype", std::string(TensorTypeName(tensor.type))},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    return absl::InvalidArgumentError("A tensor's name or its file's metadata is not UTF-8.");
  }
  text.resize((text.size() + kDataAlignment - 1) / kDataAlignment * kDataAlignment, ' ');
  if (text.size() > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat("The header of ", tensors.size(), " tensors is too long."));
  }
  return text;
}

}  // namespace

absl::Status WriteSafetensors(base::Env& env, const std::string& path, std::span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string, std::less<>>& metadata) {
  absl::StatusOr<std::string> header = MakeHeader(tensors, metadata);
  if (!header.ok()) return absl::Status(header.status().code(), absl::StrCat(path, ": ", header.status().message()));
  std::string length;
  for (size_t i = 0; i < kLengthBytes; ++i) length.push_back(static_cast<char>(header->size() >> (8 * i)));

  const std::string temporary = path + ".tmp";
  absl::Status status = [&] {
    absl::StatusOr<std::unique_ptr<base::WritableFile>> file =
        env.OpenForWriting(temporary, base::WriteMode::kTruncate);
    if (!file.ok()) return file.status();
    if (absl::Status s = (*file)->Append(length + *header); !s.ok()) return s;
    for (const TensorToWrite& tensor : tensors) {
      absl::Status s = (*file)->Append({reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()});
      if (!s.ok()) return s;
    }
    if (absl::Status s = (*file)->Sync(); !s.ok()) return s;
    if (absl::Status s = (*file)->Close(); !s.ok()) return s;
    return env.Rename(temporary, path);
  }();
  if (!status.ok()) {
    env.Remove(temporary).IgnoreError();  // the first error is the one to report
    return status;
  }
  return env.SyncFolder(base::FolderOf(path));
}

}  // namespace storyfarm::model
