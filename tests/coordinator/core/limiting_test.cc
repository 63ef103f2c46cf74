// What an admin lets the farm take of a machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_join.h"
#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kGb = 1'000'000'000;

Reply Ask(Harness& h, const std::function<void(farm::v1::LimitNodeRequest&)>& say, const std::string& node = "a") {
  LimitNode input;
  input.request = 7;
  input.change.set_node(node);
  say(input.change);
  return h.Step(input).replies.at(0);
}
Reply Memory(Harness& h, uint64_t bytes) {
  return Ask(h, [bytes](auto& change) { change.set_memory_bytes(bytes); });
}
farm::v1::NodeStatus NodeOf(Harness& h, const std::string& id) { return h.farm().GetNode({h.now_ms, 0}, id); }

// A model whose one picture takes so much of the table planner.
void AddModelOf(Harness& h, const std::string& name, uint64_t gigabytes) {
  AddModel input;
  input.request = 1;
  input.model.set_name(name);
  input.model.set_digest(DigestOf(name));
  input.model.mutable_profile()->set_native_width(static_cast<uint32_t>(gigabytes * kGb / TablePlanner::kFrameBytes));
  ASSERT_TRUE(h.Step(input).replies.at(0).status.ok());
}

TEST(Limiting, IsPlannedWithinToldAtOnceAndOutlivesTheCoordinator) {
  Harness h;
  h.Connect("a", 100, 16 * kGb);
  AddModelOf(h, "tiny", 1);
  EXPECT_TRUE(Memory(h, 8 * kGb).status.ok());
  ASSERT_EQ(h.limited["a"].size(), 1u);
  EXPECT_EQ(h.limited["a"][0].memory_bytes(), 8 * kGb);
  EXPECT_EQ(NodeOf(h, "a").devices(0).report().total_bytes(), 8 * kGb);
  EXPECT_EQ(NodeOf(h, "a").limits().memory_bytes(), 8 * kGb);
  EXPECT_TRUE(Ask(h, [](auto& change) { change.set_hours("20:00-08:00"); }).status.ok());
  EXPECT_EQ(h.limited["a"].back().memory_bytes(), 8 * kGb) << "what is not said stays";
  h.CheckReplay();
  h.Restart();
  EXPECT_EQ(NodeOf(h, "a").limits().hours(), "20:00-08:00") << "also while it is away";
  h.Connect("a", 100, 16 * kGb);
  EXPECT_EQ(h.welcomes["a"].limits().memory_bytes(), 8 * kGb);
  EXPECT_EQ(NodeOf(h, "a").devices(0).report().total_bytes(), 8 * kGb);
  EXPECT_TRUE(Ask(h, [](auto& change) { change.set_none(true); }).status.ok());
  EXPECT_EQ(NodeOf(h, "a").devices(0).report().total_bytes(), 16 * kGb);
  EXPECT_FALSE(NodeOf(h, "a").has_limits());
  EXPECT_FALSE(h.records.back().node_limited().has_limits());
  h.CheckReplay();
}

TEST(Limiting, CountsInEveryHeartbeatsMemory) {
  Harness h;
  h.Connect("a", 100, 16 * kGb);
  Memory(h, 4 * kGb);
  farm::v1::WorkerMessage message;
  farm::v1::DeviceMemory& memory = *message.mutable_heartbeat()->add_memory();
  memory.set_farm_bytes(1 * kGb);
  memory.set_free_bytes(12 * kGb);
  h.Say("a", message);
  EXPECT_EQ(NodeOf(h, "a").devices(0).report().free_bytes(), 4 * kGb);
}

TEST(Limiting, ChangingNothingIsNoRecordAndTellsWhatThereIs) {
  Harness h;
  h.Connect("a");
  Ask(h, [](auto& change) { change.set_idle_minutes(10); });
  const size_t records = h.records.size();
  const Reply reply = Ask(h, [](auto&) {});
  EXPECT_TRUE(reply.status.ok());
  EXPECT_EQ(reply.job_id, "a");
  EXPECT_EQ(h.records.size(), records);
}

TEST(Limiting, ADeviceThatIsLeftOutGetsNothingAndSaysWhy) {
  Harness h;
  farm::v1::Hello hello = h.HelloOf("a");
  *hello.add_devices() = Harness::Gpu(100);
  hello.mutable_devices(1)->set_index(1);
  hello.mutable_devices(1)->set_ordinal(1);
  h.ConnectWith(hello);
  EXPECT_TRUE(Ask(h, [](auto& change) { change.set_devices("cuda:1"); }).status.ok());
  h.Submit(Story("j-1", 40));
  ASSERT_FALSE(h.holds["a"].empty());
  for (const Held& held : h.holds["a"]) EXPECT_EQ(held.grant.device(), 1u);
  EXPECT_THAT(NodeOf(h, "a").note(), AllOf(HasSubstr("device 0"), HasSubstr("storyctl worker limit a --devices auto")));
  Ask(h, [](auto& change) { change.set_devices("auto"); });
  bool first = false;
  for (const Held& held : h.holds["a"]) first |= held.grant.device() == 0;
  EXPECT_TRUE(first) << "at once";
  h.RunAll();
}

