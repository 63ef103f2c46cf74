// Which files of the cache must stay, and for whom: a group's inputs and outputs until it is released, a result's blobs
// until it is answered.
#ifndef STORYFARM_WORKER_AGENT_PINS_H_
#define STORYFARM_WORKER_AGENT_PINS_H_

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/base/file_store.h"

namespace storyfarm::worker {

// Thread-safe.
class Pins {
 public:
  void Add(const std::string& owner, base::FilePin pin) {
    const std::lock_guard<std::mutex> lock(mutex_);
    pins_[owner].push_back(std::move(pin));
  }
  void Drop(const std::string& owner) {
    std::vector<base::FilePin> dropped;
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = pins_.find(owner);
    if (found == pins_.end()) return;
    dropped = std::move(found->second);
    pins_.erase(found);
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::vector<base::FilePin>> pins_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_PINS_H_
