#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/device/device.h"
#include "pipeline/device/fused.h"
#include "pipeline/model/model_folder.h"
#include "pipeline/sdxl/sdxl.h"
#include "tools/bench/sdxl_speed/speed.h"

namespace storyfarm::bench {
namespace {

at::ScalarType TypeOf(const std::string& name) {
  return name == "fp32" ? at::kFloat : name == "bf16" ? at::kBFloat16 : at::kHalf;
}

sdxl::Placement PlacementOf(const device::Device& device, at::ScalarType dtype) {
  sdxl::Placement placement{.device = device.torch_device(), .dtype = dtype};
  placement.channels_last = placement.device.is_cuda() && dtype != at::kFloat;
  return placement;
}

sdxl::UNetInput InputOf(const model::UNetConfig& config, int64_t batch, int64_t edge, at::Device device) {
  at::manual_seed(11);
  const int64_t pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim;
  const float pixels = static_cast<float>(edge) * 8;
  return {
      .latents = at::randn({batch, config.in_channels, edge, edge}).to(device),
      .timestep = 500,
      .encoder_hidden_states = at::randn({batch, 77, config.mid_block.cross_attention_dim}).to(device),
      .pooled = at::randn({batch, pooled}).to(device),
      .time_ids = at::tensor({pixels, pixels, 0.f, 0.f, pixels, pixels}).expand({batch, 6}).contiguous().to(device)};
}

// Milliseconds a call: until it is done, and until its last kernel is launched. Medians.
struct Times {
  double done_ms = 0;
  double launched_ms = 0;
};
Times Time(device::Device& device, int calls, const std::function<void()>& work) {
  constexpr int kWarmUp = 3;
  for (int i = 0; i < kWarmUp; ++i) work();
  device.Synchronize();
  std::vector<double> done, launched;
  for (int i = 0; i < calls; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto passed = [&] {
      return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    };
    work();
    launched.push_back(passed());
    device.Synchronize();
    done.push_back(passed());
  }
  const auto median = [](std::vector<double>& values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  };
  return {median(done), median(launched)};
}

double MatmulTflops(const Options& options, device::Device& device) {
  const auto edge = static_cast<double>(options.matmul_edge);
  const auto of = at::TensorOptions().dtype(TypeOf(options.dtype)).device(device.torch_device());
  const at::Tensor a = at::randn({options.matmul_edge, options.matmul_edge}, of), b = at::randn_like(a);
  return 2 * edge * edge * edge * 1e-9 / Time(device, options.calls, [&] { at::matmul(a, b); }).done_ms;
}

// Calls one behind the other, as a denoising loop makes them: milliseconds of one.
double TimeInARow(device::Device& device, int calls, const std::function<void()>& work) {
  device.Synchronize();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) work();
  device.Synchronize();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count() / calls;
}

// Of `actual` against `exact`, in decibels of the exact one's power.
double Decibels(const at::Tensor& actual, const at::Tensor& exact) {
  const at::Tensor a = actual.to(at::kCPU, at::kDouble), e = exact.to(at::kCPU, at::kDouble);
  return 10 * std::log10((e.square().sum() / (a - e).square().sum()).item<double>());
}

// The largest difference between a call that is replayed and the same call without graphs, as a share of the largest
// value: plain, and cut at the sites of a hook.
json ReplaysOff(sdxl::UNet& unet, sdxl::UNetInput input) {
  class PlainHook final : public sdxl::SelfAttentionHook {
   public:
    at::Tensor Attend(const sdxl::SelfAttentionSite& site, const at::Tensor& x) override { return site.attention(x); }
  };
  PlainHook hook;
  json off;
  for (sdxl::SelfAttentionHook* used :
       {static_cast<sdxl::SelfAttentionHook*>(nullptr), static_cast<sdxl::SelfAttentionHook*>(&hook)}) {
    unet.UseGraphs(true);
    // Recorded with one input, replayed with another.
    for (int i = 0; i < 3; ++i) unet.Forward(input, used);
    sdxl::UNetInput other = input;
    other.latents = input.latents.flip(0) * 0.5;
    other.timestep = 20;
    const at::Tensor replayed = unet.Forward(other, used).to(at::kFloat);
    unet.UseGraphs(false);
    const at::Tensor plain = unet.Forward(other, used).to(at::kFloat);
    off[used == nullptr ? "plain" : "hooked"] =
        (replayed - plain).abs().max().item<double>() / plain.abs().max().item<double>();
  }
  unet.UseGraphs(true);
  return off;
}

// The feed-forward's first half by itself, in SDXL's shapes: with its gate, and the product alone as torch has it.
json GateTimes(device::Device& device, const Options& options) {
  struct Shape {
    int64_t rows, in, out;
  };
  constexpr int kWeights = 8;  // in turn: a network's next layer has others
  const auto of = at::TensorOptions().dtype(TypeOf(options.dtype)).device(device.torch_device());
  json times = json::array();
  for (const Shape& s : {Shape{1024, 1280, 5120}, Shape{4096, 640, 2560}}) {
    for (const int64_t batch : options.batches) {
      const int64_t rows = batch * s.rows;
      const at::Tensor x = at::randn({rows, s.in}, of), bias = at::randn({2 * s.out}, of);
      std::vector<at::Tensor> weights;
      for (int i = 0; i < kWeights; ++i) weights.push_back(at::randn({2 * s.out, s.in}, of) * 0.02);
      size_t next = 0;
      const auto time = [&](const std::function<void(const at::Tensor&)>& work) {
        const auto call = [&] { work(weights[next++ % kWeights]); };
        TimeInARow(device, kWeights, call);
        return TimeInARow(device, 10 * kWeights, call);
      };
      const double gated = time([&](const at::Tensor& weight) { device::GatedLinear(x, weight, bias); });
      const double plain = time([&](const at::Tensor& weight) { at::linear(x, weight, bias); });
      const double tflop = 4e-12 * static_cast<double>(rows * s.in * s.out);
      times.push_back({{"rows", rows},
                       {"in", s.in},
                       {"out", s.out},
                       {"gated_ms", gated},
                       {"product_ms", plain},
                       {"gated_tflops", 1e3 * tflop / gated},
                       {"product_tflops", 1e3 * tflop / plain}});
    }
  }
  return times;
}

}  // namespace

