#include "worker/agent/blob_sources.h"

#include <algorithm>
#include <utility>

namespace storyfarm::worker {
namespace {

// Each try of DownloadTo lasts about half a minute of silence: long enough in all for a coordinator's restart or a
// machine's reboot.
constexpr int kMaxTries = 8;

// A peer is asked once and left as soon as it stalls: the coordinator has all that it could give.
constexpr int kPeerAttempts = 1;
constexpr absl::Duration kPeerStall = absl::Seconds(5);

// Connections to peers that are kept: those of a farm of people's machines.
constexpr size_t kMostPeers = 64;

bool WorthAnotherTry(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsAborted(status) || absl::IsDeadlineExceeded(status);
}

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

std::shared_ptr<BlobSources::Stub> BlobSources::PeerAt(const std::string& address) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto known = peers_.find(address);
  if (known != peers_.end()) return known->second;
  if (peers_.size() >= kMostPeers) peers_.erase(peers_.begin());
  return peers_[address] = connect_to_(address);
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
    once.stall = kPeerStall;
    for (const farm::v1::Peer& peer : peers) {
      if (!worker::Has(peer, blob.digest())) continue;
      through = 0;
      absl::StatusOr<base::FilePin> pin = base::DownloadTo(*PeerAt(peer.address()), cache_, blob, once);
      if (pin.ok()) {
        came(&fetched->from_peers);
        return pin;
      }
      if (absl::IsResourceExhausted(pin.status()) || absl::IsCancelled(pin.status())) return pin;
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
