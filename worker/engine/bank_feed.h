// Steps of banks that are computed elsewhere while a run here reads them: the socket's reader puts them in, the run's
// reading threads wait for them.
#ifndef STORYFARM_WORKER_ENGINE_BANK_FEED_H_
#define STORYFARM_WORKER_ENGINE_BANK_FEED_H_

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "absl/status/statusor.h"

namespace storyfarm::engine {

// Thread-safe. Runs are numbered upwards, as requests are.
class BankFeed {
 public:
  // `path` is empty where nobody reads the step.
  void Put(uint64_t run, uint32_t character, uint32_t step, const std::string& path);
  // Waits until the step is there. CANCELLED once the run has ended.
  absl::StatusOr<std::string> Wait(uint64_t run, uint32_t character, uint32_t step);
  // Forgets what this run and those before it were given, and ends all waiting for it.
  void End(uint64_t run);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::tuple<uint64_t, uint32_t, uint32_t>, std::string> paths_;  // of runs that have not ended
  uint64_t ended_ = 0;                                                     // runs up to this one have
};

}  // namespace storyfarm::engine

#endif  // STORYFARM_WORKER_ENGINE_BANK_FEED_H_