absl::Status MeasureParts(const Options& options, json& report) {
  const c10::InferenceMode no_gradients;
  auto opened =
      device::Device::Open(options.device, options.threads > 0 ? options.threads : device::AvailableThreads());
  if (!opened.ok()) return opened.status();
  device::Device& device = **opened;
  const device::Report described = device.Describe(false);
  report["device"] = described.name;
  report["driver"] = described.driver;
  report["kernels"] = device::HasKernels(at::empty({8, 8}, at::dtype(at::kHalf).device(device.torch_device())));
  report["matmul_tflops"] = MatmulTflops(options, device);
  auto folder = model::ModelFolder::Open(base::Env::Real(), options.model, model::WeightVariant::kDefault);
  if (!folder.ok()) return folder.status();
  const auto config = folder->UNet();
  if (!config.ok()) return config.status();
  const int64_t edge = options.edge_pixels / 8;
  const at::ScalarType dtype = TypeOf(options.dtype);
  const at::Device where = device.torch_device();
  if (options.gates) report["gates"] = GateTimes(device, options);
  {
    sdxl::Placement placement = PlacementOf(device, dtype);
    auto unet = sdxl::LoadUNet(*folder, placement);
    if (!unet.ok()) return unet.status();
    (*unet)->UseGraphs(options.graphs);
    for (const int64_t batch : options.batches) {
      const sdxl::UNetInput input = InputOf(*config, batch, edge, where);
      const auto call = [&] { (*unet)->Forward(input); };
      const Times times = Time(device, options.calls, call);
      report["unet"].push_back({{"batch", batch},
                                {"ms", times.done_ms},
                                {"launched_ms", times.launched_ms},
                                {"in_a_row_ms", TimeInARow(device, options.calls, call)}});
      if (options.profile) report["unet"].back()["kernels"] = Kernels([&] { device.Synchronize(); }, call);
    }
    if (options.graphs) report["replays_off"] = ReplaysOff(**unet, InputOf(*config, 2, edge, where));
    if (options.fidelity) {
      const sdxl::UNetInput input = InputOf(*config, 2, edge, where);
      const at::Tensor half = (*unet)->Forward(input).to(at::kCPU);
      unet->reset();
      device.EmptyCache();
      auto exact = sdxl::LoadUNet(*folder, PlacementOf(device, at::kFloat));
      if (!exact.ok()) return exact.status();
      const at::Tensor expected = (*exact)->Forward(input).to(at::kCPU);
      report["fidelity_db"] = Decibels(half, expected);
      exact->reset();
      device.EmptyCache();
      if (options.int8) {
        placement.int8 = true;
        auto rounded = sdxl::LoadUNet(*folder, placement);
        if (!rounded.ok()) return rounded.status();
        report["int8_fidelity_db"] = Decibels((*rounded)->Forward(input), expected);
        report["int8_ms"] = Time(device, options.calls, [&] { (*rounded)->Forward(input); }).done_ms;
      }
    }
  }
  device.EmptyCache();
  if (!options.vae) return absl::OkStatus();
  auto vae = sdxl::LoadVae(*folder, PlacementOf(device, dtype == at::kHalf ? at::kBFloat16 : dtype));
  if (!vae.ok()) return vae.status();
  const at::Tensor latents = at::randn({1, 4, edge, edge}).to(where);
  const auto measure = [&](int64_t tile) {
    const auto decode = [&] { (*vae)->Decode(latents, tile); };
    decode();
    device.Synchronize();
    device.EmptyCache();
    device.ResetPeak();
    const uint64_t before = device.MemoryNow().allocated_bytes;
    decode();
    device.Synchronize();
    json measured = {{"peak_bytes", device.MemoryNow().peak_bytes - before}};
    measured["ms"] = Time(device, options.calls, decode).done_ms;
    if (tile > 0) measured["tile"] = tile;
    if (options.profile && tile == 0) measured["kernels"] = Kernels([&] { device.Synchronize(); }, decode);
    return measured;
  };
  report["vae"] = measure(0);
  for (const int64_t tile : {64, 32, 16}) {
    if (options.tiles && tile < edge) report["vae_tiles"].push_back(measure(tile));
  }
  return absl::OkStatus();
}

}  // namespace storyfarm::bench
