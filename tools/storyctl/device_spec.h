// A device in words, for `plan`: a machine that one does not own, or does not own yet.
#ifndef STORYFARM_TOOLS_STORYCTL_DEVICE_SPEC_H_
#define STORYFARM_TOOLS_STORYCTL_DEVICE_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "farm/v1/device.pb.h"

namespace storyfarm::storyctl {

struct DeviceSpec {
  std::string text;                  // as written
  farm::v1::DeviceReport report;     // what a worker on that machine would say of it
  std::vector<std::string> assumed;  // what the words left open, a sentence each
  bool speed_assumed = false;
};

// Parts with commas between, the backend first: "cuda", "mps" or "cpu", then in any order
//   SIZE              memory of the device in all: 16GiB, 8GB, 512MB
//   unified           device and host share it; Apple's GPUs and processors always do
//   free=SIZE         of it, what is free
//   recommended=SIZE  the working set that Metal advises
//   speed=NUMBER      TFLOP/s of a large matrix product, "tflops" may follow
//   threads=NUMBER    CPU threads
//   name=TEXT         for messages
// A size or free= is needed. INVALID_ARGUMENT names the part that is wrong and shows an example.
absl::StatusOr<DeviceSpec> ParseDeviceSpec(const std::string& text);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_DEVICE_SPEC_H_
