// pipeline/model: what a model is, without running it. For sdxl, which loads it, plan, which counts it, and the
// programs that move its files. Never libtorch.
//
//   diffusers directory (or blobs under its paths) --> ModelFolder --+--> config.h       shapes and options
//                                                                    +--> safetensors.h  tensors, memory-mapped
//                                                                    +--> tokenizer.h    text -> ids
//                                                                    +--> word_list.h    the words it was taught
//                                                                    +--> profile.h      what planning needs to know
#ifndef STORYFARM_PIPELINE_MODEL_MODEL_FOLDER_H_
#define STORYFARM_PIPELINE_MODEL_MODEL_FOLDER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"
#include "pipeline/model/config.h"
#include "pipeline/model/safetensors.h"

namespace storyfarm::model {

inline constexpr size_t kMaxModelFiles = 1000;  // sharded SDXL has about 30

// Which of several stored forms of the weights is taken. The other is taken where only that is there.
enum class WeightVariant {
  kDefault,  // model.safetensors, diffusion_pytorch_model.safetensors
  kFp16,     // model.fp16.safetensors, diffusion_pytorch_model.fp16.safetensors
};

// An SDXL model in diffusers' layout: which files it has and where they lie. Reads small files and headers only.
// Immutable but for the disk beneath.
class ModelFolder {
 public:
  // NOT_FOUND where `path` is no folder, or has neither model_index.json nor a component's folder: says what is
  // expected there (a single .safetensors checkpoint is told from a diffusers folder).
  static absl::StatusOr<ModelFolder> Open(base::Env& env, const std::string& path,
                                          WeightVariant variant = WeightVariant::kDefault);
  // The same over files that lie elsewhere (blobs): path in the model -> path on the disk. INVALID_ARGUMENT for a path
  // that IsModelPath refuses.
  static absl::StatusOr<ModelFolder> FromFiles(base::Env& env, std::map<std::string, std::string> files,
                                               WeightVariant variant = WeightVariant::kDefault);

  // Reads every config, opens every weight file's header, both tokenizers and the word list: OK where the model can be
  // loaded as far as headers tell. The first error otherwise.
  absl::Status Check() const;

  absl::StatusOr<ModelIndex> Index() const;  // model_index.json
  absl::StatusOr<UNetConfig> UNet() const;   // unet/config.json
  absl::StatusOr<VaeConfig> Vae() const;     // vae/config.json
  // `component`: "text_encoder" or "text_encoder_2".
  absl::StatusOr<ClipTextConfig> TextEncoder(std::string_view component) const;
  absl::StatusOr<SchedulerConfig> Scheduler() const;  // scheduler/scheduler_config.json

  // The weight files of "unet", "vae", "text_encoder" or "text_encoder_2" as paths in the model, sorted: one file, or
  // every shard that the index file names. NOT_FOUND names what was looked for; files in other formats (.bin, .ckpt)
  // that lie there are mentioned.
  absl::StatusOr<std::vector<std::string>> WeightFiles(std::string_view component) const;
  // Those files, opened. INVALID_ARGUMENT where two shards hold a tensor of one name.
  absl::StatusOr<std::vector<std::shared_ptr<const SafetensorsFile>>> OpenWeights(std::string_view component) const;

  // Every file that belongs to the model as this farm uses it, as paths in the model, sorted bytewise:
  // model_index.json, configs, tokenizers' files, the chosen weight files with their index, words.txt where there is
  // one. Nothing else that lies in the folder.
  absl::StatusOr<std::vector<std::string>> Files() const;

  bool Has(std::string_view model_path) const;
  // Where a file of the model lies; NOT_FOUND names it.
  absl::StatusOr<std::string> PathOf(std::string_view model_path) const;
  absl::StatusOr<std::string> Read(std::string_view model_path, uint64_t max_bytes) const;
  const std::string& name() const { return name_; }  // for messages: the folder

 private:
  ModelFolder(base::Env& env, std::string name, std::map<std::string, std::string, std::less<>> files,
              WeightVariant variant)
      : env_(&env), name_(std::move(name)), files_(std::move(files)), variant_(variant) {}
  base::Env* env_;
  std::string name_;
  std::map<std::string, std::string, std::less<>> files_;  // path in the model -> path on the disk
  WeightVariant variant_;
};

// Relative, forward slashes, no empty, "." or ".." part, no control characters, at most 255 bytes.
bool IsModelPath(std::string_view path);

// A file of a manifest.
struct ModelFileEntry {
  std::string path;
  base::Digest digest;
  uint64_t size_bytes = 0;
};

// SHA-256 over the entries sorted by path (bytewise), each as: path, a zero byte, the 32 bytes of its digest, its size
// as 8 bytes little-endian. Equal models have equal digests wherever they lie.
base::Digest ManifestDigest(std::vector<ModelFileEntry> files);

}  // namespace storyfarm::model

#endif  // STORYFARM_PIPELINE_MODEL_MODEL_FOLDER_H_
