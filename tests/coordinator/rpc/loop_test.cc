// The loop over a store in memory: what it takes first, and what it makes one batch of.
#include "coordinator/rpc/loop.h"

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/store/memory_store.h"
#include "gtest/gtest.h"
#include "tests/coordinator/rpc/unheard_outputs.h"

namespace storyfarm::coordinator {
namespace {

// Counts the batches that were appended.
class CountingStore : public MemoryStore {
 public:
  using MemoryStore::MemoryStore;
  AppendResult Append(const farm::v1::RecordBatch& batch) override {
    ++batches;
    return MemoryStore::Append(batch);
  }
  std::atomic<int> batches{0};
};

class LoopTest : public testing::Test {
 protected:
  LoopTest()
      : log_(
            base::LogFormat::kText, [](std::string_view) {}, [] { return uint64_t{0}; }),
        store_(std::make_shared<MemoryDisk>()) {
    auto loop = Loop::Load({}, {&base::Env::Real(), &log_, &store_, [] { return uint64_t{1}; }});
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    loop_->Run(UnheardOutputs());
  }
  ~LoopTest() override { loop_->Stop(); }

  // Holds the loop's thread until `meanwhile` has returned.
  void WhileItIsBusy(const std::function<void()>& meanwhile) {
    // Shared: the loop's thread may still be about to wait when this returns.
    struct Turn {
      std::promise<void> began;
      std::promise<void> go_on;
    };
    const auto turn = std::make_shared<Turn>();
    loop_->Peek(
        [turn](const Farm&) {
          turn->began.set_value();
          turn->go_on.get_future().wait();
        },
        [](const absl::Status&) {});
    turn->began.get_future().wait();
    meanwhile();
    turn->go_on.set_value();
  }
  void Ask(const std::function<Input(uint64_t)>& make, std::promise<absl::Status>& answered) {
    loop_->Ask(make, [&answered](const Reply& reply) { answered.set_value(reply.status); });
  }
  static Input SubmitOne(uint64_t request, const std::string& id) {
    SubmitJob submit;
    submit.request = request;
    submit.spec.set_job_id(id);
    submit.spec.set_idempotency_key(id);
    submit.spec.set_request_digest(std::string(32, 'r'));
    submit.spec.mutable_story()->add_chapters()->add_panels()->set_prompt("p");
    submit.spec.add_frame_sets()->add_panels(0);
    return Input(std::move(submit));
  }

  base::Log log_;
  CountingStore store_;
  std::unique_ptr<Loop> loop_;
};

TEST_F(LoopTest, HeartbeatsAreHeardBeforeResultsThatCameEarlier) {
  std::mutex mutex;
  std::vector<std::string> heard;
  std::promise<void> all;
  const auto tell = [&](uint64_t session, farm::v1::WorkerMessage message, const std::string& what) {
    WorkerSaid said;
    said.session = session;
    said.message = std::move(message);
    loop_->Tell(std::move(said), [&, what] {
      const std::lock_guard<std::mutex> lock(mutex);
      heard.push_back(what);
      if (heard.size() == 4) all.set_value();
    });
  };
  farm::v1::WorkerMessage result;
  result.mutable_result();
  farm::v1::WorkerMessage heartbeat;
  heartbeat.mutable_heartbeat();
  WhileItIsBusy([&] {
    tell(1, result, "result 1");
    tell(2, result, "result 2");
    tell(3, heartbeat, "heartbeat 3");
    tell(4, heartbeat, "heartbeat 4");
  });
  all.get_future().wait();
  EXPECT_EQ(heard, (std::vector<std::string>{"heartbeat 3", "heartbeat 4", "result 1", "result 2"}));
}

TEST_F(LoopTest, WhatGathersMakesOneBatch) {
  constexpr int kJobs = 100;
  std::vector<std::promise<absl::Status>> answers(kJobs);
  int before = 0;
  WhileItIsBusy([&] {
    before = store_.batches;
    for (int i = 0; i < kJobs; ++i) {
      Ask([i](uint64_t request) { return SubmitOne(request, absl::StrCat("j-", i)); },
          answers[static_cast<size_t>(i)]);
    }
  });
  for (auto& answer : answers) {
    const absl::Status status = answer.get_future().get();
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_LE(store_.batches - before, 2) << "theirs, and that of the take-over where it was not durable yet";
}

TEST_F(LoopTest, AStoryThatWasPackedBeforeIsNotPackedAgain) {
  farm::v1::JobSpec spec = std::get<SubmitJob>(SubmitOne(1, "j-1")).spec;
  const auto packed = loop_->Pack(spec);
  std::promise<absl::Status> answered;
  Ask([](uint64_t request) { return SubmitOne(request, "j-1"); }, answered);
  ASSERT_TRUE(answered.get_future().get().ok());
  std::promise<std::shared_ptr<const PackedSpec>> found;
  loop_->Look([&](const Farm& farm, const Time&) { found.set_value(farm.FindSpec("j-1")); }, [](const absl::Status&) {});
  EXPECT_EQ(found.get_future().get(), packed);
}

}  // namespace
}  // namespace storyfarm::coordinator
