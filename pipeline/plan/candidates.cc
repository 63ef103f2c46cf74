#include "pipeline/plan/candidates.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/plan/cost.h"
#include "pipeline/plan/settings.h"
#include "pipeline/plan/weight_cost.h"

namespace storyfarm::plan {
namespace {

using farm::v1::DeviceReport;
using farm::v1::Dtype;
using farm::v1::GroupShape;
using farm::v1::MemoryPlan;
using farm::v1::ModelProfile;

// Tiles of the VAE in latents, 0 for the whole picture. Below 16 memory hardly falls, and most of a tile is halo.
constexpr uint32_t kTiles[] = {0, 64, 32, 16};
// One tile for every machine: SDXL's 1024 x 1024 in fp32 then takes 0.5 GB, and less saves little.
constexpr uint32_t kReproducibleTile = 32;
// Queries at a time where scores are materialised. At 256 they take less than the feed-forward does.
constexpr uint32_t kChunks[] = {0, 4096, 1024, 256};
constexpr uint32_t kReproducibleChunk = 1024;

// Layers of a bank on their way at once: four let a read hesitate for the time of two layers, two are the fewest that
// read beside computing.
constexpr uint32_t kRings[] = {4, 2};
// And layers that wait to be written: with the fewer, writing holds up a fast card for some of its time.
constexpr uint32_t kQueues[] = {12, kShallowQueue};

struct Choices {
  std::vector<uint32_t> batches;
  struct Halves {
    bool guidance_batched;
    bool lock_step;
  };
  std::vector<Halves> halves;
  std::vector<uint32_t> chunks;
  std::vector<uint32_t> tiles;
  std::vector<bool> phases;
  struct Bank {
    farm::v1::BankPlacement placement;
    uint32_t ring_layers;
  };
  std::vector<Bank> banks;
  std::vector<bool> graphs;
};

std::vector<uint32_t> Batches(const DeviceReport& device, const GroupShape& shape) {
  const uint32_t frames = std::max(1u, shape.frames());
  if (shape.identity_pass()) return {frames};  // each attends to all others
  std::vector<uint32_t> batches;
  if (!shape.reproducible()) {
    for (uint32_t batch = std::min(frames, TraitsOf(device.backend()).max_batch); batch > 1; batch = (batch + 1) / 2) {
      batches.push_back(batch);
    }
  }
  batches.push_back(1);
  return batches;
}

std::vector<uint32_t> Tiles(const ModelProfile& model, const GroupShape& shape) {
  const uint32_t edge = std::max(shape.width(), shape.height()) / model.vae_scale_factor();
  if (!shape.decode()) return {0};
  if (shape.reproducible()) return {edge > kReproducibleTile ? kReproducibleTile : 0};
  std::vector<uint32_t> tiles;
  for (const uint32_t tile : kTiles) {
    if (tile < edge) tiles.push_back(tile);
  }
  return tiles;
}

Choices ChoicesFor(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape) {
  Choices choices;
  choices.batches = Batches(device, shape);
  choices.halves = {{true, false}};
  if (shape.guidance() && !shape.reproducible()) choices.halves.push_back({false, false});
  if (shape.identity_pass() && shape.frames() > 1 && !shape.reproducible()) choices.halves.push_back({false, true});
  // Libraries may choose other kernels while they are recorded.
  choices.graphs = {false};
  if (TraitsOf(device.backend()).launch_seconds > 0 && !shape.reproducible()) choices.graphs = {true, false};
  choices.chunks = {0};
  if (TraitsOf(device.backend()).attention_materialises_scores) {
    choices.chunks.assign(std::begin(kChunks), std::end(kChunks));
    if (shape.reproducible()) choices.chunks = {kReproducibleChunk};
  }
  choices.tiles = Tiles(model, shape);
  choices.phases = {false, true};
  if (shape.text_from_file()) choices.phases = {false};
  if (shape.identity_frames() == 0) {
    choices.banks = {{farm::v1::BANK_NONE, 0}};
  } else if (shape.identity_pass()) {
    for (const uint32_t queue : kQueues) choices.banks.push_back({farm::v1::BANK_STREAMED, queue});
  } else {
    for (const uint32_t ring : kRings) {
      choices.banks.push_back({farm::v1::BANK_STREAMED, ring});
      choices.banks.push_back({farm::v1::BANK_DEVICE, ring});
    }
  }
  return choices;
}

// Each plan once with each of the values, in their order.
template <typename Value, typename Set>
void Vary(std::vector<MemoryPlan>* plans, const std::vector<Value>& values, const Set& set) {
  std::vector<MemoryPlan> varied;
  varied.reserve(plans->size() * values.size());
  for (const MemoryPlan& plan : *plans) {
    for (const Value value : values) set(varied.emplace_back(plan), value);
  }
  *plans = std::move(varied);
}

std::vector<MemoryPlan> Combine(const MemoryPlan& base, const Choices& choices) {
  std::vector<MemoryPlan> plans = {base};
  Vary(&plans, choices.phases, [](MemoryPlan& plan, bool phases) { plan.set_text_encoders_in_phases(phases); });
  Vary(&plans, choices.banks, [](MemoryPlan& plan, const Choices::Bank& bank) {
    plan.set_bank(bank.placement);
    plan.set_ring_layers(bank.ring_layers);
  });
  Vary(&plans, choices.batches, [](MemoryPlan& plan, uint32_t batch) { plan.set_batch(batch); });
  Vary(&plans, choices.halves, [](MemoryPlan& plan, const Choices::Halves& halves) {
    plan.set_guidance_batched(halves.guidance_batched);
    plan.set_lock_step(halves.lock_step);
  });
  Vary(&plans, choices.chunks, [](MemoryPlan& plan, uint32_t chunk) { plan.set_attention_chunk(chunk); });
  Vary(&plans, choices.tiles, [](MemoryPlan& plan, uint32_t tile) { plan.set_vae_tile(tile); });
  Vary(&plans, choices.graphs, [](MemoryPlan& plan, bool graphs) { plan.set_graphs(graphs); });
  std::erase_if(plans, [](const MemoryPlan& plan) { return plan.graphs() && plan.lock_step(); });
  return plans;
}

}  // namespace

bool Computes(const DeviceReport& device, Dtype dtype) {
  if (dtype == farm::v1::FP32) return true;
  const std::string name = DtypeName(dtype);
  return std::find(device.dtypes().begin(), device.dtypes().end(), name) != device.dtypes().end();
}

Dtype ChooseDtype(const DeviceReport& device, const GroupShape& shape) {
  if (shape.dtype() != farm::v1::DTYPE_UNSPECIFIED) return shape.dtype();
  const bool gpu = device.backend() == farm::v1::CUDA || device.backend() == farm::v1::MPS;
  return gpu && Computes(device, farm::v1::FP16) ? farm::v1::FP16 : farm::v1::FP32;
}

namespace {

// A VAE that overflows in fp16 has room in bf16, which GPUs compute as fast; on Apple's it is emulated or absent. fp32
// is what all machines of a job have.
Dtype ChooseVaeDtype(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape, Dtype dtype) {
  if (!model.vae_force_upcast() || dtype != farm::v1::FP16) return dtype;
  const bool bf16 = device.backend() == farm::v1::CUDA && Computes(device, farm::v1::BF16) && !shape.reproducible();
  return bf16 ? farm::v1::BF16 : farm::v1::FP32;
}

}  // namespace

MemoryPlan BasePlan(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape) {
  MemoryPlan plan;
  plan.set_backend(device.backend());
  plan.set_dtype(ChooseDtype(device, shape));
  plan.set_weights(farm::v1::RESIDENT);
  plan.set_vae_dtype(ChooseVaeDtype(model, device, shape, plan.dtype()));
  // Hidden states in fp32 are asked for where exactness counts. In half precision, int8 costs a bank less of a picture
  // than the format itself does (tools/bench/bank_fidelity).
  plan.set_bank_dtype(plan.dtype() == farm::v1::FP32 ? farm::v1::BANK_AS_COMPUTED : farm::v1::BANK_INT8);
  plan.set_threads(shape.reproducible() && device.backend() == farm::v1::CPU ? 1 : 0);
  return plan;
}

std::vector<MemoryPlan> Candidates(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape) {
  std::vector<MemoryPlan> candidates = Combine(BasePlan(model, device, shape), ChoicesFor(model, device, shape));
  const auto largest = static_cast<double>(TraitsOf(device.backend()).largest_tensor_bytes);
  if (largest == 0) return candidates;
  const auto too_large = [&](const MemoryPlan& plan) { return LargestScoresBytes(model, shape, plan) > largest; };
  candidates.erase(std::remove_if(candidates.begin(), candidates.end(), too_large), candidates.end());
  return candidates;
}

std::vector<MemoryPlan> OtherWeights(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan) {
  std::vector<MemoryPlan> others;
  if (model.unet_block_parameters() == 0) return others;
  const auto add = [&](bool int8, bool streamed) {
    MemoryPlan& other = others.emplace_back(plan);
    other.set_int8_weights(int8);
    if (!streamed) return;
    other.set_weights(farm::v1::STREAMED);
    other.set_weight_buffer_bytes(WeightBufferBytes(model, plan));
  };
  const bool streams = !plan.graphs();  // graphs hold the weights' addresses
  if (streams) add(false, true);
  if (shape.int8_weights()) {
    add(true, false);
    if (streams) add(true, true);
  }
  return others;
}

uint64_t ResidentShareBytes(const ModelProfile& model, const MemoryPlan& plan, uint32_t share) {
  return BlockBytes(model, plan) / kResidentShares * share;
}

}  // namespace storyfarm::plan
