#include "pipeline/identity/draws_file.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace storyfarm::identity {
namespace {

using model::TensorType;
using nlohmann::json;

constexpr char kFormat[] = "story-draws";
constexpr char kVersion[] = "1";
constexpr int64_t kMaxSteps = 100'000;  // as many as a training schedule can have
constexpr int64_t kMaxPanels = 20'000;  // frames of a job

std::string NoiseKey(const FrameName& frame) {
  return frame.hidden ? absl::StrCat("noise/id/", frame.character.number, "/", frame.identity_frame)
                      : absl::StrCat("noise/", frame.panel);
}
std::string StepNoiseKey(const FrameName& frame, int step) {
  return frame.hidden ? absl::StrCat("step_noise/id/", frame.character.number, "/", frame.identity_frame, "/", step)
                      : absl::StrCat("step_noise/", frame.panel, "/", step);
}
std::string IdentityGateKey(const CharacterName& character) { return absl::StrCat("gate/id/", character.number); }
std::string FrameGateKey(const FrameName& frame) { return absl::StrCat("gate/frame/", frame.panel); }
std::string TokensKey(const CharacterName& character, int step, Grid grid, int identity_frame) {
  return absl::StrCat("tokens/", character.number, "/", step, "/", grid.height, "x", grid.width, "/", identity_frame);
}

std::string ShapeText(const std::vector<int64_t>& shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

bool ReadStrings(const json& value, std::vector<std::string>* strings) {
  if (!value.is_array()) return false;
  for (const json& item : value) {
    if (!item.is_string()) return false;
    strings->push_back(item.get<std::string>());
  }
  return true;
}

bool ReadIdentityPanels(const json& value, std::map<int, std::vector<int>>* panels) {
  if (!value.is_object()) return false;
  for (const auto& [name, list] : value.items()) {
    int character = 0;
    if (!absl::SimpleAtoi(name, &character) || character < 0 || !list.is_array()) return false;
    std::vector<int>& numbers = (*panels)[character];
    for (const json& item : list) {
      if (!item.is_number_integer() || item < 0 || item > kMaxPanels) return false;
      numbers.push_back(item.get<int>());
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DrawsFile>> DrawsFile::Open(const std::string& path) {
  absl::StatusOr<std::shared_ptr<const model::SafetensorsFile>> file = model::SafetensorsFile::Open(path);
  if (!file.ok()) return file.status();
  std::unique_ptr<DrawsFile> draws(new DrawsFile(*std::move(file)));
  if (const absl::Status status = draws->ReadHeader(); !status.ok()) return status;
  return draws;
}

absl::Status DrawsFile::Wrong(const std::string& key, const std::string& what) const {
  return absl::InvalidArgumentError(absl::StrCat("draws file ", file_->name(), ": ", key, " ", what));
}

absl::Status DrawsFile::ReadHeader() {
  const auto text = [&](const char* key) {
    const auto found = file_->metadata().find(key);
    return found == file_->metadata().end() ? std::string() : found->second;
  };
  if (text("format") != kFormat) return Wrong("metadata `format`", absl::StrCat("is not \"", kFormat, "\""));
  if (text("version") != kVersion) {
    return Wrong("metadata `version`", absl::StrCat("is \"", text("version"), "\", this program reads \"1\""));
  }
  const auto number = [&](const char* key, int64_t most, auto* value) {
    int64_t parsed = 0;
    if (!absl::SimpleAtoi(text(key), &parsed) || parsed < 0 || parsed > most) return false;
    *value = static_cast<std::remove_pointer_t<decltype(value)>>(parsed);
    return true;
  };
  constexpr int64_t kMaxEdge = 1 << 20;  // pixels
  if (!number("panels", kMaxPanels, &header_.panels)) return Wrong("metadata `panels`", "is no count of panels");
  if (!number("steps", kMaxSteps, &header_.steps)) return Wrong("metadata `steps`", "is no count of steps");
  if (!number("height", kMaxEdge, &header_.height)) return Wrong("metadata `height`", "is no count of pixels");
  if (!number("width", kMaxEdge, &header_.width)) return Wrong("metadata `width`", "is no count of pixels");
  const auto parse = [&](const char* key) { return json::parse(text(key), nullptr, /*allow_exceptions=*/false); };
  if (!ReadStrings(parse("characters"), &header_.characters)) {
    return Wrong("metadata `characters`", "is no JSON list of names");
  }
  if (!ReadIdentityPanels(parse("id_panels"), &header_.identity_panels)) {
    return Wrong("metadata `id_panels`", "is no JSON object of panel lists by character");
  }
  if (!ReadStrings(parse("layers"), &header_.layers)) return Wrong("metadata `layers`", "is no JSON list of names");
  return absl::OkStatus();
}

absl::Status DrawsFile::CheckFits(int64_t steps, const std::vector<std::string>& layers) const {
  if (header_.steps != steps) {
    return Wrong("metadata `steps`", absl::StrCat("is ", header_.steps, ", the story's settings say ", steps));
  }
  if (header_.layers != layers) {
    return Wrong("metadata `layers`",
                 absl::StrCat("lists ", header_.layers.size(), " layers that are not this model's ", layers.size(),
                              ": the file was made with another model"));
  }
  return absl::OkStatus();
}

absl::Status DrawsFile::CheckIdentityPanels(int character, const std::vector<int>& panels) const {
  const auto found = header_.identity_panels.find(character);
  const std::vector<int> recorded = found == header_.identity_panels.end() ? std::vector<int>() : found->second;
  if (recorded == panels) return absl::OkStatus();
  return Wrong("metadata `id_panels`",
               absl::StrCat("gives character ", character, " the panels [", absl::StrJoin(recorded, ", "),
                            "], this story takes [", absl::StrJoin(panels, ", "), "]"));
}

absl::StatusOr<const model::TensorInfo*> DrawsFile::Entry(const std::string& key, TensorType type,
                                                          const std::vector<int64_t>& shape) const {
  const model::TensorInfo* entry = file_->Find(key);
  if (entry == nullptr) return Wrong(absl::StrCat("`", key, "`"), "is missing");
  if (entry->type != type || entry->shape != shape) {
    const std::string_view is = model::TensorTypeName(entry->type), wants = model::TensorTypeName(type);
    return Wrong(absl::StrCat("`", key, "`"),
                 absl::StrCat("is ", std::string(is), " ", ShapeText(entry->shape), ", this run needs ",
                              std::string(wants), " ", ShapeText(shape)));
  }
  return entry;
}

absl::StatusOr<std::vector<float>> DrawsFile::Floats(const std::string& key, LatentShape shape) const {
  const auto entry = Entry(key, TensorType::kF32, {shape.channels, shape.height, shape.width});
  if (!entry.ok()) return entry.status();
  std::vector<float> values((*entry)->elements());
  std::memcpy(values.data(), file_->Bytes(**entry).data(), (*entry)->size_bytes);
  for (const float value : values) {
    if (!std::isfinite(value)) return Wrong(absl::StrCat("`", key, "`"), "holds a number that is not finite");
  }
  return values;
}

absl::StatusOr<GateTable> DrawsFile::Gates(const std::string& key) const {
  const int64_t layers = static_cast<int64_t>(header_.layers.size());
  const auto entry = Entry(key, TensorType::kU8, {header_.steps, layers});
  if (!entry.ok()) return entry.status();
  GateTable gates{header_.steps, layers, {}};
  for (const std::byte value : file_->Bytes(**entry)) {
    if (value > std::byte{1}) return Wrong(absl::StrCat("`", key, "`"), "holds a gate that is neither 0 nor 1");
    gates.open.push_back(static_cast<uint8_t>(value));
  }
  return gates;
}

absl::StatusOr<std::vector<float>> DrawsFile::Noise(const FrameName& frame, LatentShape shape) {
  return Floats(NoiseKey(frame), shape);
}

absl::StatusOr<std::vector<float>> DrawsFile::StepNoise(const FrameName& frame, int step, LatentShape shape) {
  return Floats(StepNoiseKey(frame, step), shape);
}

absl::StatusOr<GateTable> DrawsFile::IdentityGates(const CharacterName& character) {
  return Gates(IdentityGateKey(character));
}

absl::StatusOr<GateTable> DrawsFile::FrameGates(const FrameName& frame) { return Gates(FrameGateKey(frame)); }

absl::StatusOr<std::vector<int32_t>> DrawsFile::Tokens(const CharacterName& character, int step, Grid grid,
                                                       int identity_frame) {
  const std::string key = TokensKey(character, step, grid, identity_frame);
  const model::TensorInfo* found = file_->Find(key);
  const int64_t count = found != nullptr && found->shape.size() == 1 ? found->shape[0] : 0;
  const auto entry = Entry(key, TensorType::kI32, {count});
  if (!entry.ok()) return entry.status();
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  if (count > 0) std::memcpy(tokens.data(), file_->Bytes(**entry).data(), (*entry)->size_bytes);
  int64_t before = -1;
  for (const int32_t token : tokens) {
    if (token <= before || token >= grid.tokens()) {
      return Wrong(absl::StrCat("`", key, "`"), absl::StrCat("holds token ", token, " after ", before,
                                                             "; tokens ascend from 0 to ", grid.tokens() - 1));
    }
    before = token;
  }
  return tokens;
}

template <typename T>
void RecordingDraws::Record(const std::string& key, TensorType type, std::vector<int64_t> shape,
                            const std::vector<T>& values) {
  recorded_[key] = {type, std::move(shape),
                    std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))};
}

absl::StatusOr<std::vector<float>> RecordingDraws::Noise(const FrameName& frame, LatentShape shape) {
  absl::StatusOr<std::vector<float>> noise = source_->Noise(frame, shape);
  if (noise.ok()) {
    Record(NoiseKey(frame), TensorType::kF32, {shape.channels, shape.height, shape.width}, *noise);
  }
  return noise;
}

absl::StatusOr<std::vector<float>> RecordingDraws::StepNoise(const FrameName& frame, int step, LatentShape shape) {
  absl::StatusOr<std::vector<float>> noise = source_->StepNoise(frame, step, shape);
  if (noise.ok()) {
    Record(StepNoiseKey(frame, step), TensorType::kF32, {shape.channels, shape.height, shape.width}, *noise);
  }
  return noise;
}

absl::StatusOr<GateTable> RecordingDraws::IdentityGates(const CharacterName& character) {
  absl::StatusOr<GateTable> gates = source_->IdentityGates(character);
  if (gates.ok()) Record(IdentityGateKey(character), TensorType::kU8, {gates->steps, gates->layers}, gates->open);
  return gates;
}

absl::StatusOr<GateTable> RecordingDraws::FrameGates(const FrameName& frame) {
  absl::StatusOr<GateTable> gates = source_->FrameGates(frame);
  if (gates.ok()) Record(FrameGateKey(frame), TensorType::kU8, {gates->steps, gates->layers}, gates->open);
  return gates;
}

absl::StatusOr<std::vector<int32_t>> RecordingDraws::Tokens(const CharacterName& character, int step, Grid grid,
                                                            int identity_frame) {
  absl::StatusOr<std::vector<int32_t>> tokens = source_->Tokens(character, step, grid, identity_frame);
  if (tokens.ok()) {
    Record(TokensKey(character, step, grid, identity_frame), TensorType::kI32, {static_cast<int64_t>(tokens->size())},
           *tokens);
  }
  return tokens;
}

absl::Status RecordingDraws::Save(base::Env& env, const std::string& path, const DrawsHeader& header) const {
  DrawsHeader joined = header;
  std::map<std::string, Recorded> entries = recorded_;
  if (env.Exists(path)) {
    const absl::StatusOr<std::unique_ptr<DrawsFile>> earlier = DrawsFile::Open(path);
    if (!earlier.ok()) return earlier.status();
    const DrawsHeader& before = (*earlier)->header();
    if (before.panels != header.panels || before.steps != header.steps || before.characters != header.characters ||
        before.layers != header.layers || before.width != header.width || before.height != header.height) {
      return absl::InvalidArgumentError(
          absl::StrCat("draws file ", path, " belongs to another story or other settings: remove it or name another"));
    }
    joined.identity_panels.insert(before.identity_panels.begin(), before.identity_panels.end());
    const absl::StatusOr<std::shared_ptr<const model::SafetensorsFile>> file = model::SafetensorsFile::Open(path);
    if (!file.ok()) return file.status();
    for (const model::TensorInfo& tensor : (*file)->tensors()) {
      const std::span<const std::byte> bytes = (*file)->Bytes(tensor);
      entries.insert(
          {tensor.name,
           {tensor.type, tensor.shape, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())}});
    }
  }
  std::vector<model::TensorToWrite> tensors;
  for (const auto& [name, entry] : entries) {
    tensors.push_back({name, entry.type, entry.shape, std::as_bytes(std::span(entry.bytes))});
  }
  json identity_panels = json::object();
  for (const auto& [character, panels] : joined.identity_panels) {
    identity_panels[std::to_string(character)] = panels;
  }
  const std::map<std::string, std::string, std::less<>> metadata = {
      {"format", kFormat},
      {"version", kVersion},
      {"panels", std::to_string(joined.panels)},
      {"steps", std::to_string(joined.steps)},
      {"height", std::to_string(joined.height)},
      {"width", std::to_string(joined.width)},
      {"characters", json(joined.characters).dump()},
      {"id_panels", identity_panels.dump()},
      {"layers", json(joined.layers).dump()},
  };
  return model::WriteSafetensors(env, path, tensors, metadata);
}

}  // namespace storyfarm::identity
