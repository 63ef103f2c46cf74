#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "pipeline/base/env.h"
#include "pipeline/identity/bank.h"
#include "pipeline/identity/identity.h"
#include "pipeline/render/banks.h"
#include "pipeline/render/loaded_model.h"
#include "tools/bench/bank_fidelity/fidelity.h"

namespace storyfarm::bench {
namespace {

using identity::BankElement;
using render::Dtype;

constexpr uint64_t kNoiseSeed = 7;

// Reads one step's tokens as if they had been stored as `element`.
class StoredAs final : public sdxl::SelfAttentionHook {
 public:
  StoredAs(const identity::BankStepFile* file, BankElement element) : file_(file), element_(element) {}

  at::Tensor Attend(const sdxl::SelfAttentionSite& site, const at::Tensor& x) override {
    if (file_ == nullptr || file_->Find(site.layer, 0) == nullptr) return site.attention(x);
    std::vector<at::Tensor> halves;
    for (int64_t half = 0; half < 2; ++half) {
      const identity::BankPart& part = *file_->Find(site.layer, half);
      const at::Tensor bytes = at::empty({static_cast<int64_t>(part.shape.Bytes())}, at::kByte);
      const absl::Status read =
          file_->Read(part, {static_cast<std::byte*>(bytes.mutable_data_ptr()), part.shape.Bytes()});
      if (!read.ok()) {
        status = read;
        return x;
      }
      const at::Tensor exact = identity::UnpackParts(bytes, part.shape, 1, at::kFloat)[0];
      const identity::PackedPart packed = identity::PackPart({exact}, element_);
      halves.push_back(identity::UnpackParts(packed.bytes, packed.shape, 1, x.scalar_type()));
    }
    const sdxl::SelfAttention::Projections own = site.attention.Project(x);
    const sdxl::KeysValues bank = site.attention.ProjectKeys(at::cat(halves, 0));
    return site.attention.Attend(own.queries,
                                 {at::cat({bank.keys, own.own.keys}, 1), at::cat({bank.values, own.own.values}, 1)});
  }
  absl::Status status;

 private:
  const identity::BankStepFile* file_;
  BankElement element_;
};

double CallDecibels(const at::Tensor& reference, const at::Tensor& other) {
  const double range = (reference.max() - reference.min()).item<double>();
  const double error = (reference - other).pow(2).mean().sqrt().item<double>();
  return 20 * std::log10(range / std::max(error, 1e-12));
}

// One panel's conditions, loaded in one number format.
struct Model {
  std::unique_ptr<render::LoadedModel> loaded;
  sdxl::UNet* unet = nullptr;
  at::Tensor embeds, pooled, time_ids;
  at::ScalarType dtype = at::kFloat;

