#include "pipeline/render/loaded_model.h"

#include <chrono>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::render {
namespace {

// Adds the time until its end to a sum of milliseconds.
class Stopwatch {
 public:
  explicit Stopwatch(double* sum_ms) : sum_ms_(sum_ms), start_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() {
    *sum_ms_ += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  double* sum_ms_;
  std::chrono::steady_clock::time_point start_;
};

// Of what might stay, this much may stream instead before a UNet is loaded again.
constexpr uint64_t kLittleShare = 8;

bool KeepsLittleLess(const WeightStream& kept, const WeightStream& planned) {
  return kept.buffer_bytes == planned.buffer_bytes && kept.resident_bytes <= planned.resident_bytes &&
         planned.resident_bytes - kept.resident_bytes <= planned.resident_bytes / kLittleShare;
}

model::WeightVariant VariantFor(Dtype dtype) {
  return dtype == Dtype::kFp16 ? model::WeightVariant::kFp16 : model::WeightVariant::kDefault;
}

sdxl::PromptEmbeds ToHost(const sdxl::PromptEmbeds& prompt) {
  return {prompt.embeds.to(at::kCPU), prompt.pooled.to(at::kCPU)};
}

}  // namespace

at::ScalarType TorchType(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFp32:
      return at::kFloat;
    case Dtype::kFp16:
      return at::kHalf;
    case Dtype::kBf16:
      return at::kBFloat16;
  }
  return at::kFloat;
}

sdxl::Sampler ToSampler(Sampler sampler) {
  switch (sampler) {
    case Sampler::kDdim:
      return sdxl::Sampler::kDdim;
    case Sampler::kEuler:
      return sdxl::Sampler::kEuler;
    case Sampler::kEulerAncestral:
      return sdxl::Sampler::kEulerAncestral;
    case Sampler::kDpmpp2mKarras:
      return sdxl::Sampler::kDpmpp2mKarras;
  }
  return sdxl::Sampler::kDdim;
}

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadedModel::Open(base::Env& env, const std::string& path, Dtype dtype,
                                                               Dtype vae_dtype, at::Device device) {
  double load_ms = 0;
  std::unique_ptr<LoadedModel> loaded;
  {
    const Stopwatch stopwatch(&load_ms);
    auto folder = model::ModelFolder::Open(env, path, VariantFor(dtype));
    if (!folder.ok()) return folder.status();
    auto first = model::ClipTokenizer::Load(*folder, "tokenizer");
    if (!first.ok()) return first.status();
    auto second = model::ClipTokenizer::Load(*folder, "tokenizer_2");
    if (!second.ok()) return second.status();
    auto scheduler = folder->Scheduler();
    if (!scheduler.ok()) return scheduler.status();
    auto vae = folder->Vae();
    if (!vae.ok()) return vae.status();
    auto index = folder->Index();
    if (!index.ok()) return index.status();
    loaded.reset(new LoadedModel(*std::move(folder), *std::move(first), *std::move(second)));
    loaded->scheduler_ = *std::move(scheduler);
    loaded->vae_config_ = *std::move(vae);
    loaded->index_ = *std::move(index);
  }
  loaded->env_ = &env;
  loaded->folder_path_ = path;
  loaded->dtype_ = dtype;
  loaded->vae_dtype_ = vae_dtype;
  loaded->device_ = device;
  loaded->load_ms_ = load_ms;
  return loaded;
}

void LoadedModel::KeepWeights(bool int8, const std::optional<WeightStream>& stream) {
  const bool as_before = stream == stream_ || (stream && stream_ && KeepsLittleLess(*stream_, *stream));
  if (int8 == int8_weights_ && as_before) return;
  unet_.reset();
  int8_weights_ = int8;
  stream_ = stream;
}

void LoadedModel::ParkWeights() {
  if (unet_ != nullptr) unet_->Park();
}

absl::Status LoadedModel::LookAgain() {
  auto folder = model::ModelFolder::Open(*env_, folder_path_, VariantFor(dtype_));
  if (!folder.ok()) return folder.status();
  folder_ = *std::move(folder);
  return absl::OkStatus();
}

absl::StatusOr<sdxl::TextEncoders*> LoadedModel::TextEncoders() {
  if (text_encoders_ == nullptr) {
    const Stopwatch stopwatch(&load_ms_);
    if (absl::Status looked = LookAgain(); !looked.ok()) return looked;
    auto encoders = sdxl::LoadTextEncoders(folder_, {.device = device_, .dtype = TorchType(dtype_)});
    if (!encoders.ok()) return encoders.status();
    text_encoders_ = *std::move(encoders);
  }
  return text_encoders_.get();
}

