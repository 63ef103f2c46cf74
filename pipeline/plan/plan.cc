#include "pipeline/plan/plan.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/plan/cost.h"

namespace storyfarm::plan {
namespace {

using farm::v1::DeviceReport;
using farm::v1::Dtype;
using farm::v1::GroupShape;
using farm::v1::MemoryPlan;
using farm::v1::ModelProfile;
using farm::v1::Refusal;

// Kept clear of a GPU's free memory: other programs' small allocations between a report and a run.
constexpr uint64_t kCudaReserveBytes = 256'000'000;
// Where the system and its owner live in the same memory: a twentieth of it, within these.
constexpr uint64_t kSharedReserveShare = 20;
constexpr uint64_t kSharedReserveLeastBytes = 128'000'000;
constexpr uint64_t kSharedReserveMostBytes = 1'000'000'000;

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

// A learned need may be off by what others held at the time; beyond four times it would only refuse everything.
constexpr double kMostLearnedRatio = 4.0;

std::string Gigabytes(uint64_t bytes) { return absl::StrFormat("%.1f GB", static_cast<double>(bytes) * 1e-9); }

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

// What no choice changes.
MemoryPlan BasePlan(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape) {
  MemoryPlan plan;
  plan.set_backend(device.backend());
  plan.set_dtype(ChooseDtype(device, shape));
  plan.set_weights(farm::v1::RESIDENT);
  const bool wide_vae = model.vae_force_upcast() && plan.dtype() == farm::v1::FP16;
  plan.set_vae_dtype(wide_vae ? farm::v1::FP32 : plan.dtype());
  // Hidden states in fp32 are asked for where exactness counts. In half precision, int8 costs a bank less of a picture
  // than the format itself does (tools/bench/bank_fidelity).
  plan.set_bank_dtype(plan.dtype() == farm::v1::FP32 ? farm::v1::BANK_AS_COMPUTED : farm::v1::BANK_INT8);
  plan.set_threads(shape.reproducible() && device.backend() == farm::v1::CPU ? 1 : 0);
  return plan;
}

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
    choices.banks = {{farm::v1::BANK_STREAMED, 0}};
  } else {
    for (const uint32_t ring : kRings) {
      choices.banks.push_back({farm::v1::BANK_STREAMED, ring});
      choices.banks.push_back({farm::v1::BANK_DEVICE, ring});
    }
  }
  return choices;
}

std::vector<MemoryPlan> Candidates(const MemoryPlan& base, const Choices& choices) {
  std::vector<MemoryPlan> candidates;
  MemoryPlan plan = base;
  for (const bool phases : choices.phases) {
    plan.set_text_encoders_in_phases(phases);
    for (const Choices::Bank& bank : choices.banks) {
      plan.set_bank(bank.placement);
      plan.set_ring_layers(bank.ring_layers);
      for (const uint32_t batch : choices.batches) {
        plan.set_batch(batch);
        for (const Choices::Halves& halves : choices.halves) {
          plan.set_guidance_batched(halves.guidance_batched);
          plan.set_lock_step(halves.lock_step);
          for (const uint32_t chunk : choices.chunks) {
            plan.set_attention_chunk(chunk);
            for (const uint32_t tile : choices.tiles) {
              plan.set_vae_tile(tile);
              candidates.push_back(plan);
            }
          }
        }
      }
    }
  }
  return candidates;
}

// Whole milliseconds, so that the choice does not hang on the last bits of an addition.
int64_t Milliseconds(double seconds) { return std::llround(std::min(seconds, 1e12) * 1000); }

bool Better(const MemoryPlan& a, const MemoryPlan& b) {
  const int64_t a_ms = Milliseconds(a.predicted_seconds());
  const int64_t b_ms = Milliseconds(b.predicted_seconds());
  if (a_ms != b_ms) return a_ms < b_ms;
  return a.predicted_peak_bytes() < b.predicted_peak_bytes();
}

double LearnedRatio(const LearnedNeed& learned) {
  if (learned.planned_bytes == 0 || learned.needed_bytes <= learned.planned_bytes) return 1.0;
  const double ratio = static_cast<double>(learned.needed_bytes) / static_cast<double>(learned.planned_bytes);
  return std::min(ratio, kMostLearnedRatio);
}

