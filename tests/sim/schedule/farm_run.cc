// The real core with simulated workers. Time jumps from event to event.
#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/farm.h"
#include "coordinator/core/token.h"
#include "tests/sim/schedule/outcome.h"
#include "tests/sim/schedule/sim_planner.h"

namespace storyfarm::schedule {
namespace {

using coordinator::Farm;
using coordinator::FromMessage;
using coordinator::Token;
using farm::v1::CoordinatorMessage;
using farm::v1::WorkerMessage;

constexpr int64_t kNetworkMs = 10;
constexpr int64_t kHeartbeatMs = 2000;
constexpr double kNetworkBytesPerSecond = 100e6;
constexpr uint64_t kBankStepBytes = 10'000'000;
constexpr int kBankSteps = 30;
constexpr uint32_t kSteps = 20;  // of a pass, as reported
// A run that takes longer than this many times the bound has hung.
constexpr double kMostTimes = 50;

struct Group {
  Token token;
  farm::v1::FencingToken message;
  std::deque<farm::v1::TaskId> waiting;
  int64_t inputs_ms = 0;  // when they are all there
};

struct Worker {
  const Machine* machine = nullptr;
  uint64_t session = 0;  // 0: not there
  bool draining = false;
  bool warm = false;
  std::deque<Group> groups;
  bool running = false;
  farm::v1::TaskId task;
  Token token;
  int64_t begun_ms = 0;
  int64_t link_free_ms = 0;
  std::set<std::string> cached;
};

class FarmRun {
 public:
  explicit FarmRun(const Scenario& scenario) : scenario_(scenario), farm_(&planner_) {
    for (const Story& story : scenario.stories) planner_.Know(story);
    for (const Machine& machine : scenario.machines) workers_.emplace_back().machine = &machine;
  }

  Outcome Run(double most_s) {
    coordinator::Started started;
    started.incarnation = 1;
    started.seed = scenario_.seed;
    Step(started);
    for (size_t i = 0; i < workers_.size(); ++i) {
      for (const Window& window : workers_[i].machine->windows) {
        At(Ms(window.from_s), [this, i] { Join(i); });
        if (window.to_s < kForever) At(Ms(window.to_s), [this, i] { Leave(i); });
      }
    }
    for (const Story& story : scenario_.stories) {
      At(Ms(story.arrival_s), [this, &story] { Step(coordinator::SubmitJob{1, story.spec}); });
    }
    At(coordinator::kTickMs, [this] { Tick(); });
    outcome_.ends_s.resize(scenario_.stories.size());
    for (const Story& story : scenario_.stories) left_[story.spec.job_id()] = PanelsOf(story);
    while (!events_.empty() && !left_.empty() && now_ms_ < Ms(most_s)) {
      const auto what = events_.top().what;
      now_ms_ = events_.top().at_ms;
      events_.pop();
      (*what)();
    }
    outcome_.finished = left_.empty();
    return outcome_;
  }

 private:
  struct Event {
    int64_t at_ms = 0;
    uint64_t number = 0;
    std::shared_ptr<std::function<void()>> what;
    bool operator<(const Event& other) const {
      return at_ms != other.at_ms ? at_ms > other.at_ms : number > other.number;
    }
  };

  static int64_t Ms(double seconds) { return static_cast<int64_t>(std::llround(seconds * 1000)); }
  static uint32_t PanelsOf(const Story& story) {
    return static_cast<uint32_t>(story.spec.story().chapters(0).panels_size());
  }
  void At(int64_t at_ms, std::function<void()> what) {
    events_.push({at_ms, ++number_, std::make_shared<std::function<void()>>(std::move(what))});
  }

  void Step(coordinator::Input input) {
    coordinator::Decisions out = farm_.Step({now_ms_, static_cast<uint64_t>(now_ms_)}, std::move(input));
    for (auto& outgoing : out.messages) {
      At(now_ms_ + kNetworkMs, [this, session = outgoing.session, message = std::move(outgoing.message)] {
        for (size_t i = 0; i < workers_.size(); ++i) {
          if (workers_[i].session == session) Hear(i, message);
        }
      });
    }
  }
  void Say(size_t i, WorkerMessage message) {
    At(now_ms_ + kNetworkMs, [this, session = workers_[i].session, message = std::move(message)] {
      Step(coordinator::WorkerSaid{session, message, {}});
    });
  }

  void Tick() {
    Step(coordinator::Tick{});
    At(now_ms_ + coordinator::kTickMs, [this] { Tick(); });
  }

