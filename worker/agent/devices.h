// Which devices a worker drives: those that were named, or what the machine has.
#ifndef STORYFARM_WORKER_AGENT_DEVICES_H_
#define STORYFARM_WORKER_AGENT_DEVICES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "farm/v1/device.pb.h"

namespace storyfarm::worker {

inline constexpr size_t kMaxDevices = 64;  // as many as a coordinator takes of one node

// "cpu,cuda:0,mps" -> its parts. INVALID_ARGUMENT names what is no device, or stands twice, and what would be one.
// "auto" or nothing -> empty.
absl::StatusOr<std::vector<std::string>> ParseDevices(const std::string& text);

// From everything that a machine has: its accelerators, or else its CPU.
std::vector<std::string> ChooseDevices(const std::vector<farm::v1::DeviceReport>& reports);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_DEVICES_H_
