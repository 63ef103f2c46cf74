// Machines whose owners lend them only at times, memory under pressure, and speeds that workers bring along.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using ::testing::HasSubstr;

void BeatResting(Harness& h, const std::string& node, const std::string& resting) {
  farm::v1::WorkerMessage message;
  message.mutable_heartbeat()->set_resting(resting);
  for (const Held& held : h.holds[node]) {
    for (const auto& task : held.left) {
      farm::v1::HeldTask& entry = *message.mutable_heartbeat()->add_held();
      *entry.mutable_token() = held.grant.token();
      *entry.mutable_task() = task;
    }
  }
  h.Say(node, message);
}

farm::v1::NodeStatus NodeOf(Harness& h, const std::string& node) {
  for (auto& status : h.farm().ListNodes({h.now_ms, 0})) {
    if (status.name() == node) return status;
  }
  return {};
}

TEST(Resting, ALaptopOnBatteryGetsNothingUntilItIsPluggedIn) {
  Harness h;
  farm::v1::Hello hello = h.HelloOf("laptop");
  hello.set_resting("it runs on its battery");
  h.ConnectWith(hello);
  h.Submit(Story("j-1", 4));
  h.Advance(5000);
  BeatResting(h, "laptop", "it runs on its battery");
  EXPECT_EQ(h.HeldTasks("laptop"), 0u);
  EXPECT_THAT(h.Status("j-1").waiting(0).reason(), HasSubstr("laptop: it rests: it runs on its battery"));
  EXPECT_EQ(NodeOf(h, "laptop").resting(), "it runs on its battery");
  BeatResting(h, "laptop", "");
  EXPECT_GT(h.HeldTasks("laptop"), 0u);
  EXPECT_EQ(NodeOf(h, "laptop").resting(), "");
}

TEST(Resting, WhatAnOwnerTakesBackGoesElsewhereAndUsesUpNoTries) {
  Harness h;
  h.Connect("laptop", 100);
  h.Submit(Story("j-1", 1));
  ASSERT_EQ(h.HeldTasks("laptop"), 1u);
  h.Connect("box", 50);
  BeatResting(h, "laptop", "somebody uses it");
  h.Fault("laptop", farm::v1::PREEMPTED, "somebody uses it");
  EXPECT_EQ(h.HeldTasks("laptop"), 0u);
  EXPECT_EQ(h.HeldTasks("box"), 1u) << "at once";
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(MemoryPressure, MakesAGroupSmallerBeforeItMakesItWait) {
  // The table planner takes as many bytes as a group has frames.
  Harness h;
  const auto beat = [&](farm::v1::MemoryPressure pressure) {
    farm::v1::WorkerMessage message;
    farm::v1::DeviceMemory& memory = *message.mutable_heartbeat()->add_memory();
    memory.set_farm_bytes(uint64_t{1} << 30);
    memory.set_free_bytes(uint64_t{6} << 30);
    memory.set_pressure(pressure);
    h.Say("mac", message);
    return NodeOf(h, "mac").devices(0).report().free_bytes() >> 20;
  };
  h.Connect("mac", 100, uint64_t{16} << 30);
  EXPECT_EQ(beat(farm::v1::PRESSURE_NORMAL), 7u << 10);
  EXPECT_EQ(beat(farm::v1::MEMORY_PRESSURE_UNSPECIFIED), 7u << 10);
  EXPECT_EQ(beat(farm::v1::PRESSURE_WARNING), 4u << 10);
  EXPECT_EQ(beat(farm::v1::PRESSURE_CRITICAL), 1u << 10);
}

TEST(Speeds, WhatAWorkerLearnedOutlivesTheCoordinator) {
  Harness h;
  farm::v1::Hello slow = h.HelloOf("slow", 100);
  farm::v1::ModelSpeed& speed = *slow.mutable_devices(0)->add_speeds();
  speed.set_model_digest(DigestOf("model"));
  speed.set_slowness(20);
  h.ConnectWith(slow);
  h.Connect("fast", 50);
  h.Submit(Story("j-1", 1));
  EXPECT_EQ(h.HeldTasks("fast"), 1u) << "the one that only claims to be faster waits";
  EXPECT_EQ(NodeOf(h, "slow").devices(0).report().speeds_size(), 0) << "plans do not depend on them";
}

}  // namespace
}  // namespace storyfarm::coordinator
