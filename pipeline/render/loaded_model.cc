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

absl::StatusOr<std::vector<sdxl::PromptEmbeds>> LoadedModel::EncodeTexts(absl::Span<const std::string> texts) {
  absl::StatusOr<sdxl::TextEncoders*> encoders = TextEncoders();
  if (!encoders.ok()) return encoders.status();
  std::vector<sdxl::PromptEmbeds> all;
  for (size_t begin = 0; begin < texts.size(); begin += kTextsAtOnce) {
    std::vector<std::vector<int32_t>> first, second;
    for (const std::string& text : texts.subspan(begin, kTextsAtOnce)) {
      first.push_back(first_tokenizer_.Encode(text).ids);
      second.push_back(second_tokenizer_.Encode(text).ids);
    }
    const sdxl::PromptEmbeds together = ToHost((*encoders)->Encode(first, second));
    for (int64_t i = 0; i < together.embeds.size(0); ++i) {
      // Of its own, so that one text does not hold the memory of all.
      all.push_back({together.embeds.narrow(0, i, 1).clone(), together.pooled.narrow(0, i, 1).clone()});
    }
  }
  return all;
}

absl::StatusOr<std::vector<FramePrompts>> LoadedModel::EncodePrompts(const std::vector<Frame>& frames, bool guidance,
                                                                     const TextReader* text) {
  const bool zeros_for_none = index_.force_zeros_for_empty_prompt;
  std::vector<std::string> texts;  // each once, in the order of first use
  std::map<std::string, sdxl::PromptEmbeds> known;
  const auto want = [&](const std::string& prompt) {
    if (known.insert({prompt, {}}).second) texts.push_back(prompt);
  };
  for (const Frame& frame : frames) {
    want(frame.prompt);
    if (guidance && (frame.negative_prompt || !zeros_for_none)) want(frame.negative_prompt.value_or(""));
  }
  if (text != nullptr) {
    for (const std::string& each : texts) {
      absl::StatusOr<sdxl::PromptEmbeds> found = text->Find(each);
      if (!found.ok()) return found.status();
      known[each] = *std::move(found);
    }
  } else {
    absl::StatusOr<std::vector<sdxl::PromptEmbeds>> encoded = EncodeTexts(texts);
    if (!encoded.ok()) return encoded.status();
    for (size_t i = 0; i < texts.size(); ++i) known[texts[i]] = std::move((*encoded)[i]);
  }
  std::vector<FramePrompts> all;
  for (const Frame& frame : frames) {
    FramePrompts prompts;
    prompts.conditional = known[frame.prompt];
    WarnOfCut(frame.prompt, "prompt", &prompts.warnings);
    if (guidance && !frame.negative_prompt && zeros_for_none) {
      prompts.unconditional = prompts.conditional.ZerosLike();
    } else if (guidance) {
      prompts.unconditional = known[frame.negative_prompt.value_or("")];
      WarnOfCut(frame.negative_prompt.value_or(""), "negative prompt", &prompts.warnings);
    }
    all.push_back(std::move(prompts));
  }
  return all;
}

double LoadedModel::TakeLoadMs() { return std::exchange(load_ms_, 0); }

}  // namespace storyfarm::render
