#include "pipeline/model/model_folder.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/model/json_reader.h"
#include "pipeline/model/tokenizer.h"
#include "pipeline/model/word_list.h"

namespace storyfarm::model {
namespace {

constexpr char kIndexFile[] = "model_index.json";
constexpr uint64_t kMaxShardIndexBytes = uint64_t{16} << 20;  // SDXL's has 0.2 MB
constexpr const char* kFolders[] = {"scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2",
                                    "unet",      "vae"};
constexpr const char* kWeightFolders[] = {"text_encoder", "text_encoder_2", "unet", "vae"};
constexpr const char* kTokenizerFolders[] = {"tokenizer", "tokenizer_2"};
constexpr const char* kTokenizerFiles[] = {"added_tokens.json",       "merges.txt",
                                           "special_tokens_map.json", "tokenizer.json",
                                           "tokenizer_config.json",   "vocab.json"};

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

std::string In(std::string_view folder, std::string_view file) { return absl::StrCat(View(folder), "/", View(file)); }

// transformers and diffusers name weight files differently.
std::string StemOf(std::string_view component) {
  return component == "text_encoder" || component == "text_encoder_2" ? "model" : "diffusion_pytorch_model";
}

struct WeightNames {
  std::string single;
  std::vector<std::string> indices;  // the spellings that diffusers has used
};

WeightNames NamesOf(const std::string& stem, WeightVariant variant) {
  if (variant == WeightVariant::kDefault) return {stem + ".safetensors", {stem + ".safetensors.index.json"}};
  return {stem + ".fp16.safetensors",
          {stem + ".safetensors.index.fp16.json", stem + ".safetensors.fp16.index.json",
           stem + ".fp16.safetensors.index.json"}};
}

// What was chosen for one component: its weight files and, where they are shards, their index. Paths in the model.
struct Chosen {
  std::string index;
  std::vector<std::string> weights;
};

absl::StatusOr<std::vector<std::string>> ReadShards(const ModelFolder& model, std::string_view component,
                                                    const std::string& index) {
  absl::StatusOr<std::string> text = model.Read(index, kMaxShardIndexBytes);
  if (!text.ok()) return text.status();
  absl::StatusOr<nlohmann::json> object = ParseJsonObject(*text, index, kMaxShardIndexBytes);
  if (!object.ok()) return object.status();
  const auto map = object->find("weight_map");
  if (map == object->end() || !map->is_object() || map->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(index, " has no weight_map: it must name the file of each tensor."));
  }
  std::set<std::string> shards;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !IsModelPath(file.get<std::string>()) || absl::StrContains(file.get<std::string>(), "/")) {
      return absl::InvalidArgumentError(absl::StrCat(index, ": weight_map names ", file.dump(),
                                                     " for a tensor; a file name in the same folder belongs there."));
    }
    shards.insert(In(component, file.get<std::string>()));
  }
  if (shards.size() > kMaxModelFiles) {
    return absl::InvalidArgumentError(
        absl::StrCat(index, " names ", shards.size(), " files; at most ", kMaxModelFiles, " are possible."));
  }
  for (const std::string& shard : shards) {
    if (!model.Has(shard)) {
      return absl::NotFoundError(absl::StrCat(model.name(), ": ", shard, " is missing, which ", index,
                                              " names. Download it, or the whole model again."));
    }
  }
  return std::vector<std::string>(shards.begin(), shards.end());
}

absl::StatusOr<Chosen> ChooseWeights(const ModelFolder& model, std::string_view component, WeightVariant preferred,
                                     const std::map<std::string, std::string, std::less<>>& files) {
  const std::string stem = StemOf(component);
  const WeightVariant other = preferred == WeightVariant::kFp16 ? WeightVariant::kDefault : WeightVariant::kFp16;
  for (WeightVariant variant : {preferred, other}) {
    const WeightNames names = NamesOf(stem, variant);
    const std::string single = In(component, names.single);
    if (model.Has(single)) return Chosen{"", {single}};
    for (const std::string& name : names.indices) {
      const std::string index = In(component, name);
      if (!model.Has(index)) continue;
      absl::StatusOr<std::vector<std::string>> shards = ReadShards(model, component, index);
      if (!shards.ok()) return shards.status();
      return Chosen{index, *std::move(shards)};
    }
  }
  std::vector<std::string> others;
  const std::string prefix = In(component, "");
  for (auto file = files.lower_bound(prefix); file != files.end() && absl::StartsWith(file->first, prefix); ++file) {
    for (const char* ending : {".bin", ".ckpt", ".pt", ".onnx", ".msgpack", ".h5", ".safetensors"}) {
      if (absl::EndsWith(file->first, ending)) others.push_back(file->first.substr(prefix.size()));
    }
  }
  return absl::NotFoundError(absl::StrCat(
      model.name(), ": the weights of ", View(component), " are missing. Expected ", prefix, stem, ".safetensors, ",
      stem, ".fp16.safetensors or ", stem, ".safetensors.index.json with its shards.",
      others.empty() ? ""
                     : absl::StrCat(" Found only ", absl::StrJoin(others, ", "),
                                    ", which can't be used: save the model as safetensors under those names.")));
}

}  // namespace