  void Join(size_t i) {
    Worker& worker = workers_[i];
    worker.session = ++sessions_;
    worker.draining = false;
    worker.warm = false;
    worker.link_free_ms = now_ms_;
    farm::v1::Hello hello;
    hello.set_protocol_version(coordinator::kProtocolVersion);
    hello.set_node_id(worker.machine->id);
    hello.set_node_name(worker.machine->id);
    hello.set_process(sessions_);
    farm::v1::DeviceReport& report = *hello.add_devices();
    report.set_backend(farm::v1::CUDA);
    report.set_total_bytes(worker.machine->memory_bytes);
    report.set_free_bytes(worker.machine->memory_bytes);
    report.set_speed_tflops(SimPlanner::kWork / worker.machine->claimed_s);
    report.set_disk_read_bytes_per_s(2'000'000'000);
    if (worker.machine->has_model) hello.add_cached_digests(scenario_.stories[0].spec.model().files(0).blob().digest());
    Step(coordinator::WorkerConnected{worker.session, hello});
    Beat(i, worker.session);
  }

  void Leave(size_t i) {
    Worker& worker = workers_[i];
    worker.draining = true;
    WorkerMessage message;
    message.mutable_leaving();
    for (Group& group : worker.groups) {
      if (group.waiting.empty()) continue;
      *message.mutable_leaving()->add_released() = group.message;
      group.waiting.clear();
    }
    Say(i, message);
    GoIfDone(i);
  }
  void GoIfDone(size_t i) {
    Worker& worker = workers_[i];
    if (!worker.draining || worker.running) return;
    const uint64_t session = worker.session;
    worker.groups.clear();
    // After its last words.
    At(now_ms_ + 2 * kNetworkMs, [this, i, session] {
      if (workers_[i].session == session) workers_[i].session = 0;
      Step(coordinator::WorkerGone{session});
    });
  }

  void Beat(size_t i, uint64_t session) {
    Worker& worker = workers_[i];
    if (worker.session != session) return;
    WorkerMessage message;
    message.mutable_heartbeat();
    const auto add = [&](const farm::v1::FencingToken& token, const farm::v1::TaskId& task, bool begun) {
      farm::v1::HeldTask& held = *message.mutable_heartbeat()->add_held();
      *held.mutable_token() = token;
      *held.mutable_task() = task;
      held.set_started(begun);
    };
    if (worker.running) add(coordinator::ToMessage(worker.token), worker.task, true);
    for (const Group& group : worker.groups) {
      for (const auto& task : group.waiting) add(group.message, task, false);
    }
    Say(i, message);
    At(now_ms_ + kHeartbeatMs, [this, i, session] { Beat(i, session); });
  }

  void Hear(size_t i, const CoordinatorMessage& message) {
    Worker& worker = workers_[i];
    if (message.has_grant()) {
      Group group;
      group.message = message.grant().token();
      group.token = FromMessage(group.message);
      group.waiting.assign(message.grant().tasks().begin(), message.grant().tasks().end());
      group.inputs_ms = Fetch(worker, message.grant().work());
      if (worker.draining) return GiveBack(i, group.message, {group.waiting.begin(), group.waiting.end()});
      worker.groups.push_back(std::move(group));
      Begin(i);
    } else if (message.has_trim()) {
      std::vector<farm::v1::TaskId> released;
      for (Group& group : worker.groups) {
        if (group.token != FromMessage(message.trim().token())) continue;
        for (const auto& task : message.trim().tasks()) {
          const auto at = std::find_if(group.waiting.begin(), group.waiting.end(),
                                       [&](const auto& waiting) { return waiting.number() == task.number(); });
          if (at == group.waiting.end()) continue;
          group.waiting.erase(at);
          released.push_back(task);
        }
      }
      GiveBack(i, message.trim().token(), released);
    }
  }
  void GiveBack(size_t i, const farm::v1::FencingToken& token, const std::vector<farm::v1::TaskId>& tasks) {
    WorkerMessage message;
    *message.mutable_trim_reply()->mutable_token() = token;
    for (const auto& task : tasks) *message.mutable_trim_reply()->add_released() = task;
    Say(i, message);
  }

  // When the banks that a work reads have come.
  int64_t Fetch(Worker& worker, const farm::v1::Work& work) {
    for (const auto& bank : work.frames().banks()) {
      uint64_t bytes = 0;
      for (const auto& step : bank.steps()) {
        if (worker.cached.insert(step.digest()).second) bytes += step.size_bytes();
      }
      worker.link_free_ms =
          std::max(worker.link_free_ms, now_ms_) + Ms(static_cast<double>(bytes) / kNetworkBytesPerSecond);
    }
    return std::max(worker.link_free_ms, now_ms_);
  }

  void Begin(size_t i) {
    Worker& worker = workers_[i];
    while (!worker.groups.empty() && worker.groups.front().waiting.empty()) worker.groups.pop_front();
    if (worker.running || worker.groups.empty()) return;
    Group& group = worker.groups.front();
    worker.running = true;
    worker.token = group.token;
    worker.task = group.waiting.front();
    group.waiting.pop_front();
    const int64_t loaded_ms = worker.warm ? now_ms_ : now_ms_ + Ms(worker.machine->setup_s);
    worker.warm = true;
    worker.begun_ms = std::max({now_ms_, group.inputs_ms, loaded_ms});
    const Story& story = StoryOf(worker.task.job_id());
    const uint32_t frames =
        worker.task.kind() == farm::v1::TASK_IDENTITY ? IdentityFrames(story, worker.task.number()) : 1;
    const int64_t length_ms = Ms(frames * worker.machine->frame_s);
    for (const uint32_t step : {1u, kSteps / 2}) {
      At(worker.begun_ms + length_ms * step / kSteps,
         [this, i, session = worker.session, token = worker.token, task = worker.task, step] {
           WorkerMessage message;
           farm::v1::Progress& progress = *message.mutable_progress();
           *progress.mutable_token() = coordinator::ToMessage(token);
           *progress.mutable_task() = task;
           progress.set_step(step);
           progress.set_steps(kSteps);
           if (workers_[i].session == session) Say(i, message);
         });
    }
    At(worker.begun_ms + length_ms, [this, i] { End(i); });
  }

  void End(size_t i) {
    Worker& worker = workers_[i];
    const Story& story = StoryOf(worker.task.job_id());
    WorkerMessage message;
    farm::v1::Result& result = *message.mutable_result();
    *result.mutable_token() = coordinator::ToMessage(worker.token);
    *result.mutable_task() = worker.task;
    const auto fill = [&](farm::v1::FrameResult* frame, uint32_t panel, int64_t render_ms) {
      frame->set_panel(panel);
      frame->mutable_image()->set_digest(Digest(absl::StrCat(worker.task.job_id(), "/", panel)));
      frame->mutable_image()->set_size_bytes(1'000'000);
      frame->set_render_ms(static_cast<uint64_t>(render_ms));
      Drawn(worker.task.job_id(), story);
    };
    if (worker.task.kind() == farm::v1::TASK_IDENTITY) {
      farm::v1::IdentityResult& identity = *result.mutable_identity();
      for (uint32_t panel : story.spec.identities(static_cast<int>(worker.task.number())).panels()) {
        fill(identity.add_frames(), panel, 0);
      }
      identity.set_render_ms(static_cast<uint64_t>(now_ms_ - worker.begun_ms));
      for (int step = 0; step < kBankSteps; ++step) {
        farm::v1::BlobRef& blob = *identity.mutable_bank()->add_steps();
        blob.set_digest(Digest(absl::StrCat(worker.task.job_id(), "/", worker.task.number(), "/", step)));
        blob.set_size_bytes(kBankStepBytes);
        worker.cached.insert(blob.digest());
      }
    } else {
      fill(result.mutable_frame(), worker.task.number(), now_ms_ - worker.begun_ms);
    }
    Say(i, std::move(message));
    worker.running = false;
    Begin(i);
    GoIfDone(i);
  }

  // A panel is there; the last one ends the story.
  void Drawn(const std::string& job_id, const Story& story) {
    const auto left = left_.find(job_id);
    if (left == left_.end() || --left->second > 0) return;
    left_.erase(left);
    const double end_s = static_cast<double>(now_ms_) / 1000;
    outcome_.ends_s[static_cast<size_t>(&story - scenario_.stories.data())] = end_s;
    outcome_.makespan_s = std::max(outcome_.makespan_s, end_s);
  }
  const Story& StoryOf(const std::string& job_id) const {
    return *std::find_if(scenario_.stories.begin(), scenario_.stories.end(),
                         [&](const Story& story) { return story.spec.job_id() == job_id; });
  }
  static std::string Digest(std::string text) {
    text.resize(32, '.');
    return text;
  }

  const Scenario& scenario_;
  SimPlanner planner_;
  Farm farm_;
  std::vector<Worker> workers_;
  std::priority_queue<Event> events_;
  int64_t now_ms_ = 0;
  uint64_t number_ = 0;
  uint64_t sessions_ = 0;
  std::map<std::string, uint32_t> left_;  // panels, by story that is not done
  Outcome outcome_;
};

}  // namespace

Outcome RunFarm(const Scenario& scenario, double bound_s) { return FarmRun(scenario).Run(kMostTimes * bound_s); }

}  // namespace storyfarm::schedule
