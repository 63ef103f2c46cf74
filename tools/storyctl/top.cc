// `storyctl top`: one thread asks the farm, the other one has the terminal, so that keys and resizing work also while
// the farm does not answer.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pipeline/plan/names.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/explanation.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/text_columns.h"
#include "tools/storyctl/top_model.h"
#include "tools/storyctl/top_screen.h"

namespace storyfarm::storyctl {
namespace {

using Client = farm::v1::ClientService::StubInterface;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPollEvery{1000};
// Of two coordinators the one that leads is waited for: the call itself says nothing for a while.
constexpr std::chrono::seconds kSilence{5};
constexpr int kKeyWaitMs = 100;          // how soon news reach the screen
constexpr uint32_t kMostLiveJobs = 1000;  // a page's most, and the farm's
constexpr uint32_t kRecentJobs = 20;      // among which those that ended with failures are shown, to be retried

// What came of a request: a line, or a text to read.
struct TopAnswer {
  std::string message;
  bool failed = false;
  std::vector<std::string> text;
};

// Asks the farm again and again on a thread of its own.
class FarmPoll {
 public:
  explicit FarmPoll(const FarmAddress& address)
      : farm_(address), view_{address.target, {}, {}, false, "", 0}, thread_([this] { Main(); }) {}
  ~FarmPoll() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      leaving_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  FarmView View() {
    const std::lock_guard<std::mutex> lock(mutex_);
    FarmView view = view_;
    const auto silent = Clock::now() - last_heard_;
    view.away_s = std::chrono::duration_cast<std::chrono::seconds>(silent).count();
    if (view.away.empty() && silent > kSilence) view.away = absl::StrCat("asking ", view.target);
    return view;
  }
  void Request(TopRequest request, int columns) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      requests_.emplace_back(std::move(request), columns);
    }
    changed_.notify_all();
  }
  std::optional<TopAnswer> TakeAnswer() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(answer_, std::nullopt);
  }

 private:
  void Main() {
    for (;;) {
      std::deque<std::pair<TopRequest, int>> requests;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait_until(lock, next_poll_, [this] { return leaving_ || !requests_.empty(); });
        if (leaving_) return;
        requests.swap(requests_);
      }
      for (const auto& [request, columns] : requests) {
        TopAnswer answer = CarryOut(request, columns);
        const std::lock_guard<std::mutex> lock(mutex_);
        answer_ = std::move(answer);
      }
      Poll();
      next_poll_ = Clock::now() + kPollEvery;
    }
  }

  void Poll() {
    FarmView fresh;
    const absl::Status asked = Ask(fresh);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!asked.ok()) {
      view_.away = std::string(asked.message());
      return;
    }
    last_heard_ = Clock::now();
    view_.heard = true;
    view_.away.clear();
    view_.jobs = std::move(fresh.jobs);
    view_.nodes = std::move(fresh.nodes);
  }

  absl::Status Ask(FarmView& fresh) {
    farm::v1::ListJobsRequest live, recent;
    live.set_live(true);
    live.set_page_size(kMostLiveJobs);
    recent.set_page_size(kRecentJobs);
    const auto jobs = farm_.Call(&Client::ListJobs, live);
    if (!jobs.ok()) return jobs.status();
    const auto ended = farm_.Call(&Client::ListJobs, recent);
    if (!ended.ok()) return ended.status();
    const auto nodes = farm_.Call(&Client::ListNodes, farm::v1::ListNodesRequest());
    if (!nodes.ok()) return nodes.status();
    fresh.jobs.assign(jobs->jobs().begin(), jobs->jobs().end());
    for (const farm::v1::JobStatus& job : ended->jobs()) {
      if (job.state() == farm::v1::JOB_FAILED) fresh.jobs.push_back(job);
    }
    fresh.nodes.assign(nodes->nodes().begin(), nodes->nodes().end());
    std::stable_sort(fresh.nodes.begin(), fresh.nodes.end(),
                     [](const auto& a, const auto& b) { return a.name() < b.name(); });
    return absl::OkStatus();
  }

  static TopAnswer Failed(const absl::Status& why) { return {std::string(why.message()), true, {}}; }

  TopAnswer CarryOut(const TopRequest& request, int columns) {
    switch (request.kind) {
      case TopRequest::kPause:
      case TopRequest::kResume: {
        farm::v1::ChangeJobRequest change;
        change.set_job_id(request.what);
        change.set_paused(request.kind == TopRequest::kPause);
        const auto job = farm_.Call(&Client::ChangeJob, change);
        if (!job.ok()) return Failed(job.status());
        return {absl::StrCat(request.name,
                             change.paused() ? " is paused: what is being drawn is finished" : " goes on")};
      }
      case TopRequest::kDrain:
      case TopRequest::kUndrain: {
        farm::v1::DrainNodeRequest drain;
        drain.set_node(request.what);
        drain.set_drained(request.kind == TopRequest::kDrain);
        const auto node = farm_.Call(&Client::DrainNode, drain);
        if (!node.ok()) return Failed(node.status());
        return {absl::StrCat(request.name, drain.drained() ? " gets nothing more" : " may work again")};
      }
      case TopRequest::kRetry: {
        farm::v1::RetryJobRequest retry;
        retry.set_job_id(request.what);
        const auto job = farm_.Call(&Client::RetryJob, retry);
        if (!job.ok()) return Failed(job.status());
        return {absl::StrCat(request.name, ": what failed is tried once more")};
      }
      case TopRequest::kExplainJob:
        return ExplainJob(request.what, columns);
      case TopRequest::kExplainTask:
        return ExplainTask(request.what, columns);
      case TopRequest::kQuit:
        break;
    }
    return {};
  }

  TopAnswer ExplainJob(const std::string& job_id, int columns) {
    farm::v1::GetJobRequest get;
    get.set_job_id(job_id);
    get.set_with_tasks(true);
    const auto job = farm_.Call(&Client::GetJob, get);
    if (!job.ok()) return Failed(job.status());
    // What is next of it: the first task that could be granted, else one that is drawn, waits for others, or failed.
    for (const auto state :
         {farm::v1::TASK_READY, farm::v1::TASK_GRANTED, farm::v1::TASK_BLOCKED, farm::v1::TASK_FAILED}) {
      for (const farm::v1::TaskStatus& task : job->tasks()) {
        if (task.state() == state) return ExplainTask(plan::TaskName(task.task()), columns);
      }
    }
    return {absl::StrCat(job_id, " has nothing left to do")};
  }

  TopAnswer ExplainTask(const std::string& task, int columns) {
    const auto id = plan::ParseTaskName(task);
    if (!id.ok()) return Failed(id.status());
    farm::v1::ExplainTaskRequest explain;
    *explain.mutable_task() = *id;
    const auto explanation = farm_.Call(&Client::ExplainTask, explain);
    if (!explanation.ok()) return Failed(explanation.status());
    TopAnswer answer;
    const std::vector<std::string> lines = absl::StrSplit(ExplanationText(*explanation), '\n');
    for (const std::string& line : lines) {
      // Rows of a table are cut rather than broken.
      if (line.find("  ") != std::string::npos) {
        answer.text.push_back(line);
        continue;
      }
      for (std::string& part : Wrap(line, columns)) answer.text.push_back(std::move(part));
    }
    return answer;
  }

  FarmClient farm_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool leaving_ = false;
  FarmView view_;
  Clock::time_point last_heard_ = Clock::now();
  Clock::time_point next_poll_ = Clock::now();
  std::deque<std::pair<TopRequest, int>> requests_;  // with the columns that a text may take
  std::optional<TopAnswer> answer_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

Outcome Top(const Context& context) {
  if (context.json) {
    return absl::InvalidArgumentError(
        "top is a screen for people; storyctl queue --json and nodes --json say the same");
  }
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  auto screen = TopScreen::Open(context.console.colour());
  if (!screen.ok()) return screen.status();
  FarmPoll poll(*target);
  TopState state;
  for (;;) {
    if (std::optional<TopAnswer> answer = poll.TakeAnswer()) {
      state.message = std::move(answer->message);
      state.failed = answer->failed;
      state.text = std::move(answer->text);
      state.text_top = 0;
    }
    const FarmView view = poll.View();
    KeepSelection(view, state);
    (*screen)->Show(DrawTop(view, state, (*screen)->glyphs(), (*screen)->rows(), (*screen)->columns()));
    const std::optional<Pressed> pressed = (*screen)->WaitForKey(kKeyWaitMs);
    if (!pressed.has_value()) continue;
    std::optional<TopRequest> request = Press(pressed->key, pressed->character, view, state);
    if (!request.has_value()) continue;
    if (request->kind == TopRequest::kQuit) return ExitCode::kOk;
    poll.Request(*std::move(request), (*screen)->columns());
  }
}

}  // namespace storyfarm::storyctl
