// Follows the farm for all pages that are open: asks for nodes and jobs once a second, whoever many look, and has one
// stream for each job that somebody looks at. Each page gets what changed since it was last told.
//
//   FarmDoor <── ListNodes, ListJobs, 1 s ── FarmFollower's thread ──> newest lists ──┐
//            <── WatchJob ── a thread a job that is looked at ───────> newest status ─┴─> OpenPage::Next ─> SSE
//                                           MemoryHistory <── every list of nodes
#ifndef STORYFARM_COORDINATOR_WEB_FARM_FOLLOWER_H_
#define STORYFARM_COORDINATOR_WEB_FARM_FOLLOWER_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "coordinator/web/changes.h"
#include "coordinator/web/farm_door.h"
#include "coordinator/web/memory_history.h"
#include "pipeline/base/env.h"

namespace storyfarm::coordinator {

// Open pages: each takes a thread of the server and a connection.
inline constexpr size_t kOpenPages = 48;
inline constexpr int64_t kPollMs = 1'000;
// A job that has ended changes only where a person removes it, or asks for its failed panels once more.
inline constexpr int64_t kEndedJobMs = 5'000;
// Jobs that a page shows without being asked for older ones.
inline constexpr uint32_t kJobsShown = 100;

class FarmFollower;

// What one browser's page is told. One thread.
class OpenPage {
 public:
  ~OpenPage();
  OpenPage(const OpenPage&) = delete;
  OpenPage& operator=(const OpenPage&) = delete;

  // Waits for something new, at most `wait_ms`: events in the form of server-sent events (WHATWG HTML, 9.2), empty where
  // nothing came. None: the server stops.
  //   farm   {"trouble": "..."}           why the farm does not answer; empty: it does
  //   nodes  {"order": [...], "changed": [NodeStatus, ...]}
  //   jobs   {"order": [...], "changed": [JobStatus, ...], "more": whether there are older ones}
  //   job    JobStatus of the job that the page looks at, with the tasks that changed
  //   gone   {"job_id": ..., "trouble": "..."}   that job can't be followed
  std::optional<std::string> Next(int64_t wait_ms);

 private:
  friend class FarmFollower;
  struct JobFeed;
  OpenPage(FarmFollower* follower, std::shared_ptr<JobFeed> feed);

  FarmFollower* const follower_;
  const std::shared_ptr<JobFeed> feed_;  // null: it looks at no job
  // As far as it was told.
  uint64_t farm_version_ = 0;
  uint64_t nodes_version_ = 0;
  uint64_t jobs_version_ = 0;
  uint64_t feed_version_ = 0;
  Changes<std::string> nodes_;
  Changes<std::string> jobs_;
  Changes<std::pair<int, uint32_t>> tasks_;
};

class FarmFollower {
 public:
  // All of it outlives this.
  FarmFollower(FarmDoor* door, base::Env* env, MemoryHistory* history);
  ~FarmFollower();

  // A page that looks at a job as well, unless `job_id` is empty. RESOURCE_EXHAUSTED where too many are open. It must
  // not outlive this.
  absl::StatusOr<std::unique_ptr<OpenPage>> Open(const std::string& job_id);
  // Ends the waits of all pages, and all following. Any thread.
  void Stop();

  size_t open_pages() const;

 private:
  friend class OpenPage;
  void Main();
  void Poll(bool for_pages);
  // Every job with work left, then the newest of the others.
  absl::StatusOr<farm::v1::ListJobsResponse> AskForJobs();
  void Follow(std::shared_ptr<OpenPage::JobFeed> feed);
  // Waits where the stream broke or the job has ended; true where it shall be opened again.
  bool PauseBeforeAgain(const OpenPage::JobFeed& feed, int64_t ms);
  void Close(const std::shared_ptr<OpenPage::JobFeed>& feed);

  FarmDoor* const door_;
  base::Env* const env_;
  MemoryHistory* const history_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // something new, or stopping
  std::condition_variable wanted_;   // a page was opened, or stopping
  bool stopping_ = false;
  size_t pages_ = 0;
  std::string trouble_;
  uint64_t farm_version_ = 1;
  std::shared_ptr<const farm::v1::ListNodesResponse> node_list_;
  uint64_t nodes_version_ = 0;
  std::shared_ptr<const farm::v1::ListJobsResponse> job_list_;
  uint64_t jobs_version_ = 0;
  std::map<std::string, std::shared_ptr<OpenPage::JobFeed>> feeds_;  // by job
  std::thread thread_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_FARM_FOLLOWER_H_