bool IsModelPath(std::string_view path) {
  constexpr size_t kMaxPathBytes = 255;
  if (path.empty() || path.size() > kMaxPathBytes) return false;
  for (unsigned char c : path) {
    if (c < 0x20 || c == 0x7f || c == '\\') return false;
  }
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

absl::StatusOr<ModelFolder> ModelFolder::Open(base::Env& env, const std::string& path, WeightVariant variant) {
  absl::StatusOr<base::FileInfo> info = env.Stat(path);
  if (!info.ok()) return info.status();
  if (!info->is_folder) {
    return absl::NotFoundError(absl::StrCat(
        path,
        " is a file. A model is a folder in diffusers' layout, with model_index.json, unet/, vae/ and so on. A "
        "single-file checkpoint becomes one with diffusers: StableDiffusionXLPipeline.from_single_file(\"",
        path, "\").save_pretrained(\"FOLDER\")."));
  }
  std::map<std::string, std::string, std::less<>> files;
  if (const std::string index = base::JoinPath(path, kIndexFile); env.Exists(index)) files[kIndexFile] = index;
  for (const char* folder : kFolders) {
    const std::string folder_path = base::JoinPath(path, folder);
    absl::StatusOr<std::vector<std::string>> names = env.List(folder_path);
    if (absl::IsNotFound(names.status())) continue;
    if (!names.ok()) return names.status();
    for (const std::string& name : *names) {
      const std::string file = base::JoinPath(folder_path, name);
      absl::StatusOr<base::FileInfo> file_info = env.Stat(file);
      if (absl::IsNotFound(file_info.status())) continue;  // a link into nothing: missing when it is asked for
      if (!file_info.ok()) return file_info.status();
      if (!file_info->is_folder && IsModelPath(In(folder, name))) files[In(folder, name)] = file;
    }
  }
  if (files.empty()) {
    return absl::NotFoundError(absl::StrCat(path, " is no model: expected a folder in diffusers' layout, with ",
                                            kIndexFile, ", unet/, vae/, text_encoder/ and so on."));
  }
  if (const std::string words = base::JoinPath(path, kWordsFile); env.Exists(words)) files[kWordsFile] = words;
  return ModelFolder(env, path, std::move(files), variant);
}

absl::StatusOr<ModelFolder> ModelFolder::FromFiles(base::Env& env, std::map<std::string, std::string> files,
                                                   WeightVariant variant) {
  std::map<std::string, std::string, std::less<>> checked;
  for (auto& [path, place] : files) {
    if (!IsModelPath(path)) return absl::InvalidArgumentError(absl::StrCat("'", path, "' can't be a file of a model."));
    checked[path] = std::move(place);
  }
  return ModelFolder(env, "the model", std::move(checked), variant);
}

bool ModelFolder::Has(std::string_view model_path) const { return files_.find(model_path) != files_.end(); }

absl::StatusOr<std::string> ModelFolder::PathOf(std::string_view model_path) const {
  const auto found = files_.find(model_path);
  if (found != files_.end()) return found->second;
  return absl::NotFoundError(
      absl::StrCat(name_, ": ", View(model_path), " is missing. The model is not complete: download it again."));
}

absl::StatusOr<std::string> ModelFolder::Read(std::string_view model_path, uint64_t max_bytes) const {
  absl::StatusOr<std::string> path = PathOf(model_path);
  if (!path.ok()) return path.status();
  return env_->ReadFile(*path, max_bytes);
}

absl::StatusOr<ModelIndex> ModelFolder::Index() const {
  absl::StatusOr<std::string> text = Read(kIndexFile, kMaxConfigBytes);
  if (!text.ok()) return text.status();
  return ParseModelIndex(*text, kIndexFile);
}

absl::StatusOr<UNetConfig> ModelFolder::UNet() const {
  absl::StatusOr<std::string> text = Read("unet/config.json", kMaxConfigBytes);
  if (!text.ok()) return text.status();
  return ParseUNetConfig(*text, "unet/config.json");
}

absl::StatusOr<VaeConfig> ModelFolder::Vae() const {
  absl::StatusOr<std::string> text = Read("vae/config.json", kMaxConfigBytes);
  if (!text.ok()) return text.status();
  return ParseVaeConfig(*text, "vae/config.json");
}

absl::StatusOr<ClipTextConfig> ModelFolder::TextEncoder(std::string_view component) const {
  const std::string file = In(component, "config.json");
  absl::StatusOr<std::string> text = Read(file, kMaxConfigBytes);
  if (!text.ok()) return text.status();
  return ParseClipTextConfig(*text, file);
}

absl::StatusOr<SchedulerConfig> ModelFolder::Scheduler() const {
  absl::StatusOr<std::string> text = Read("scheduler/scheduler_config.json", kMaxConfigBytes);
  if (!text.ok()) return text.status();
  return ParseSchedulerConfig(*text, "scheduler/scheduler_config.json");
}

absl::StatusOr<std::vector<std::string>> ModelFolder::WeightFiles(std::string_view component) const {
  absl::StatusOr<Chosen> chosen = ChooseWeights(*this, component, variant_, files_);
  if (!chosen.ok()) return chosen.status();
  return std::move(chosen->weights);
}

absl::StatusOr<std::vector<std::shared_ptr<const SafetensorsFile>>> ModelFolder::OpenWeights(
    std::string_view component) const {
  absl::StatusOr<std::vector<std::string>> files = WeightFiles(component);
  if (!files.ok()) return files.status();
  std::vector<std::shared_ptr<const SafetensorsFile>> opened;
  std::map<std::string_view, const SafetensorsFile*> owners;
  for (const std::string& file : *files) {
    absl::StatusOr<std::string> path = PathOf(file);
    if (!path.ok()) return path.status();
    absl::StatusOr<std::shared_ptr<const SafetensorsFile>> weights = SafetensorsFile::Open(*path, file);
    if (!weights.ok()) return weights.status();
    for (const TensorInfo& tensor : (*weights)->tensors()) {
      const auto [owner, added] = owners.emplace(tensor.name, weights->get());
      if (!added) {
        return absl::InvalidArgumentError(
            absl::StrCat("Tensor '", tensor.name, "' is in two files: ", owner->second->name(), " and ", file, "."));
      }
    }
    opened.push_back(*std::move(weights));
  }
  return opened;
}

absl::StatusOr<std::vector<std::string>> ModelFolder::Files() const {
  std::set<std::string> all = {kIndexFile, "scheduler/scheduler_config.json"};
  if (Has(kWordsFile)) all.insert(kWordsFile);
  for (const char* folder : kWeightFolders) {
    all.insert(In(folder, "config.json"));
    absl::StatusOr<Chosen> chosen = ChooseWeights(*this, folder, variant_, files_);
    if (!chosen.ok()) return chosen.status();
    if (!chosen->index.empty()) all.insert(chosen->index);
    all.insert(chosen->weights.begin(), chosen->weights.end());
  }
  for (const char* folder : kTokenizerFolders) {
    for (const char* name : kTokenizerFiles) {
      if (Has(In(folder, name))) all.insert(In(folder, name));
    }
    if (!Has(In(folder, "tokenizer.json"))) {
      all.insert(In(folder, "vocab.json"));
      all.insert(In(folder, "merges.txt"));
    }
  }
  for (const std::string& file : all) {
    absl::StatusOr<std::string> path = PathOf(file);
    if (!path.ok()) return path.status();
  }
  return std::vector<std::string>(all.begin(), all.end());
}

absl::Status ModelFolder::Check() const {
  if (absl::Status s = Index().status(); !s.ok()) return s;
  if (absl::Status s = UNet().status(); !s.ok()) return s;
  if (absl::Status s = Vae().status(); !s.ok()) return s;
  if (absl::Status s = Scheduler().status(); !s.ok()) return s;
  if (absl::Status s = Files().status(); !s.ok()) return s;
  for (const char* folder : {"text_encoder", "text_encoder_2"}) {
    if (absl::Status s = TextEncoder(folder).status(); !s.ok()) return s;
  }
  for (const char* folder : kWeightFolders) {
    if (absl::Status s = OpenWeights(folder).status(); !s.ok()) return s;
  }
  for (const char* folder : kTokenizerFolders) {
    if (absl::Status s = ClipTokenizer::Load(*this, folder).status(); !s.ok()) return s;
  }
  if (absl::Status s = WordList::Load(*this).status(); !s.ok()) return s;
  return absl::OkStatus();
}

base::Digest ManifestDigest(std::vector<ModelFileEntry> files) {
  std::sort(files.begin(), files.end(),
            [](const ModelFileEntry& a, const ModelFileEntry& b) { return a.path < b.path; });
  base::Sha256 hasher;
  for (const ModelFileEntry& file : files) {
    hasher.Update(file.path);
    hasher.Update(std::string_view("\0", 1));
    hasher.Update(file.digest.view());
    char size[8];
    for (int i = 0; i < 8; ++i) size[i] = static_cast<char>(file.size_bytes >> (8 * i));
    hasher.Update({size, sizeof size});
  }
  return hasher.Finish();
}

}  // namespace storyfarm::model