Refusal Refuse(std::string reason, uint64_t needed_bytes, uint64_t offered_bytes) {
  Refusal refusal;
  refusal.set_reason(std::move(reason));
  refusal.set_needed_bytes(needed_bytes);
  refusal.set_offered_bytes(offered_bytes);
  return refusal;
}

std::string NameOf(const DeviceReport& device) {
  return device.name().empty() ? std::string("this device") : device.name();
}

// How prompts are encoded: with UNet and VAE beside the encoders, or without them.
PlanOrRefusal PlanTexts(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape, MemoryPlan plan,
                        double ratio, uint64_t budget) {
  for (const bool phases : {false, true}) {
    plan.set_text_encoders_in_phases(phases);
    CountTexts(model, device, shape, &plan);
    plan.set_predicted_peak_bytes(static_cast<uint64_t>(static_cast<double>(plan.predicted_peak_bytes()) * ratio));
    if (plan.predicted_peak_bytes() <= budget) return plan;
  }
  return Refuse(absl::StrFormat("%s offers %s of memory; the text encoders, which some device of the farm has to load "
                                "for the story's prompts, need at least %s in %s",
                                NameOf(device), Gigabytes(budget), Gigabytes(plan.predicted_peak_bytes()),
                                DtypeName(plan.dtype())),
                plan.predicted_peak_bytes(), budget);
}

Refusal TooSmall(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape,
                 const MemoryPlan& least, uint64_t budget) {
  const uint64_t weights = model.unet_parameters() * DtypeBytes(least.dtype());
  std::string reason = absl::StrFormat(
      "%s offers %s of memory; pictures of %d x %d in %s need at least %s (the UNet's weights alone %s)",
      NameOf(device), Gigabytes(budget), shape.width(), shape.height(), DtypeName(least.dtype()),
      Gigabytes(least.predicted_peak_bytes()), Gigabytes(weights));
  if (shape.identity_pass() && shape.frames() > 1) {
    absl::StrAppend(&reason, "; ", shape.frames(),
                    " identity frames are drawn together: a smaller id_length needs less");
  }
  return Refuse(std::move(reason), least.predicted_peak_bytes(), budget);
}

}  // namespace

uint64_t BudgetBytes(const DeviceReport& device) {
  uint64_t offered = device.free_bytes();
  if (device.recommended_max_bytes() > 0) offered = std::min(offered, device.recommended_max_bytes());
  const uint64_t reserve =
      device.backend() == farm::v1::CUDA
          ? kCudaReserveBytes
          : std::clamp(device.total_bytes() / kSharedReserveShare, kSharedReserveLeastBytes, kSharedReserveMostBytes);
  return offered > reserve ? offered - reserve : 0;
}

PlanOrRefusal PlanGroup(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape,
                        const LearnedNeed& learned) {
  if (model.levels().empty() || model.vae_scale_factor() == 0) {
    return Refuse("the model's profile is empty: add the model again", 0, 0);
  }
  const uint64_t budget = BudgetBytes(device);
  const MemoryPlan base = BasePlan(model, device, shape);
  if (!Computes(device, base.dtype())) {
    return Refuse(absl::StrCat(NameOf(device), " does not compute in ", DtypeName(base.dtype()),
                               ", which the story's settings ask for"),
                  0, budget);
  }
  const double ratio = LearnedRatio(learned);
  if (shape.texts() > 0) return PlanTexts(model, device, shape, base, ratio, budget);
  std::optional<MemoryPlan> best;
  std::optional<MemoryPlan> least;
  for (MemoryPlan& plan : Candidates(base, ChoicesFor(model, device, shape))) {
    plan.set_predicted_peak_bytes(static_cast<uint64_t>(static_cast<double>(PeakBytes(model, shape, plan)) * ratio));
    plan.set_predicted_seconds(GroupSeconds(model, device, shape, plan));
    if (!least || plan.predicted_peak_bytes() < least->predicted_peak_bytes()) least = plan;
    if (plan.predicted_peak_bytes() <= budget && (!best || Better(plan, *best))) best = plan;
  }
  if (best) return *std::move(best);
  return TooSmall(model, device, shape, *least, budget);
}

}  // namespace storyfarm::plan
