#include "worker/agent/blob_sources.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::worker {
namespace {

// Each try of DownloadTo lasts about half a minute of silence: long enough in all for a coordinator's restart or a
// machine's reboot.
constexpr int kMaxTries = 8;

// A peer is asked once: the coordinator has all that it could give.
constexpr int kPeerAttempts = 1;

// Connections to peers that are kept: those of a farm of people's machines.
constexpr size_t kMostPeers = 64;

bool WorthAnotherTry(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsAborted(status) || absl::IsDeadlineExceeded(status);
}

// It answered, if only that it has not the blob or serves others just now. (Where this machine's own disk is full, the
// coordinator's copy finds no room either.)
bool IsSound(const absl::Status& status) {
  return status.ok() || absl::IsNotFound(status) || absl::IsResourceExhausted(status);
}

std::string KeyOf(const farm::v1::Peer& peer) { return absl::StrCat(peer.address(), " ", peer.certificate_host()); }

bool Has(const farm::v1::Peer& peer, const std::string& digest) {
  return std::find(peer.digests().begin(), peer.digests().end(), digest) != peer.digests().end();
}

}  // namespace

bool BlobSources::Has(const base::Digest& digest) {
  if (!cache_.Has(digest)) return false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (checked_.count(digest) > 0) return true;
  }
  if (!cache_.KeepIfWhole(digest)) return false;
  const std::lock_guard<std::mutex> lock(mutex_);
  checked_.insert(digest);
  return true;
}

std::shared_ptr<BlobSources::Stub> BlobSources::PeerFor(const farm::v1::Peer& peer) {
  const std::string key = KeyOf(peer);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (peers_.count(key) == 0 && peers_.size() >= kMostPeers) peers_.erase(peers_.begin());
  Known& known = peers_[key];
  if (known.failures > 0 && std::chrono::steady_clock::now() < known.not_before) return nullptr;
  if (known.stub == nullptr) known.stub = connect_to_(peer);
  return known.stub;
}

void BlobSources::Answered(const farm::v1::Peer& peer, const absl::Status& status) {
  if (!IsSound(status) && patience_.left) patience_.left(peer, status);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = peers_.find(KeyOf(peer));
  if (IsSound(status)) {
    if (found != peers_.end()) found->second.failures = 0;
    return;
  }
  if (found == peers_.end()) return;
  Known& known = found->second;
  absl::Duration rest = patience_.first_rest;
  for (int i = 0; i < known.failures && rest < patience_.most_rest; ++i) rest *= 2;
  ++known.failures;
  known.not_before =
      std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(std::min(rest, patience_.most_rest));
}

absl::StatusOr<base::FilePin> BlobSources::Fetch(const farm::v1::BlobRef& blob,
                                                 const std::vector<farm::v1::Peer>& peers, base::TransferCancel* cancel,
                                                 FetchedBytes* fetched) {
  const absl::StatusOr<base::Digest> digest = base::Digest::FromBytes(blob.digest());
  if (!digest.ok()) return digest.status();
  uint64_t through = 0;  // of this try; 0 too where another group has just brought it
  base::TransferOptions options;
  options.cancel = cancel;
  options.progress = [&through](uint64_t bytes) { through = bytes; };
  const auto came = [&](uint64_t* sum) {
    *sum += through;
    const std::lock_guard<std::mutex> lock(mutex_);
    checked_.insert(*digest);
  };
  const bool here = Has(*digest);
  if (!here) {
    base::TransferOptions once = options;
    once.max_attempts = kPeerAttempts;
    once.stall = patience_.stall;
    once.stall_bytes = patience_.stall_bytes;
    for (const farm::v1::Peer& peer : peers) {
      if (!worker::Has(peer, blob.digest())) continue;
      const std::shared_ptr<Stub> stub = PeerFor(peer);
      if (stub == nullptr) continue;
      through = 0;
      absl::StatusOr<base::FilePin> pin = base::DownloadTo(*stub, cache_, blob, once);
      if (cancel != nullptr && cancel->cancelled()) return absl::CancelledError("The transfer was stopped.");
      Answered(peer, pin.status());
      if (pin.ok()) {
        came(&fetched->from_peers);
        return pin;
      }
    }
  }
  through = 0;
  absl::StatusOr<base::FilePin> pin = base::DownloadTo(coordinator_, cache_, blob, options);
  for (int tries = 1; tries < kMaxTries && !pin.ok() && WorthAnotherTry(pin.status()); ++tries) {
    pin = base::DownloadTo(coordinator_, cache_, blob, options);
  }
  if (pin.ok() && !here) came(&fetched->from_coordinator);
  return pin;
}

int BlobSources::DropDamaged(const std::vector<std::string>& digests) {
  int dropped = 0;
  for (const std::string& bytes : digests) {
    const absl::StatusOr<base::Digest> digest = base::Digest::FromBytes(bytes);
    if (!digest.ok() || cache_.KeepIfWhole(*digest)) continue;
    ++dropped;
    const std::lock_guard<std::mutex> lock(mutex_);
    checked_.erase(*digest);
  }
  return dropped;
}

}  // namespace storyfarm::worker
