// The last lines of this process's log, for people at other machines (ReadLog): what the coordinator decided and what
// it heard, each line with the job, task and node that it concerns. In memory: older lines are on the coordinator's
// stderr. Thread-safe.
#ifndef STORYFARM_COORDINATOR_RPC_LOG_BOOK_H_
#define STORYFARM_COORDINATOR_RPC_LOG_BOOK_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "farm/v1/client.pb.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

// About 300 bytes each: 6 MB. A studio's farm finishes some frames a minute, two lines each: days.
inline constexpr size_t kLogBookLines = 20'000;
inline constexpr uint32_t kLogPage = 100;  // where a request does not say how many
inline constexpr uint32_t kMostLogPage = 1'000;

class LogBook {
 public:
  // `incarnation`: random, never 0; tells this process's numbers from those of another.
  explicit LogBook(uint64_t incarnation, size_t most_lines = kLogBookLines)
      : incarnation_(incarnation), most_lines_(most_lines) {}

  void Add(const base::LogLine& line);

  // `nodes`: names and ids under which lines may call the node that is asked for; empty: any node.
  farm::v1::ReadLogResponse Read(const farm::v1::ReadLogRequest& request, const std::vector<std::string>& nodes) const;

 private:
  const uint64_t incarnation_;
  const size_t most_lines_;
  mutable std::mutex mutex_;
  uint64_t next_number_ = 1;
  std::deque<farm::v1::LogLine> lines_;  // numbered without gaps
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_LOG_BOOK_H_
