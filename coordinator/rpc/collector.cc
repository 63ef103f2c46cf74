#include "coordinator/rpc/collector.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {
namespace {

// What the durable state needs, as of one moment.
struct Roots {
  BlobSizes live;
  std::vector<std::string> archived;  // job ids
};

absl::StatusOr<Roots> TakeRoots(Loop& loop) {
  std::promise<absl::StatusOr<Roots>> taken;
  loop.LookAtDurable([&taken](const Farm* farm, uint64_t) {
    if (farm == nullptr) return taken.set_value(absl::UnavailableError("the coordinator is going down"));
    Roots roots;
    roots.live = farm->LiveBlobs();
    roots.archived = farm->ArchivedJobs();
    taken.set_value(std::move(roots));
  });
  return taken.get_future().get();
}

absl::Status Tell(Loop& loop, std::function<Input(uint64_t)> make) {
  std::promise<absl::Status> answered;
  loop.Ask(std::move(make), [&answered](const Reply& reply) { answered.set_value(reply.status); });
  return answered.get_future().get();
}

// Those of the unused ones that nothing names.
absl::StatusOr<std::vector<std::string>> FindUnneeded(const Collector::Parts& parts) {
  const std::vector<std::string> listed = parts.blobs->Unused();
  std::set<std::string> unused(listed.begin(), listed.end());
  if (unused.empty()) return std::vector<std::string>();
  const absl::StatusOr<Roots> roots = TakeRoots(*parts.loop);
  if (!roots.ok()) return roots.status();
  for (const auto& [digest, size_bytes] : roots->live) unused.erase(digest);
  for (const std::string& job_id : roots->archived) {
    if (unused.empty()) break;
    // Not there: it was removed meanwhile, or is damaged. Either way this round knows too little.
    const auto body = parts.loop->ReadArchive(job_id);
    if (!body.ok()) return body.status();
    BlobSizes named;
    coordinator::CollectBlobs(*body, &named);
    for (const auto& [digest, size_bytes] : named) unused.erase(digest);
  }
  return std::vector<std::string>(unused.begin(), unused.end());
}

// Takes away what is condemned, durably.
absl::StatusOr<size_t> UnlinkCondemned(const Collector::Parts& parts) {
  const std::vector<std::string> condemned = parts.blobs->Condemned();
  absl::Status trouble;
  std::vector<std::string> gone;
  for (const std::string& digest : condemned) {
    if (!parts.loop->leads()) {
      trouble = absl::UnavailableError("it is not certain that this coordinator still leads");
      break;
    }
    if (absl::Status unlinked = parts.blobs->Unlink(digest); !unlinked.ok()) {
      trouble = unlinked;
    } else {
      gone.push_back(digest);
    }
  }
  for (size_t first = 0; first < gone.size(); first += kCondemnedAtOnce) {
    const auto from = gone.begin() + static_cast<std::ptrdiff_t>(first);
    const auto to = gone.begin() + static_cast<std::ptrdiff_t>(std::min(gone.size(), first + kCondemnedAtOnce));
    const absl::Status told = Tell(*parts.loop, [from, to](uint64_t number) {
      return Input(BlobsUnlinked{number, std::vector<std::string>(from, to)});
    });
    if (!told.ok()) return told;
  }
  if (!trouble.ok()) return trouble;
  return gone.size();
}

}  // namespace

absl::StatusOr<size_t> CollectBlobsOnce(const Collector::Parts& parts) {
  absl::StatusOr<size_t> before = UnlinkCondemned(parts);
  if (!before.ok()) return before;
  size_t removed = *before;
  const auto unneeded = FindUnneeded(parts);
  if (!unneeded.ok()) return unneeded.status();
  for (size_t at = 0; at < unneeded->size();) {
    std::vector<std::string> digests;
    for (; at < unneeded->size() && digests.size() < kCondemnedAtOnce; ++at) {
      if (parts.blobs->Condemn((*unneeded)[at])) digests.push_back((*unneeded)[at]);
    }
    if (digests.empty()) continue;
    const absl::Status recorded = Tell(*parts.loop, [&digests](uint64_t number) {
      return Input(CondemnBlobs{number, digests});
    });
    // Refused before it was taken: nothing is recorded. Any other error leaves that open, and the files alone.
    if (absl::IsResourceExhausted(recorded)) {
      for (const std::string& digest : digests) parts.blobs->Spare(digest);
    }
    if (!recorded.ok()) return recorded;
    const absl::StatusOr<size_t> gone = UnlinkCondemned(parts);
    if (!gone.ok()) return gone;
    removed += *gone;
  }
  return removed;
}

Collector::Collector(const Parts& parts) : parts_(parts), thread_([this] { Main(); }) {}

void Collector::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Collector::Main() {
  for (;;) {
    const uint64_t before_bytes = parts_.blobs->used_bytes();
    const absl::StatusOr<size_t> removed = CollectBlobsOnce(parts_);
    std::unique_lock<std::mutex> lock(mutex_);
    if (stopping_) return;
    if (!removed.ok()) {
      parts_.log->Warning("blobs that nothing needs were not all removed, tried again in an hour",
                          {{"why", std::string(removed.status().message())}});
    } else if (*removed > 0) {
      parts_.log->Info(
          "removed blobs that nothing needs",
          {{"blobs", *removed}, {"bytes_before", before_bytes}, {"bytes_after", parts_.blobs->used_bytes()}});
    }
    changed_.wait_for(lock, std::chrono::milliseconds(kCollectMs), [this] { return stopping_; });
    if (stopping_) return;
  }
}

}  // namespace storyfarm::coordinator
