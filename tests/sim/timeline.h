// Simulated time: what is to happen when. Things of the same millisecond happen in the order in which they were asked
// for, so a run depends on nothing but its seed.
#ifndef STORYFARM_TESTS_SIM_TIMELINE_H_
#define STORYFARM_TESTS_SIM_TIMELINE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace storyfarm::sim {

class Timeline {
 public:
  int64_t now_ms() const { return now_ms_; }

  void After(int64_t ms, std::function<void()> what) {
    heap_.push_back({now_ms_ + std::max<int64_t>(0, ms), next_order_++, std::move(what)});
    std::push_heap(heap_.begin(), heap_.end(), Later());
  }

  // Lets the next thing happen. False where nothing is left.
  bool Next() {
    if (heap_.empty()) return false;
    std::pop_heap(heap_.begin(), heap_.end(), Later());
    const Entry entry = std::move(heap_.back());
    heap_.pop_back();
    now_ms_ = entry.at_ms;
    entry.what();
    return true;
  }

 private:
  struct Entry {
    int64_t at_ms = 0;
    uint64_t order = 0;
    std::function<void()> what;
  };
  struct Later {
    bool operator()(const Entry& a, const Entry& b) const {
      return a.at_ms != b.at_ms ? a.at_ms > b.at_ms : a.order > b.order;
    }
  };

  int64_t now_ms_ = 0;
  uint64_t next_order_ = 0;
  std::vector<Entry> heap_;
};

// A program on a simulated machine. What it has begun ends with its life, and waits while it is frozen.
class Process {
 public:
  explicit Process(Timeline* time) : time_(time) {}
  virtual ~Process() = default;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool up() const { return up_; }
  bool frozen() const { return frozen_; }
  uint64_t life() const { return life_; }

  void Freeze() { frozen_ = up_; }
  // Does what came meanwhile, in order.
  void Thaw() {
    if (!frozen_) return;
    frozen_ = false;
    std::vector<std::function<void()>> backlog = std::exchange(backlog_, {});
    for (auto& what : backlog) After(0, std::move(what));
  }

 protected:
  void After(int64_t ms, std::function<void()> what) {
    time_->After(ms, [this, life = life_, what = std::move(what)]() mutable {
      if (life != life_) return;
      if (frozen_) {
        backlog_.push_back(std::move(what));
      } else {
        what();
      }
    });
  }
  // Now, or when it is thawed; not at all where it is not up.
  void Deliver(std::function<void()> what) {
    if (!up_) return;
    if (frozen_) {
      backlog_.push_back(std::move(what));
    } else {
      what();
    }
  }
  void BeginLife() {
    ++life_;
    up_ = true;
  }
  void EndLife() {
    ++life_;
    up_ = false;
    frozen_ = false;
    backlog_.clear();
  }

 private:
  Timeline* const time_;
  uint64_t life_ = 0;
  bool up_ = false;
  bool frozen_ = false;
  std::vector<std::function<void()>> backlog_;
};

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_TIMELINE_H_
