// Holds dispatch back while the disk of the blob folder is nearly full: what would be rendered could not be kept. What
// was handed out goes on, and its results are taken while there is room at all. Behind server.h.
//
//   free < low_bytes ──> Loop: HoldDispatch(why)       free >= low_bytes and a half of it more ──> HoldDispatch("")
#ifndef STORYFARM_COORDINATOR_RPC_DISK_WATCH_H_
#define STORYFARM_COORDINATOR_RPC_DISK_WATCH_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "coordinator/rpc/loop.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

// One statvfs. The disk of a farm that renders fills by megabytes a second, not by more than the mark in this time.
inline constexpr int64_t kDiskWatchMs = 5'000;
// Uploads are refused where less than 256 MiB would stay free (blob_store.h): results of what is under way fit into
// what the mark leaves above that.
inline constexpr uint64_t kLowDiskMib = 512;

class DiskWatch {
 public:
  // All of it outlives the watch. The loop runs.
  struct Parts {
    Loop* loop = nullptr;
    base::Env* env = nullptr;
    base::Log* log = nullptr;
    std::string folder;
    uint64_t low_bytes = 0;  // above 0
  };
  // Looks once before it returns, then every kDiskWatchMs on a thread of its own.
  explicit DiskWatch(Parts parts);
  ~DiskWatch() { Stop(); }
  void Stop();
  // Looks now. Any thread.
  void Look();

 private:
  void Main();

  const Parts parts_;
  const uint64_t enough_bytes_;
  std::mutex looking_;
  bool low_ = false;      // under looking_
  bool unknown_ = false;  // under looking_
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_DISK_WATCH_H_
