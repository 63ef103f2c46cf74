// What holds of every plan, over random groups, models, devices and budgets.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "pipeline/plan/candidates.h"
#include "pipeline/plan/cost.h"
#include "pipeline/plan/plan.h"
#include "tests/pipeline/plan/shapes.h"

namespace storyfarm::plan {
namespace {

using farm::v1::GroupShape;
using farm::v1::MemoryPlan;
using farm::v1::ModelProfile;

struct Case {
  ModelProfile model;
  GroupShape shape;
  farm::v1::Backend backend;
  double tflops;
};

Case RandomCase(std::mt19937& random) {
  Case result;
  const ModelProfile models[] = {SdxlProfile(), DemoProfile(), TinyProfile()};
  result.model = models[random() % 3];
  const uint32_t multiple = result.model.size_multiple();
  const uint32_t native = result.model.native_width() / multiple;
  result.shape = Group(multiple * (1 + random() % (2 * native)), 1 + random() % 12, random() % 5, 1 + random() % 60);
  result.shape.set_height(multiple * (1 + random() % (2 * native)));
  result.shape.set_guidance(random() % 4 != 0);
  result.shape.set_reproducible(random() % 4 == 0);
  result.shape.set_int8_weights(!result.shape.reproducible() && random() % 2 == 0);
  if (random() % 4 == 0) {
    result.shape.set_identity_pass(true);
    result.shape.set_frames(1 + random() % 4);
    result.shape.set_identity_frames(result.shape.frames());
  }
  const farm::v1::Backend backends[] = {farm::v1::CPU, farm::v1::CUDA, farm::v1::MPS};
  result.backend = backends[random() % 3];
  result.tflops = 0.05 * static_cast<double>(1 + random() % 10000);
  return result;
}

TEST(PlanGroupProperties, MoreMemoryNeverMakesAGroupSlowerAndNoPlanExceedsItsBudget) {
  std::mt19937 random(11);
  int planned = 0;
  int refused = 0;
  for (int round = 0; round < 400; ++round) {
    const Case c = RandomCase(random);
    const PlanOrRefusal least = PlanGroup(c.model, DeviceOfBudget(c.backend, 1, c.tflops), c.shape);
    ASSERT_NE(Refused(least), nullptr);
    ++refused;
    if (Refused(least)->needed_bytes() == 0) continue;  // no amount would do
    int64_t last_ms = std::numeric_limits<int64_t>::max();
    for (uint64_t budget = Refused(least)->needed_bytes(); budget < 200'000'000'000; budget += 1 + budget / 5) {
      const PlanOrRefusal result = PlanGroup(c.model, DeviceOfBudget(c.backend, budget, c.tflops), c.shape);
      ASSERT_NE(Planned(result), nullptr) << "less memory was enough: " << c.shape.DebugString();
      ++planned;
      EXPECT_LE(Planned(result)->predicted_peak_bytes(), budget);
      EXPECT_LE(std::llround(Planned(result)->predicted_seconds() * 1000), last_ms);
      EXPECT_GT(Planned(result)->predicted_seconds(), 0);
      last_ms = std::llround(Planned(result)->predicted_seconds() * 1000);
    }
  }
  EXPECT_GT(planned, 1000);
  EXPECT_EQ(refused, 400);
}

// All that a group may be run as, weights included.
std::vector<MemoryPlan> EveryCandidate(const ModelProfile& model, const farm::v1::DeviceReport& device,
                                       const GroupShape& shape) {
  std::vector<MemoryPlan> all;
  for (const MemoryPlan& plan : Candidates(model, device, shape)) {
    all.push_back(plan);
    for (MemoryPlan& other : OtherWeights(model, shape, plan)) {
      const uint32_t shares = other.weights() == farm::v1::STREAMED ? kResidentShares : 1;
      for (uint32_t share = 0; share < shares; ++share) {
        if (shares > 1) other.set_resident_weight_bytes(ResidentShareBytes(model, other, share));
        all.push_back(other);
      }
    }
  }
  return all;
}

TEST(PlanGroupProperties, ThePlanIsTheFastestOfAllThatFitAndARefusalNamesTheSmallestOfAll) {
  std::mt19937 random(19);
  for (int round = 0; round < 12; ++round) {
    const Case c = RandomCase(random);
    const farm::v1::DeviceReport device = DeviceOfBudget(c.backend, 1, c.tflops);
    std::vector<std::pair<uint64_t, int64_t>> all;  // peak, milliseconds
    for (const MemoryPlan& plan : EveryCandidate(c.model, device, c.shape)) {
      all.emplace_back(PeakBytes(c.model, c.shape, plan),
                       std::llround(GroupSeconds(c.model, device, c.shape, plan) * 1000));
    }
    if (all.empty()) continue;
    const uint64_t least = std::min_element(all.begin(), all.end())->first;
    EXPECT_EQ(Refused(PlanGroup(c.model, device, c.shape))->needed_bytes(), least);
    for (const double times : {1.0, 1.1, 1.4, 2.0, 5.0, 50.0}) {
      const auto budget = static_cast<uint64_t>(static_cast<double>(least) * times);
      int64_t fastest = std::numeric_limits<int64_t>::max();
      for (const auto& [peak, ms] : all) {
        if (peak <= budget) fastest = std::min(fastest, ms);
      }
      const auto result = PlanGroup(c.model, DeviceOfBudget(c.backend, budget, c.tflops), c.shape);
      ASSERT_NE(Planned(result), nullptr);
      EXPECT_EQ(std::llround(Planned(result)->predicted_seconds() * 1000), fastest) << c.shape.DebugString();
    }
  }
}

TEST(PlanGroupProperties, WeightsThatStreamOrAreRoundedNeverCountAsFasterThanThoseThatStay) {
  std::mt19937 random(23);
  for (int round = 0; round < 100; ++round) {
    const Case c = RandomCase(random);
    const farm::v1::DeviceReport device = DeviceOfBudget(c.backend, 1, c.tflops);
    const std::vector<MemoryPlan> plans = Candidates(c.model, device, c.shape);
    if (plans.empty()) continue;
    const MemoryPlan& plan = plans[random() % plans.size()];
    const double resident = GroupSeconds(c.model, device, c.shape, plan);
    for (MemoryPlan other : OtherWeights(c.model, c.shape, plan)) {
      double last = std::numeric_limits<double>::infinity();
      for (uint32_t share = 0; share < kResidentShares; ++share) {
        if (other.weights() == farm::v1::STREAMED) {
          other.set_resident_weight_bytes(ResidentShareBytes(c.model, other, share));
        }
        const double seconds = GroupSeconds(c.model, device, c.shape, other);
        EXPECT_GT(seconds, resident);
        if (other.weights() == farm::v1::STREAMED && !other.int8_weights()) {
          EXPECT_LT(seconds, last) << "the more of them stay, the less is copied";
        }
        last = seconds;
      }
    }
  }
}

TEST(PlanGroupProperties, LargerGroupsNeedNoLessMemory) {
  std::mt19937 random(13);
  for (int round = 0; round < 300; ++round) {
    const Case c = RandomCase(random);
    const auto needed = [&](const GroupShape& shape) {
      const auto refused = PlanGroup(c.model, DeviceOfBudget(c.backend, 1, c.tflops), shape);
      const uint64_t bytes = Refused(refused)->needed_bytes();
      return bytes > 0 ? bytes : std::numeric_limits<uint64_t>::max();  // no amount would do
    };
    GroupShape wider = c.shape;
    wider.set_width(c.shape.width() + c.model.size_multiple());
    EXPECT_GE(needed(wider), needed(c.shape));
    GroupShape richer = c.shape;
    richer.set_identity_frames(c.shape.identity_frames() + 1);
    EXPECT_GE(needed(richer), needed(c.shape));
  }
}

TEST(PlanGroupProperties, TheSameArgumentsGiveTheSamePlan) {
  std::mt19937 random(17);
  for (int round = 0; round < 100; ++round) {
    const Case c = RandomCase(random);
    const farm::v1::DeviceReport device = DeviceOfBudget(c.backend, 30'000'000'000, c.tflops);
    const auto first = PlanGroup(c.model, device, c.shape);
    const auto second = PlanGroup(c.model, device, c.shape);
    ASSERT_EQ(first.index(), second.index());
    if (Planned(first) != nullptr) {
      EXPECT_EQ(Planned(first)->SerializeAsString(), Planned(second)->SerializeAsString());
    }
  }
}

}  // namespace
}  // namespace storyfarm::plan
