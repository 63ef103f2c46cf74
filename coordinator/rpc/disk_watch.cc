#include "coordinator/rpc/disk_watch.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {

DiskWatch::DiskWatch(Parts parts) : parts_(std::move(parts)), enough_bytes_(parts_.low_bytes + parts_.low_bytes / 2) {
  Look();
  thread_ = std::thread([this] { Main(); });
}

void DiskWatch::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void DiskWatch::Look() {
  const std::lock_guard<std::mutex> lock(looking_);
  const absl::StatusOr<uint64_t> free = parts_.env->FreeBytes(parts_.folder);
  if (!free.ok()) {
    // Uploads say what is wrong with the folder; this only tells that nothing holds dispatch back meanwhile.
    if (!std::exchange(unknown_, true)) {
      parts_.log->Warning("how full the disk of blobs is can't be told",
                          {{"folder", parts_.folder}, {"why", std::string(free.status().message())}});
    }
    return;
  }
  unknown_ = false;
  const bool low = *free < (low_ ? enough_bytes_ : parts_.low_bytes);
  if (low == low_) return;
  low_ = low;
  if (low) {
    parts_.log->Warning("disk low: nothing is handed out until there is room",
                        {{"folder", parts_.folder}, {"free_bytes", *free}, {"until_bytes", enough_bytes_}});
    const std::string why = absl::StrCat("the coordinator's disk is nearly full (", *free >> 20, " MiB are free in ",
                                         parts_.folder, "); it goes on when ", enough_bytes_ >> 20,
                                         " MiB are: make room, or remove old jobs with storyctl rm");
    parts_.loop->Tell(HoldDispatch{why}, {});
  } else {
    parts_.log->Info("disk has room again: work is handed out", {{"folder", parts_.folder}, {"free_bytes", *free}});
    parts_.loop->Tell(HoldDispatch{}, {});
  }
}

void DiskWatch::Main() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, std::chrono::milliseconds(kDiskWatchMs), [this] { return stopping_; })) {
    lock.unlock();
    Look();
    lock.lock();
  }
}

}  // namespace storyfarm::coordinator
