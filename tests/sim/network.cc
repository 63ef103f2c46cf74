#include "tests/sim/network.h"

#include <algorithm>
#include <utility>

namespace storyfarm::sim {

using farm::v1::CoordinatorMessage;
using farm::v1::WorkerMessage;

uint64_t Network::Open(uint32_t node, uint32_t host) {
  Stream& stream = streams_[next_];
  stream.node = node;
  stream.host = host;
  return next_++;
}

std::vector<int64_t> Network::Arrivals(Stream& stream, Way way, bool first) {
  ++messages_;
  Line& line = lines_[stream.node][static_cast<size_t>(way)];
  int64_t& last_ms = stream.last_ms[static_cast<size_t>(way)];
  if (line.drops > 0) {
    --line.drops;
    return {};
  }
  const int64_t latency_ms = dice_.Between(1, 8);
  int64_t at_ms = std::max(time_->now_ms(), line.cut_until_ms) + latency_ms + std::exchange(line.delay_ms, 0);
  at_ms = std::max(at_ms, last_ms);
  std::vector<int64_t> arrivals;
  if (line.reorder_ms > 0) {
    arrivals.push_back(at_ms + std::exchange(line.reorder_ms, 0));
  } else {
    arrivals.push_back(at_ms);
    last_ms = at_ms;
  }
  // A stream's first message opens it: there is no second one.
  if (line.doubles > 0 && !first) {
    --line.doubles;
    arrivals.push_back(at_ms + dice_.Between(0, 2000));
  }
  return arrivals;
}

void Network::SendUp(uint64_t number, WorkerMessage message) {
  const auto stream = streams_.find(number);
  if (stream == streams_.end() || !stream->second.node_open) return;
  if (!stream->second.host_open) return TellNode(number, dice_.Between(1, 8), absl::UnavailableError("reset"));
  for (const int64_t at_ms : Arrivals(stream->second, Way::kUp, message.has_hello())) {
    time_->After(at_ms - time_->now_ms(), [this, number, message] {
      const auto found = streams_.find(number);
      if (found == streams_.end() || !found->second.host_open) return;
      ends_.to_host(found->second.host, number, found->second.node, message);
    });
  }
}

void Network::SendDown(uint64_t number, CoordinatorMessage message) {
  const auto stream = streams_.find(number);
  if (stream == streams_.end() || !stream->second.host_open) return;
  if (!stream->second.node_open) return TellHost(number, dice_.Between(1, 8));
  for (const int64_t at_ms : Arrivals(stream->second, Way::kDown, false)) {
    time_->After(at_ms - time_->now_ms(), [this, number, message] {
      const auto found = streams_.find(number);
      if (found == streams_.end() || !found->second.node_open) return;
      ends_.to_node(found->second.node, number, message);
    });
  }
}

void Network::TellHost(uint64_t number, int64_t after_ms) {
  time_->After(after_ms, [this, number] {
    const auto found = streams_.find(number);
    if (found == streams_.end() || !found->second.host_open) return;
    found->second.host_open = false;
    const uint32_t host = found->second.host;
    Forget(number);
    ends_.host_lost(host, number);
  });
}

void Network::TellNode(uint64_t number, int64_t after_ms, const absl::Status& why) {
  time_->After(after_ms, [this, number, why] {
    const auto found = streams_.find(number);
    if (found == streams_.end() || !found->second.node_open) return;
    found->second.node_open = false;
    const uint32_t node = found->second.node;
    Forget(number);
    ends_.node_lost(node, number, why);
  });
}

void Network::Forget(uint64_t number) {
  const auto found = streams_.find(number);
  if (!found->second.node_open && !found->second.host_open) streams_.erase(found);
}

void Network::NodeLeaves(uint64_t number, bool silently) {
  const auto found = streams_.find(number);
  if (found == streams_.end() || !found->second.node_open) return;
  Stream& stream = found->second;
  stream.node_open = false;
  // The end of a stream comes after what was sent on it.
  const int64_t cut_ms = lines_[stream.node][static_cast<size_t>(Way::kUp)].cut_until_ms;
  const int64_t at_ms = std::max({stream.last_ms[0], cut_ms, time_->now_ms() + dice_.Between(1, 8)});
  const int64_t after_ms = silently ? kDeadPeerMs : std::min(at_ms - time_->now_ms(), kDeadPeerMs);
  if (stream.host_open) {
    TellHost(number, after_ms);
  } else {
    Forget(number);
  }
}

void Network::HostLeaves(uint64_t number, const absl::Status& why, bool silently) {
  const auto found = streams_.find(number);
  if (found == streams_.end() || !found->second.host_open) return;
  Stream& stream = found->second;
  stream.host_open = false;
  const int64_t cut_ms = lines_[stream.node][static_cast<size_t>(Way::kDown)].cut_until_ms;
  const int64_t at_ms = std::max({stream.last_ms[1], cut_ms, time_->now_ms() + dice_.Between(1, 8)});
  const int64_t after_ms = silently ? kDeadPeerMs : std::min(at_ms - time_->now_ms(), kDeadPeerMs);
  if (stream.node_open) {
    TellNode(number, after_ms, why);
  } else {
    Forget(number);
  }
}

void Network::HostDies(uint32_t host, bool silently) {
  std::vector<uint64_t> ended;
  for (const auto& [number, stream] : streams_) {
    if (stream.host == host && stream.host_open) ended.push_back(number);
  }
  for (const uint64_t number : ended) HostLeaves(number, absl::UnavailableError("connection reset"), silently);
}

void Network::GiveUp(const std::function<bool(const Stream&)>& which) {
  for (const auto& [number, stream] : streams_) {
    if (!which(stream)) continue;
    TellHost(number, dice_.Between(0, 2000));
    TellNode(number, dice_.Between(0, 2000), absl::UnavailableError("keepalive"));
  }
}

void Network::HostFroze(uint32_t host) {
  GiveUp([host](const Stream& stream) { return stream.host == host; });
}

void Network::NodeFroze(uint32_t node) {
  GiveUp([node](const Stream& stream) { return stream.node == node; });
}

bool Network::Reachable(uint32_t node) const {
  return lines_[node][0].cut_until_ms <= time_->now_ms() && lines_[node][1].cut_until_ms <= time_->now_ms();
}

void Network::Heal() {
  for (auto& lines : lines_) lines = {};
}

void Network::Cut(uint32_t node, Way way, int64_t ms) {
  int64_t& until_ms = line(node, way).cut_until_ms;
  until_ms = std::max(until_ms, time_->now_ms() + ms);
  if (ms < kDeadPeerMs) return;
  time_->After(kDeadPeerMs, [this, node] {
    // Both ends find out by themselves, each in its own time.
    GiveUp([node](const Stream& stream) { return stream.node == node; });
  });
}

}  // namespace storyfarm::sim
