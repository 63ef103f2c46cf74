// The two simple schedulers, on a loop of their own.
#include <algorithm>
#include <deque>
#include <queue>
#include <set>
#include <tuple>

#include "tests/sim/schedule/outcome.h"

namespace storyfarm::schedule {
namespace {

struct Task {
  size_t story = 0;
  bool identity = false;
  uint32_t number = 0;  // identity; frames: their set
};

class SimpleRun {
 public:
  SimpleRun(const Scenario& scenario, bool equal_shares)
      : scenario_(scenario), equal_shares_(equal_shares), machines_(scenario.machines.size()) {
    for (const Story& story : scenario.stories) {
      Progress& progress = progress_.emplace_back();
      progress.left = static_cast<uint32_t>(story.spec.identities_size()) + story.frames;
      for (const auto& set : story.spec.frame_sets()) {
        progress.missing.push_back(static_cast<uint32_t>(set.identities_size()));
      }
    }
    outcome_.ends_s.resize(scenario.stories.size());
  }

  Outcome Run() {
    for (size_t i = 0; i < machines_.size(); ++i) {
      for (const Window& window : scenario_.machines[i].windows) {
        events_.push({window.from_s, Kind::kJoin, i, {}});
        if (window.to_s < kForever) events_.push({window.to_s, Kind::kLeave, i, {}});
      }
    }
    for (size_t i = 0; i < scenario_.stories.size(); ++i) {
      events_.push({scenario_.stories[i].arrival_s, Kind::kArrival, i, {}});
    }
    while (!events_.empty() && unfinished_ > 0) {
      const Event event = events_.top();
      events_.pop();
      now_s_ = event.at_s;
      Handle(event);
      // All that happens at one time is known before anything begins.
      if (!events_.empty() && events_.top().at_s == now_s_) continue;
      for (size_t i = 0; i < machines_.size(); ++i) Begin(i);
    }
    outcome_.finished = unfinished_ == 0;
    return outcome_;
  }

 private:
  enum class Kind { kJoin, kArrival, kEnd, kLeave };
  struct Event {
    double at_s = 0;
    Kind kind = Kind::kJoin;
    size_t index = 0;  // of the machine or story
    Task task;         // kEnd
    bool operator<(const Event& other) const {
      return std::tie(at_s, kind, index) > std::tie(other.at_s, other.kind, other.index);
    }
  };
  struct State {
    bool there = false;
    bool busy = false;
    bool warm = false;
    std::deque<Task> queue;  // its share
  };
  struct Progress {
    uint32_t left = 0;
    std::vector<uint32_t> missing;  // identities that each set waits for
  };

  bool Fits(size_t machine, const Task& task) const {
    return scenario_.machines[machine].memory_bytes >= scenario_.stories[task.story].needed_bytes;
  }

  void Handle(const Event& event) {
    State* machine = event.kind == Kind::kArrival ? nullptr : &machines_[event.index];
    switch (event.kind) {
      case Kind::kJoin:
        machine->there = true;
        machine->warm = false;
        if (!unplaced_.empty()) Deal(std::exchange(unplaced_, {}));
        return;
      case Kind::kLeave: {
        machine->there = false;
        std::vector<Task> left(machine->queue.begin(), machine->queue.end());
        machine->queue.clear();
        return Deal(left);
      }
      case Kind::kArrival: {
        std::vector<Task> ready;
        const farm::v1::JobSpec& spec = scenario_.stories[event.index].spec;
        for (int i = 0; i < spec.identities_size(); ++i) {
          ready.push_back({event.index, true, static_cast<uint32_t>(i)});
        }
        Ready(std::move(ready));
        for (int set = 0; set < spec.frame_sets_size(); ++set) {
          if (spec.frame_sets(set).identities().empty()) FramesReady(event.index, set);
        }
        return;
      }
      case Kind::kEnd:
        machine->busy = false;
        Ended(event.task);
    }
  }

  void FramesReady(size_t story, int set) {
    const int frames = scenario_.stories[story].spec.frame_sets(set).panels_size();
    Ready(std::vector<Task>(static_cast<size_t>(frames), Task{story, false, static_cast<uint32_t>(set)}));
  }

  void Ended(const Task& task) {
    const farm::v1::JobSpec& spec = scenario_.stories[task.story].spec;
    Progress& progress = progress_[task.story];
    if (task.identity) {
      for (int set = 0; set < spec.frame_sets_size(); ++set) {
        const auto& identities = spec.frame_sets(set).identities();
        if (std::find(identities.begin(), identities.end(), task.number) == identities.end()) continue;
        if (--progress.missing[static_cast<size_t>(set)] == 0) FramesReady(task.story, set);
      }
    }
    if (--progress.left > 0) return;
    --unfinished_;
    outcome_.ends_s[task.story] = now_s_;
    outcome_.makespan_s = std::max(outcome_.makespan_s, now_s_);
  }

  void Ready(std::vector<Task> tasks) {
    if (equal_shares_) return Deal(tasks);
    // Stories in order of arrival, passes before frames.
    for (const Task& task : tasks) {
      const auto later = [&task](const Task& other) {
        return std::make_pair(other.story, !other.identity) > std::make_pair(task.story, !task.identity);
      };
      waiting_.insert(std::find_if(waiting_.begin(), waiting_.end(), later), task);
    }
  }

  // The same number to each of the machines that are there and that they fit on; passes one after the other.
  void Deal(const std::vector<Task>& tasks) {
    for (const Task& task : tasks) {
      bool placed = false;
      for (size_t i = 0; i < machines_.size() && !placed; ++i) {
        const size_t machine = next_++ % machines_.size();
        if (!machines_[machine].there || !Fits(machine, task)) continue;
        machines_[machine].queue.push_back(task);
        placed = true;
      }
      if (!placed) unplaced_.push_back(task);
    }
  }

  void Begin(size_t index) {
    State& machine = machines_[index];
    if (!machine.there || machine.busy) return;
    Task task;
    if (equal_shares_) {
      if (machine.queue.empty()) return;
      task = machine.queue.front();
      machine.queue.pop_front();
    } else {
      const auto first =
          std::find_if(waiting_.begin(), waiting_.end(), [&](const Task& waiting) { return Fits(index, waiting); });
      if (first == waiting_.end()) return;
      task = *first;
      waiting_.erase(first);
    }
    const Machine& is = scenario_.machines[index];
    const uint32_t frames = task.identity ? IdentityFrames(scenario_.stories[task.story], task.number) : 1;
    const double setup_s = machine.warm ? 0 : is.setup_s;
    machine.warm = true;
    machine.busy = true;
    events_.push({now_s_ + setup_s + frames * is.frame_s, Kind::kEnd, index, task});
  }

  const Scenario& scenario_;
  const bool equal_shares_;
  std::vector<State> machines_;
  std::vector<Progress> progress_;
  std::priority_queue<Event> events_;
  std::deque<Task> waiting_;    // first come, first served
  std::vector<Task> unplaced_;  // equal shares: no machine that they fit on is there
  size_t next_ = 0;
  size_t unfinished_ = scenario_.stories.size();
  double now_s_ = 0;
  Outcome outcome_;
};

}  // namespace

Outcome RunFirstCome(const Scenario& scenario) { return SimpleRun(scenario, false).Run(); }
Outcome RunEqualShares(const Scenario& scenario) { return SimpleRun(scenario, true).Run(); }

}  // namespace storyfarm::schedule
