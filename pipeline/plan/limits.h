// What the farm may take of a worker's machine (farm.v1.WorkerLimits): read, told in words, applied to its devices.
// Coordinator, worker and storyctl agree through it.
#ifndef STORYFARM_PIPELINE_PLAN_LIMITS_H_
#define STORYFARM_PIPELINE_PLAN_LIMITS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "farm/v1/client.pb.h"
#include "farm/v1/device.pb.h"
#include "farm/v1/limits.pb.h"

namespace storyfarm::plan {

inline constexpr size_t kMaxDevices = 64;  // as many as a coordinator takes of one node

// "cpu,cuda:0,mps" -> its parts. INVALID_ARGUMENT names what is no device, or stands twice, and what would be one.
// "auto" or nothing -> empty.
absl::StatusOr<std::vector<std::string>> ParseDevices(const std::string& text);

// The limits with what `change` gives in place of what they say. INVALID_ARGUMENT names what can't be read and how it
// is written.
absl::StatusOr<farm::v1::WorkerLimits> ChangeLimits(farm::v1::WorkerLimits limits,
                                                    const farm::v1::LimitNodeRequest& change);

// Whether nothing is limited.
bool IsUnlimited(const farm::v1::WorkerLimits& limits);

// Whether the farm may use this device at all.
bool Lends(const farm::v1::WorkerLimits& limits, const farm::v1::DeviceReport& device);

// "at most 8 GB of each device; cuda:0 alone; mon-fri 20:00-08:00; on mains power; when nobody used it for 10 min".
// Empty: nothing is limited.
std::string LimitsInWords(const farm::v1::WorkerLimits& limits);

// "8 GB", "1.25 GB": as --memory-gb takes it, of 10^9 bytes, rounded up to a hundredth.
std::string GigabytesText(uint64_t bytes);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_LIMITS_H_
