// One model on one device, its parts loaded when they are first needed and released when a plan says so.
#ifndef STORYFARM_PIPELINE_RENDER_LOADED_MODEL_H_
#define STORYFARM_PIPELINE_RENDER_LOADED_MODEL_H_

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "pipeline/base/env.h"
#include "pipeline/model/model_folder.h"
#include "pipeline/model/tokenizer.h"
#include "pipeline/render/request.h"
#include "pipeline/render/text_file.h"
#include "pipeline/sdxl/scheduler.h"
#include "pipeline/sdxl/sdxl.h"

namespace storyfarm::render {

at::ScalarType TorchType(Dtype dtype);
sdxl::Sampler ToSampler(Sampler sampler);

// What a frame's prompts become, in host memory.
struct FramePrompts {
  sdxl::PromptEmbeds conditional;    // [1, T, D], [1, P]
  sdxl::PromptEmbeds unconditional;  // undefined where guidance is off
  std::vector<std::string> warnings;
};

class LoadedModel {
 public:
  // Reads configs and tokenizers; weights come later.
  static absl::StatusOr<std::unique_ptr<LoadedModel>> Open(base::Env& env, const std::string& folder, Dtype dtype,
                                                           Dtype vae_dtype, at::Device device);

  bool Is(const std::string& folder, Dtype dtype, Dtype vae_dtype) const {
    return folder_path_ == folder && dtype_ == dtype && vae_dtype_ == vae_dtype;
  }
  // How the UNet's weights are to be kept from now on. One that is kept otherwise leaves the device; one that keeps a
  // little less than it now might stays: plans follow free memory, and loading takes longer than that gains.
  void KeepWeights(bool int8, const std::optional<WeightStream>& stream);
  // Gives back what streamed weights pass through, until the UNet runs again.
  void ParkWeights();

  // Each distinct text once. Where `text` is not null embeddings come from it, and no encoder is loaded. As
  // EncodeTexts.
  absl::StatusOr<std::vector<FramePrompts>> EncodePrompts(const std::vector<Frame>& frames, bool guidance,
                                                          const TextReader* text);
  // The embeddings of `texts`, in their order and in host memory; kTextsAtOnce of them take one pass of the encoders.
  // ReleaseForText before the first call, as a plan has it, and ReleaseTextEncoders after the last.
  static constexpr size_t kTextsAtOnce = 8;
  absl::StatusOr<std::vector<sdxl::PromptEmbeds>> EncodeTexts(absl::Span<const std::string> texts);
  void ForgetRecordings() {
    if (unet_ != nullptr) unet_->UseGraphs(false);
  }
  void ReleaseForText() {
    unet_.reset();
    vae_.reset();
  }
  // Whether there were any.
  bool ReleaseTextEncoders() { return std::exchange(text_encoders_, nullptr) != nullptr; }
  // Loaded where they are not yet.
  absl::StatusOr<sdxl::UNet*> UNet();
  absl::StatusOr<sdxl::Vae*> Vae();

  const model::SchedulerConfig& scheduler() const { return scheduler_; }
  int64_t latent_channels() const { return vae_config_.latent_channels; }
  int64_t pixels_per_latent() const { return vae_config_.scale_factor(); }
  // Milliseconds spent loading since the last call.
  double TakeLoadMs();

 private:
  // Tensor cores read half-precision convolutions in NHWC order.
  bool ChannelsLast(Dtype dtype) const;
  LoadedModel(model::ModelFolder folder, model::ClipTokenizer first, model::ClipTokenizer second)
      : folder_(std::move(folder)), first_tokenizer_(std::move(first)), second_tokenizer_(std::move(second)) {}
  absl::StatusOr<sdxl::TextEncoders*> TextEncoders();
  // Files of a part may have come since the folder was looked at: a worker brings them when a work needs the part.
  absl::Status LookAgain();
  // What of a prompt no encoder sees, in a sentence.
  void WarnOfCut(const std::string& prompt, const std::string& which, std::vector<std::string>* warnings) const;

  base::Env* env_ = nullptr;
  model::ModelFolder folder_;
  std::string folder_path_;
  Dtype dtype_ = Dtype::kFp32, vae_dtype_ = Dtype::kFp32;
  at::Device device_ = at::kCPU;
  bool int8_weights_ = false;
  std::optional<WeightStream> stream_;
  model::ClipTokenizer first_tokenizer_, second_tokenizer_;
  model::SchedulerConfig scheduler_;
  model::VaeConfig vae_config_;
  model::ModelIndex index_;
  std::unique_ptr<sdxl::TextEncoders> text_encoders_;
  std::unique_ptr<sdxl::UNet> unet_;
  std::unique_ptr<sdxl::Vae> vae_;
  double load_ms_ = 0;
};

}  // namespace storyfarm::render

#endif  // STORYFARM_PIPELINE_RENDER_LOADED_MODEL_H_