bool LoadedModel::ChannelsLast(Dtype dtype) const { return device_.is_cuda() && dtype != Dtype::kFp32; }

absl::StatusOr<sdxl::UNet*> LoadedModel::UNet() {
  if (unet_ == nullptr) {
    const Stopwatch stopwatch(&load_ms_);
    if (absl::Status looked = LookAgain(); !looked.ok()) return looked;
    sdxl::Placement placement{.device = device_,
                              .dtype = TorchType(dtype_),
                              .channels_last = ChannelsLast(dtype_),
                              .int8 = int8_weights_,
                              .stream = std::nullopt};
    if (stream_) placement.stream = {stream_->resident_bytes, stream_->buffer_bytes};
    auto unet = sdxl::LoadUNet(folder_, placement);
    if (!unet.ok()) return unet.status();
    unet_ = *std::move(unet);
  }
  return unet_.get();
}

absl::StatusOr<sdxl::Vae*> LoadedModel::Vae() {
  if (vae_ == nullptr) {
    const Stopwatch stopwatch(&load_ms_);
    if (absl::Status looked = LookAgain(); !looked.ok()) return looked;
    auto vae = sdxl::LoadVae(
        folder_, {.device = device_, .dtype = TorchType(vae_dtype_), .channels_last = ChannelsLast(vae_dtype_)});
    if (!vae.ok()) return vae.status();
    vae_ = *std::move(vae);
  }
  return vae_.get();
}

void LoadedModel::WarnOfCut(const std::string& prompt, const std::string& which,
                            std::vector<std::string>* warnings) const {
  const model::Encoding first = first_tokenizer_.Encode(prompt), second = second_tokenizer_.Encode(prompt);
  // Both tokenizers cut at nearly the same place; the one that loses more tells what no encoder sees whole.
  const model::Encoding& cut = second.dropped_tokens > first.dropped_tokens ? second : first;
  if (cut.dropped_tokens == 0) return;
  warnings->push_back(
      absl::StrCat(which, " cut at ", cut.ids.size(), " tokens: \"", cut.dropped_text, "\" is not drawn"));
}

absl::StatusOr<sdxl::PromptEmbeds> LoadedModel::EncodeText(const std::string& text) {
  absl::StatusOr<sdxl::TextEncoders*> encoders = TextEncoders();
  if (!encoders.ok()) return encoders.status();
  return ToHost((*encoders)->Encode({first_tokenizer_.Encode(text).ids}, {second_tokenizer_.Encode(text).ids}));
}

absl::StatusOr<std::vector<FramePrompts>> LoadedModel::EncodePrompts(const std::vector<Frame>& frames, bool guidance,
                                                                     bool in_phases, const TextReader* text) {
  if (text != nullptr) ReleaseTextEncoders();
  if (in_phases) ReleaseForText();
  struct Encoded {
    sdxl::PromptEmbeds embeds;
    std::vector<std::string> warnings;
  };
  std::map<std::pair<std::string, std::string>, Encoded> known;  // by which prompt it is, and text
  const auto encode = [&](const std::string& prompt, const std::string& which, FramePrompts* prompts,
                          sdxl::PromptEmbeds* embeds) {
    auto at = known.find({which, prompt});
    if (at == known.end()) {
      Encoded encoded;
      WarnOfCut(prompt, which, &encoded.warnings);
      absl::StatusOr<sdxl::PromptEmbeds> result = text != nullptr ? text->Find(prompt) : EncodeText(prompt);
      if (!result.ok()) return result.status();
      encoded.embeds = *std::move(result);
      at = known.insert({{which, prompt}, std::move(encoded)}).first;
    }
    *embeds = at->second.embeds;
    prompts->warnings.insert(prompts->warnings.end(), at->second.warnings.begin(), at->second.warnings.end());
    return absl::OkStatus();
  };
  std::vector<FramePrompts> all;
  for (const Frame& frame : frames) {
    FramePrompts prompts;
    if (auto status = encode(frame.prompt, "prompt", &prompts, &prompts.conditional); !status.ok()) return status;
    if (guidance && !frame.negative_prompt && index_.force_zeros_for_empty_prompt) {
      prompts.unconditional = prompts.conditional.ZerosLike();
    } else if (guidance) {
      const auto status =
          encode(frame.negative_prompt.value_or(""), "negative prompt", &prompts, &prompts.unconditional);
      if (!status.ok()) return status;
    }
    all.push_back(std::move(prompts));
  }
  if (in_phases) ReleaseTextEncoders();
  return all;
}

double LoadedModel::TakeLoadMs() { return std::exchange(load_ms_, 0); }

}  // namespace storyfarm::render
