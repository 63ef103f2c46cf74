// The network between nodes and coordinators. A stream keeps its messages in order, as TCP does, until a fault drops,
// doubles, delays or reorders one; either end may believe it alive after the other has given it up.
#ifndef STORYFARM_TESTS_SIM_NETWORK_H_
#define STORYFARM_TESTS_SIM_NETWORK_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "farm/v1/session.pb.h"
#include "tests/sim/dice.h"
#include "tests/sim/timeline.h"

namespace storyfarm::sim {

// Whoever has a stream that passes nothing notices after this long, by keepalive.
inline constexpr int64_t kDeadPeerMs = 6000;

enum class Way : uint8_t { kUp, kDown };  // from node to coordinator, and back

class Network {
 public:
  struct Ends {
    std::function<void(uint32_t host, uint64_t stream, uint32_t node, farm::v1::WorkerMessage)> to_host;
    std::function<void(uint32_t host, uint64_t stream)> host_lost;
    std::function<void(uint32_t node, uint64_t stream, farm::v1::CoordinatorMessage)> to_node;
    std::function<void(uint32_t node, uint64_t stream, const absl::Status& why)> node_lost;
  };

  Network(Timeline* time, uint64_t seed, uint32_t nodes) : time_(time), dice_(seed, 1), lines_(nodes) {}
  void Connect(Ends ends) { ends_ = std::move(ends); }

  // A new stream; its number is never used again.
  uint64_t Open(uint32_t node, uint32_t host);
  void SendUp(uint64_t stream, farm::v1::WorkerMessage message);
  void SendDown(uint64_t stream, farm::v1::CoordinatorMessage message);
  // An end goes away. `silently`: the other hears nothing and notices by keepalive.
  void NodeLeaves(uint64_t stream, bool silently);
  void HostLeaves(uint64_t stream, const absl::Status& why, bool silently);
  // All of a host's streams.
  void HostDies(uint32_t host, bool silently);
  // What has been frozen for kDeadPeerMs answers no keepalive: its streams break.
  void HostFroze(uint32_t host);
  void NodeFroze(uint32_t node);

  // Whether a request of another connection (blobs) would get through now.
  bool Reachable(uint32_t node) const;

  // ---- Faults
  void Cut(uint32_t node, Way way, int64_t ms);
  void Drop(uint32_t node, Way way) { ++line(node, way).drops; }
  void Double(uint32_t node, Way way) { ++line(node, way).doubles; }
  void Delay(uint32_t node, Way way, int64_t ms) { line(node, way).delay_ms = ms; }
  void Heal();  // none of it any more
  void Reorder(uint32_t node, Way way, int64_t ms) { line(node, way).reorder_ms = ms; }

  uint64_t messages() const { return messages_; }

 private:
  struct Line {
    int64_t cut_until_ms = 0;
    uint32_t drops = 0;
    uint32_t doubles = 0;
    int64_t delay_ms = 0;
    int64_t reorder_ms = 0;
  };
  struct Stream {
    uint32_t node = 0;
    uint32_t host = 0;
    bool node_open = true;
    bool host_open = true;
    int64_t last_ms[2] = {0, 0};  // arrival of the last message, by Way
  };

  Line& line(uint32_t node, Way way) { return lines_[node][static_cast<size_t>(way)]; }
  // When each copy of the next message arrives; none: it is lost.
  std::vector<int64_t> Arrivals(Stream& stream, Way way, bool first);
  void TellHost(uint64_t stream, int64_t after_ms);
  void TellNode(uint64_t stream, int64_t after_ms, const absl::Status& why);
  void Forget(uint64_t stream);
  void GiveUp(const std::function<bool(const Stream&)>& which);

  Timeline* const time_;
  Dice dice_;
  Ends ends_;
  std::vector<std::array<Line, 2>> lines_;
  std::map<uint64_t, Stream> streams_;
  uint64_t next_ = 1;
  uint64_t messages_ = 0;
};

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_NETWORK_H_