  at::Tensor Call(const at::Tensor& both, double timestep, sdxl::SelfAttentionHook* hook) const {
    return unet->Forward({both.to(dtype), timestep, embeds, pooled, time_ids}, hook).to(at::kFloat);
  }
};

absl::StatusOr<Model> Open(const Subject& subject, std::vector<render::Frame> frames, Dtype dtype) {
  frames.resize(1);
  auto loaded =
      render::LoadedModel::Open(base::Env::Real(), subject.model_folder, dtype, Dtype::kFp32, at::Device(at::kCPU));
  if (!loaded.ok()) return loaded.status();
  Model model{.loaded = *std::move(loaded), .dtype = render::TorchType(dtype)};
  const auto prompts = model.loaded->EncodePrompts(frames, /*guidance=*/true, /*text=*/nullptr);
  if (!prompts.ok()) return prompts.status();
  const auto unet = model.loaded->UNet();
  if (!unet.ok()) return unet.status();
  model.unet = *unet;
  const render::FramePrompts& prompt = prompts->front();
  model.embeds = at::cat({prompt.unconditional.embeds, prompt.conditional.embeds}, 0).to(model.dtype);
  model.pooled = at::cat({prompt.unconditional.pooled, prompt.conditional.pooled}, 0).to(model.dtype);
  const float edge = static_cast<float>(subject.edge_pixels);
  model.time_ids = at::tensor({edge, edge, 0.0f, 0.0f, edge, edge}).repeat({2, 1});
  return model;
}

}  // namespace

absl::StatusOr<std::vector<Row>> MeasureUnetCalls(const Subject& subject, const std::vector<std::string>& fp32_bank) {
  const c10::InferenceMode inference;
  const render::FramesRequest request = ReadersOf(subject, {}, fp32_bank);
  const auto exact = Open(subject, request.frames, Dtype::kFp32);
  if (!exact.ok()) return exact.status();
  absl::StatusOr<Model> half = Model();
  if (subject.with_fp16) half = Open(subject, request.frames, Dtype::kFp16);
  if (!half.ok()) return half.status();
  const auto scheduler = sdxl::Scheduler::Create(render::ToSampler(request.settings.sampler),
                                                 exact->loaded->scheduler(), "", subject.steps);
  if (!scheduler.ok()) return scheduler.status();

  const int64_t edge = subject.edge_pixels / exact->loaded->pixels_per_latent();
  at::Tensor latents = at::randn({1, exact->loaded->latent_channels(), edge, edge},
                                 at::make_generator<at::CPUGeneratorImpl>(kNoiseSeed)) *
                       (*scheduler)->init_noise_sigma();
  struct Variant {
    const Model* model;
    BankElement element;
  };
  std::vector<Variant> variants = {{&*exact, BankElement::kFp16}, {&*exact, BankElement::kInt8}};
  std::vector<Row> rows = {{"UNet call: run fp32, bank fp16", {.least = INFINITY}},
                           {"UNet call: run fp32, bank int8", {.least = INFINITY}}};
  if (subject.with_fp16) {
    variants.insert(variants.end(), {{&*half, BankElement::kFp16}, {&*half, BankElement::kInt8}});
    rows.push_back({"UNet call: run fp16, bank fp16", {.least = INFINITY}});
    rows.push_back({"UNet call: run fp16, bank int8", {.least = INFINITY}});
  }
  for (int step = 0; step < subject.steps; ++step) {
    std::shared_ptr<const identity::BankStepFile> file;
    if (!fp32_bank[step].empty()) {
      const identity::BankOrigin origin =
          render::OriginOf(request.settings, request.model_name, {}, subject.identity_frames);
      auto opened = identity::BankStepFile::Open(base::Env::Real(), fp32_bank[step], origin, step);
      if (!opened.ok()) return opened.status();
      file = *std::move(opened);
    }
    const double timestep = (*scheduler)->timesteps()[step];
    const at::Tensor input = (*scheduler)->ScaleInput(latents, step);
    const at::Tensor both = at::cat({input, input}, 0);
    absl::Status status;
    const auto call = [&](const Model& model, BankElement element) {
      StoredAs hook(file.get(), element);
      at::Tensor prediction = model.Call(both, timestep, &hook);
      status.Update(hook.status);
      return prediction;
    };
    const at::Tensor reference = call(*exact, BankElement::kFp32);
    if (file != nullptr) {
      for (size_t i = 0; i < rows.size(); ++i) {
        const double db = CallDecibels(reference, call(*variants[i].model, variants[i].element));
        rows[i].db.least = std::min(rows[i].db.least, db);
        rows[i].db.mean += db / (subject.steps - 1);
      }
    }
    if (!status.ok()) return status;
    const at::Tensor guided = reference.narrow(0, 0, 1) +
                              request.settings.guidance_scale * (reference.narrow(0, 1, 1) - reference.narrow(0, 0, 1));
    latents = (*scheduler)->Step(guided, step, latents, {});
  }
  return rows;
}

}  // namespace storyfarm::bench
