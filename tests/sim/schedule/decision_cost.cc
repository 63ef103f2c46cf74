// What one decision of the core costs: processor time of a Step that takes a result and grants what follows, against
// the number of nodes and of pending frames. It must not grow faster than their logarithm.
//
//   decision_cost               prints a table
//   decision_cost --svg FILE    also draws it (deploy/docs/images/decision-cost.svg)
#include <chrono>
#include <cstdio>
#include <deque>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/core/farm.h"
#include "tests/sim/schedule/cost_plot.h"
#include "tests/sim/schedule/scenario.h"
#include "tests/sim/schedule/sim_planner.h"

namespace storyfarm::schedule {
namespace {

constexpr int kDecisions = 20000;
constexpr uint32_t kFramesAJob = 20000;
constexpr double kFrameSeconds = 30;  // of the slowest; the fastest is 100 times as fast

farm::v1::JobSpec MakeJob(uint32_t number, uint32_t frames) {
  farm::v1::JobSpec spec;
  spec.set_job_id(absl::StrCat("j-", number));
  spec.set_idempotency_key(spec.job_id());
  spec.set_request_digest(std::string(32, 'r'));
  spec.mutable_model()->set_digest(std::string(32, 'm'));
  farm::v1::Chapter& chapter = *spec.mutable_story()->add_chapters();
  farm::v1::FrameSet& set = *spec.add_frame_sets();
  for (uint32_t i = 0; i < frames; ++i) {
    chapter.add_panels();
    set.add_panels(i);
  }
  return spec;
}

class Bench {
 public:
  Bench(uint32_t nodes, uint32_t frames) : nodes_(nodes), farm_(&planner_), queues_(nodes + 1) {
    Step(coordinator::Started{1, 1});
    for (uint32_t left = frames, number = 0; left > 0; ++number) {
      const uint32_t some = std::min(left, kFramesAJob);
      Story story;
      story.spec = MakeJob(number, some);
      planner_.Know(story);
      Step(coordinator::SubmitJob{1, story.spec});
      left -= some;
    }
    for (uint32_t node = 1; node <= nodes; ++node) {
      farm::v1::Hello hello;
      hello.set_protocol_version(coordinator::kProtocolVersion);
      hello.set_node_id(absl::StrCat("n-", node));
      farm::v1::DeviceReport& report = *hello.add_devices();
      report.set_backend(farm::v1::CUDA);
      report.set_total_bytes(80'000'000'000);
      report.set_speed_tflops(SimPlanner::kWork / kFrameSeconds * (1 + 99.0 * node / nodes));
      Step(coordinator::WorkerConnected{node, hello});
    }
  }

  // Microseconds a decision.
  double Run() {
    int decisions = 0;
    double seconds = 0;
    for (uint32_t turn = 0; decisions < kDecisions; ++turn) {
      // A farm of so many nodes finishes about this often.
      if (turn % std::max(1u, nodes_ / 4) == 0) {
        now_ms_ += coordinator::kTickMs;
        Step(coordinator::Tick{});
      }
      const uint32_t node = turn % nodes_ + 1;
      if (queues_[node].empty()) continue;
      const auto [token, task] = queues_[node].front();
      queues_[node].pop_front();
      farm::v1::WorkerMessage message;
      farm::v1::Result& result = *message.mutable_result();
      *result.mutable_token() = token;
      *result.mutable_task() = task;
      result.mutable_frame()->set_panel(task.number());
      result.mutable_frame()->mutable_image()->set_digest(std::string(32, 'i'));
      result.mutable_frame()->mutable_image()->set_size_bytes(1);
      const auto began = std::chrono::steady_clock::now();
      Step(coordinator::WorkerSaid{node, std::move(message), {}});
      seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
      ++decisions;
    }
    return seconds / decisions * 1e6;
  }

 private:
  void Step(coordinator::Input input) {
    const coordinator::Decisions out = farm_.Step({now_ms_, 0}, std::move(input));
    for (const auto& outgoing : out.messages) {
      if (!outgoing.message.has_grant()) continue;
      const farm::v1::Grant& grant = outgoing.message.grant();
      for (const auto& task : grant.tasks()) queues_[outgoing.session].emplace_back(grant.token(), task);
    }
  }

  const uint32_t nodes_;
  SimPlanner planner_;
  coordinator::Farm farm_;
  std::vector<std::deque<std::pair<farm::v1::FencingToken, farm::v1::TaskId>>> queues_;  // by session
  int64_t now_ms_ = 0;
};

}  // namespace
}  // namespace storyfarm::schedule

int main(int argc, char** argv) {
  using storyfarm::schedule::Bench;
  using storyfarm::schedule::Cost;
  const bool draw = argc == 3 && std::string(argv[1]) == "--svg";
  if (argc != 1 && !draw) {
    std::fprintf(stderr, "usage: decision_cost [--svg FILE]\n");
    return 2;
  }
  std::vector<Cost> costs;
  std::printf("%10s %10s %16s\n", "nodes", "frames", "us a decision");
  for (const uint32_t nodes : {10u, 30u, 100u, 300u, 1000u}) {
    for (const uint32_t frames : {30'000u, 100'000u, 300'000u, 1'000'000u}) {
      costs.push_back({nodes, frames, Bench(nodes, frames).Run()});
      std::printf("%10u %10u %16.1f\n", nodes, frames, costs.back().microseconds);
      std::fflush(stdout);
    }
  }
  if (!draw) return 0;
  std::ofstream out(argv[2], std::ios::binary);
  out << storyfarm::schedule::DrawCosts(costs);
  out.close();
  if (out.good()) return 0;
  std::fprintf(stderr, "decision_cost: %s could not be written\n", argv[2]);
  return 1;
}