TEST(Limiting, FramesThatFitNoMoreWaitAndExplainNamesTheLimit) {
  Harness h;
  h.Connect("a", 100, 16 * kGb);
  farm::v1::JobSpec story = Story("j-1", 2);
  story.mutable_story()->mutable_settings()->set_width(4'000'000);  // 4 GB a frame
  EXPECT_TRUE(Memory(h, 2 * kGb).status.ok());
  h.Submit(story);
  EXPECT_EQ(h.HeldTasks("a"), 0u);
  EXPECT_THAT(h.Status("j-1").waiting(0).reason(), HasSubstr("it is limited to 2 GB (storyctl worker limit a)"));
  const auto why = h.farm().Explain({h.now_ms, 0}, Task("j-1", farm::v1::TASK_FRAME, 0));
  ASSERT_TRUE(why.ok());
  EXPECT_THAT(why->candidates(0).refusal(), HasSubstr("it is limited to 2 GB"));
  EXPECT_TRUE(Memory(h, 5 * kGb).status.ok());
  EXPECT_GT(h.HeldTasks("a"), 0u);
  h.RunAll();
  h.CheckReplay();
}

TEST(Limiting, ThatLeavesNoModelIsRefusedWithTheLeastThatWouldDo) {
  Harness h;
  h.Connect("a", 100, 16 * kGb);
  AddModelOf(h, "small", 3);
  AddModelOf(h, "large", 8);
  AddModelOf(h, "vast", 100);  // which it never could
  const size_t records = h.records.size();
  const Reply refused = Memory(h, 2 * kGb);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status));
  EXPECT_THAT(std::string(refused.status.message()),
              AllOf(HasSubstr("a could draw with no model of the farm"), HasSubstr("small takes at least 3.26 GB"),
                    HasSubstr("large takes at least 8.26 GB"), HasSubstr("storyctl worker pause a")));
  EXPECT_EQ(h.records.size(), records) << "nothing was changed";
  EXPECT_THAT(h.limited["a"], IsEmpty());
  const Reply warned = Memory(h, 4 * kGb);
  EXPECT_TRUE(warned.status.ok());
  EXPECT_THAT(warned.warnings, ElementsAre(HasSubstr("does not draw with all models: large takes at least 8.26 GB")));
  const Reply out = Ask(h, [](auto& change) { change.set_devices("cpu"); });
  EXPECT_TRUE(absl::IsFailedPrecondition(out.status));
  EXPECT_THAT(std::string(out.status.message()), HasSubstr("small fits on none of the devices that are left"));
}

TEST(Limiting, WhereNobodyCanTellItWarns) {
  Harness h;
  h.Connect("a", 100, 16 * kGb);
  EXPECT_THAT(Memory(h, 2 * kGb).warnings, ElementsAre(HasSubstr("knows no model yet")));
  EXPECT_THAT(Ask(h, [](auto& change) { change.set_devices("cuda:0,cuda:3"); }).warnings,
              ElementsAre(HasSubstr("a has no device cuda:3 just now"), HasSubstr("knows no model yet")));
  AddModelOf(h, "tiny", 1);
  h.Restart();
  EXPECT_THAT(Memory(h, 3 * kGb).warnings, ElementsAre(HasSubstr("not been there since the coordinator started")));
}

TEST(Limiting, WhatCantBeReadOrFoundChangesNothing) {
  Harness h;
  h.Connect("a");
  const size_t records = h.records.size();
  EXPECT_TRUE(absl::IsInvalidArgument(Ask(h, [](auto& change) { change.set_hours("evenings"); }).status));
  EXPECT_TRUE(absl::IsInvalidArgument(Ask(h, [](auto& change) { change.set_devices("gpu"); }).status));
  EXPECT_TRUE(absl::IsInvalidArgument(Memory(h, 8).status));
  EXPECT_TRUE(absl::IsNotFound(Ask(h, [](auto& change) { change.set_idle_minutes(1); }, "b").status));
  EXPECT_EQ(h.records.size(), records);
}

}  // namespace
}  // namespace storyfarm::coordinator
