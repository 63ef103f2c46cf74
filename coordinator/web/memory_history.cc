#include "coordinator/web/memory_history.h"

#include <nlohmann/json.hpp>
#include <set>

namespace storyfarm::coordinator {
namespace {

uint32_t Mib(uint64_t bytes) { return static_cast<uint32_t>(bytes >> 20); }

}  // namespace

void MemoryHistory::Add(uint64_t unix_ms, const farm::v1::ListNodesResponse& nodes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  // A clock that was set back must not stop the curves.
  if (unix_ms >= last_unix_ms_ && unix_ms < last_unix_ms_ + kSampleMs) return;
  last_unix_ms_ = unix_ms;
  std::set<std::pair<std::string, uint32_t>> listed;
  for (const farm::v1::NodeStatus& node : nodes.nodes()) {
    for (const farm::v1::DeviceStatus& device : node.devices()) {
      const auto key = std::make_pair(node.node_id(), device.report().index());
      listed.insert(key);
      if (!node.connected() || (devices_.count(key) == 0 && devices_.size() >= kSampledDevices)) continue;
      std::deque<Sample>& samples = devices_[key];
      const farm::v1::DeviceMemory& memory = device.memory();
      samples.push_back({static_cast<uint32_t>(unix_ms / 1000), Mib(memory.farm_bytes()), Mib(memory.others_bytes()),
                         Mib(memory.free_bytes()), Mib(device.planned_bytes())});
      if (samples.size() > kSamples) samples.pop_front();
    }
  }
  std::erase_if(devices_, [&listed](const auto& device) { return listed.count(device.first) == 0; });
}

std::string MemoryHistory::Json(const std::string& node_id) const {
  nlohmann::ordered_json json;
  json["sample_ms"] = kSampleMs;
  json["devices"] = nlohmann::ordered_json::array();
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto device = devices_.lower_bound({node_id, 0}); device != devices_.end() && device->first.first == node_id;
       ++device) {
    nlohmann::ordered_json samples = nlohmann::ordered_json::array();
    for (const Sample& sample : device->second) {
      samples.push_back({sample.unix_s, sample.farm_mib, sample.others_mib, sample.free_mib, sample.planned_mib});
    }
    json["devices"].push_back({{"index", device->first.second}, {"samples", std::move(samples)}});
  }
  return json.dump();
}

}  // namespace storyfarm::coordinator
