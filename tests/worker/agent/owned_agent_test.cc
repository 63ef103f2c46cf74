// An agent on a machine that the test plays: its owner, its power, its sleep.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "tests/worker/agent/agent_fixture.h"
#include "worker/agent/agent.h"

namespace storyfarm::worker {
namespace {

using farm::v1::WorkerMessage;
using testing_support::Eventually;

class FakeMachine final : public Machine {
 public:
  std::optional<bool> OnMains() override { return mains.load(); }
  std::optional<int64_t> IdleSeconds() override { return std::nullopt; }
  std::optional<bool> TooHot() override { return std::nullopt; }
  std::atomic<bool> mains{true};
};

class FakeWakefulness final : public Wakefulness {
 public:
  absl::Status Hold() override {
    EXPECT_FALSE(awake.exchange(true)) << "in turn";
    ++holds;
    return absl::OkStatus();
  }
  absl::Status Try() override { return absl::OkStatus(); }
  void LetGo() override { EXPECT_TRUE(awake.exchange(false)) << "in turn"; }
  std::atomic<bool> awake{false};
  std::atomic<int> holds{0};
};

// An agent in the test's own process, on a machine that the test plays.
class OwnedAgentTest : public AgentTest {
 protected:
  // Runs an agent that takes `owner`'s rules while `play` plays its coordinator and its machine.
  void Run(const OwnerRules& owner, const std::function<void()>& play) {
    base::Log log(
        base::LogFormat::kText, [](std::string_view) {}, [] { return uint64_t{0}; });
    AgentOptions options;
    options.data_folder = folder_.File("worker");
    options.node_name = "laptop";
    options.devices = {"cpu"};
    options.engine_program = std::string(kBin) + "/fake_engine";
    options.measure_speed = false;
    options.memory_limit_bytes = 12'000'000'000;
    options.owner = owner;
    options.owner_every_ms = 10;
    options.link.coordinator = "unix:" + Socket();
    AgentParts parts;
    parts.env = &base::Env::Real();
    parts.log = &log;
    parts.random_bits = [] { return uint64_t{4711}; };
    parts.machine = &machine_;
    parts.wakefulness = &wakefulness_;
    auto agent = Agent::Open(options, parts);
    ASSERT_TRUE(agent.ok()) << agent.status();
    absl::Status ended;
    std::thread running([&] { ended = (*agent)->Run(); });
    play();
    (*agent)->Drain();
    running.join();
    EXPECT_TRUE(ended.ok()) << ended;
    EXPECT_FALSE(wakefulness_.awake) << "a worker that left keeps no machine awake";
  }

  static bool Started(const WorkerMessage& message) {
    return message.has_heartbeat() && message.heartbeat().held_size() == 1 && message.heartbeat().held(0).started();
  }

  FakeMachine machine_;
  FakeWakefulness wakefulness_;
};

TEST_F(OwnedAgentTest, AnOwnerWhoPullsThePlugGetsTheMachineAtOnceAndLendsItAgain) {
  OwnerRules owner;
  owner.mains_only = true;
  Run(owner, [this] {
    const auto hello = coordinator_->WaitHello();
    ASSERT_TRUE(hello.has_value());
    EXPECT_EQ(hello->resting(), "");
    coordinator_->Welcome(*hello);
    coordinator_->Send(FramesGrant(1, {"fake:hang"}));
    ASSERT_TRUE(coordinator_->Wait(Started));
    machine_.mains = false;
    ASSERT_TRUE(coordinator_->Wait([](const WorkerMessage& message) {
      return message.has_heartbeat() && message.heartbeat().resting() == "it runs on its battery";
    }));
    const auto fault = WaitFault();
    ASSERT_TRUE(fault.has_value());
    EXPECT_EQ(fault->kind(), farm::v1::PREEMPTED) << fault->message();
    EXPECT_TRUE(Eventually([this] { return !wakefulness_.awake; })) << "it may sleep now";
    machine_.mains = true;
    ASSERT_TRUE(coordinator_->Wait([](const WorkerMessage& message) {
      return message.has_heartbeat() && message.heartbeat().resting().empty();
    }));
    coordinator_->Send(FramesGrant(2, {"a cat"}));
    const auto result = WaitResult();
    ASSERT_TRUE(result.has_value());
    Answer(*result);
  });
}

TEST_F(OwnedAgentTest, TheMachineIsKeptAwakeExactlyWhileItHasWork) {
  Run({}, [this] {
    const auto hello = coordinator_->WaitHello();
    ASSERT_TRUE(hello.has_value());
    EXPECT_EQ(hello->devices(0).recommended_max_bytes(), 12'000'000'000U) << "the engine was told its limit";
    coordinator_->Welcome(*hello);
    EXPECT_FALSE(wakefulness_.awake);
    coordinator_->Send(FramesGrant(1, {"fake:hang"}));
    ASSERT_TRUE(coordinator_->Wait(Started));
    EXPECT_TRUE(wakefulness_.awake);
    farm::v1::CoordinatorMessage revoke;
    *revoke.mutable_revoke()->mutable_token() = Token(1);
    coordinator_->Send(revoke);
    EXPECT_TRUE(Eventually([this] { return !wakefulness_.awake; }));
    coordinator_->Send(FramesGrant(2, {"a cat", "a dog"}));
    for (int i = 0; i < 2; ++i) {
      const auto result = WaitResult();
      ASSERT_TRUE(result.has_value());
      Answer(*result);
    }
    EXPECT_TRUE(Eventually([this] { return !wakefulness_.awake; }));
    EXPECT_EQ(wakefulness_.holds, 2);
  });
}

}  // namespace
}  // namespace storyfarm::worker
