#include "pipeline/plan/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/plan/candidates.h"
#include "pipeline/plan/cost.h"
#include "pipeline/plan/text.h"

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

// A learned need may be off by what others held at the time; beyond four times it would only refuse everything.
constexpr double kMostLearnedRatio = 4.0;

std::string SizeText(uint64_t bytes) {
  const auto number = static_cast<double>(bytes);
  return bytes < 1'000'000'000 ? absl::StrFormat("%.0f MB", number * 1e-6) : absl::StrFormat("%.1f GB", number * 1e-9);
}

// Whole milliseconds, so that the choice does not hang on the last bits of an addition.
int64_t Milliseconds(double seconds) { return std::llround(std::min(seconds, 1e12) * 1000); }

// Of equally fast plans: weights that need no copying come first, rounded ones last.
enum class Weights { kResident, kStreamed, kRounded };
Weights WeightsOf(const MemoryPlan& plan) {
  if (plan.int8_weights()) return Weights::kRounded;
  return plan.weights() == farm::v1::STREAMED ? Weights::kStreamed : Weights::kResident;
}

// The least element among what fits is the plan: the set that fits only grows with the budget, so more memory never
// makes a group slower.
using Rank = std::tuple<int64_t, Weights, uint64_t>;
Rank RankOf(const MemoryPlan& plan) {
  return {Milliseconds(plan.predicted_seconds()), WeightsOf(plan), plan.predicted_peak_bytes()};
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
PlanOrRefusal PlanTexts(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape, double ratio,
                        uint64_t budget) {
  MemoryPlan plan = BasePlan(model, device, shape);
  for (const bool phases : {false, true}) {
    plan.set_text_encoders_in_phases(phases);
    CountTexts(model, device, shape, &plan);
    plan.set_predicted_peak_bytes(static_cast<uint64_t>(static_cast<double>(plan.predicted_peak_bytes()) * ratio));
    if (plan.predicted_peak_bytes() <= budget) return plan;
  }
  return Refuse(absl::StrFormat("%s offers %s of memory; the text encoders, which some device of the farm has to load "
                                "for the story's prompts, need at least %s in %s",
                                NameOf(device), SizeText(budget), SizeText(plan.predicted_peak_bytes()),
                                DtypeName(plan.dtype())),
                plan.predicted_peak_bytes(), budget);
}

Refusal TooSmall(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape,
                 const MemoryPlan& least, uint64_t budget) {
  const uint64_t weights = model.unet_parameters() * DtypeBytes(least.dtype());
  std::string reason = absl::StrFormat(
      "%s offers %s of memory; pictures of %d x %d in %s need at least %s, %s the UNet's weights (%s)%s", NameOf(device),
      SizeText(budget), shape.width(), shape.height(), DtypeName(least.dtype()), SizeText(least.predicted_peak_bytes()),
      least.weights() == farm::v1::STREAMED ? "even with" : "with", SizeText(weights),
      least.weights() == farm::v1::STREAMED ? " read from their file as they are used" : "");
  if (shape.identity_pass() && shape.frames() > 1) {
    absl::StrAppend(&reason, "; ", shape.frames(),
                    " identity frames are drawn together: a smaller id_length needs less");
  }
  return Refuse(std::move(reason), least.predicted_peak_bytes(), budget);
}

// Looks through all candidates for the first in rank that fits, and for the one that needs least.
class Search {
 public:
  Search(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape, double ratio, uint64_t budget)
      : model_(model), device_(device), shape_(shape), ratio_(ratio), budget_(budget) {}

  // False where there is nothing to choose from.
  bool Run() {
    std::vector<MemoryPlan> candidates = Candidates(model_, device_, shape_);
    for (MemoryPlan& plan : candidates) {
      const Pace pace = PaceOf(model_, device_, shape_, plan);
      // No way of keeping the weights is faster than exact and resident.
      if (best_ && Milliseconds(pace.seconds) > Milliseconds(best_->predicted_seconds())) continue;
      if (Offer(&plan, pace)) continue;  // nor comes before it in rank
      for (MemoryPlan& other : OtherWeights(model_, shape_, plan)) {
        if (other.weights() == farm::v1::STREAMED) {
          OfferShares(&other, pace);
        } else {
          Offer(&other, pace);
        }
      }
    }
    return !candidates.empty();
  }

  const std::optional<MemoryPlan>& best() const { return best_; }
  const MemoryPlan& least() const { return *least_; }

 private:
  uint64_t Predicted(const MemoryPlan& plan) const {
    return static_cast<uint64_t>(static_cast<double>(PeakBytes(model_, shape_, plan)) * ratio_);
  }

  // True where it fits.
  bool Offer(MemoryPlan* plan, const Pace& pace) {
    plan->set_predicted_peak_bytes(Predicted(*plan));
    plan->set_predicted_seconds(GroupSeconds(model_, device_, *plan, pace));
    if (!least_ || plan->predicted_peak_bytes() < least_->predicted_peak_bytes()) least_ = *plan;
    if (plan->predicted_peak_bytes() > budget_) return false;
    if (!best_ || RankOf(*plan) < RankOf(*best_)) best_ = *plan;
    return true;
  }

  // A streamed plan with each number of blocks that may stay.
  void OfferShares(MemoryPlan* plan, const Pace& pace) {
    uint32_t fits = 0;  // shares below it fit
    for (uint32_t above = kResidentShares; fits < above;) {
      const uint32_t middle = (fits + above) / 2;
      FitsWith(plan, middle) ? fits = middle + 1 : above = middle;
    }
    if (fits == 0) {
      plan->set_resident_weight_bytes(0);
      Offer(plan, pace);
      return;
    }
    // Ranked by their seconds before the protobufs are copied: there are many.
    uint32_t chosen = 0;
    int64_t chosen_ms = std::numeric_limits<int64_t>::max();
    for (uint32_t share = 0; share < fits; ++share) {
      plan->set_resident_weight_bytes(ResidentShareBytes(model_, *plan, share));
      const int64_t ms = Milliseconds(GroupSeconds(model_, device_, *plan, pace));
      if (ms >= chosen_ms) continue;
      chosen = share;
      chosen_ms = ms;
    }
    plan->set_resident_weight_bytes(ResidentShareBytes(model_, *plan, chosen));
    Offer(plan, pace);
  }

  bool FitsWith(MemoryPlan* plan, uint32_t share) const {
    plan->set_resident_weight_bytes(ResidentShareBytes(model_, *plan, share));
    return Predicted(*plan) <= budget_;
  }

  const ModelProfile& model_;
  const DeviceReport& device_;
  const GroupShape& shape_;
  const double ratio_;
  const uint64_t budget_;
  std::optional<MemoryPlan> best_;
  std::optional<MemoryPlan> least_;
};

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

uint64_t LeastMemoryBytes(farm::v1::Backend backend, uint64_t budget_bytes) {
  if (backend == farm::v1::CUDA) return budget_bytes + kCudaReserveBytes;
  // Its reserve is a share of the whole, so of the budget a share of one part less.
  const uint64_t reserve = std::clamp(budget_bytes / (kSharedReserveShare - 1) + 1, kSharedReserveLeastBytes,
                                      kSharedReserveMostBytes);
  return budget_bytes + reserve;
}

void LimitMemory(uint64_t limit_bytes, DeviceReport* report) {
  if (limit_bytes == 0) return;
  report->set_total_bytes(std::min(report->total_bytes(), limit_bytes));
  report->set_free_bytes(std::min(report->free_bytes(), limit_bytes));
  if (report->recommended_max_bytes() > 0) {
    report->set_recommended_max_bytes(std::min(report->recommended_max_bytes(), limit_bytes));
  }
}

PlanOrRefusal PlanGroup(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape,
                        const LearnedNeed& learned) {
  if (model.levels().empty() || model.vae_scale_factor() == 0) {
    return Refuse("the model's profile is empty: add the model again", 0, 0);
  }
  const uint64_t budget = BudgetBytes(device);
  const Dtype dtype = ChooseDtype(device, shape);
  if (!Computes(device, dtype)) {
    return Refuse(absl::StrCat(NameOf(device), " does not compute in ", DtypeName(dtype),
                               ", which the story's settings ask for"),
                  0, budget);
  }
  if (shape.texts() > 0) return PlanTexts(model, device, shape, LearnedRatio(learned), budget);
  Search search(model, device, shape, LearnedRatio(learned), budget);
  if (!search.Run()) {
    return Refuse(absl::StrFormat("%s works on no tensor over 4 GiB, and pictures of %d x %d with %d identity frames take "
                                  "larger ones: smaller pictures or a smaller id_length would do",
                                  NameOf(device), shape.width(), shape.height(), shape.identity_frames()),
                  0, budget);
  }
  if (!search.best()) return TooSmall(model, device, shape, search.least(), budget);
  MemoryPlan plan = *search.best();
  plan.set_framework_bytes(TraitsOf(plan.backend()).framework_bytes);
  return plan;
}

}  // namespace storyfarm::plan
