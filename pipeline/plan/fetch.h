// Blobs on their way to a device: how long that takes, and whether identity state is fetched or computed there.
#ifndef STORYFARM_PIPELINE_PLAN_FETCH_H_
#define STORYFARM_PIPELINE_PLAN_FETCH_H_

#include <cstdint>

#include "farm/v1/device.pb.h"

namespace storyfarm::plan {

// Seconds to bring so many bytes from the coordinator into the device's cache: at the slower of its network and its
// cache disk, as measured; over a gigabit network where nobody measured it.
double FetchSeconds(const farm::v1::DeviceReport& device, uint64_t bytes);

struct FetchOrCompute {
  bool fetch = true;
  double fetch_s = 0;
};
// A bank of which the device lacks `missing_bytes` and which it would compute in `compute_s` (0: not known). It is
// fetched unless computing is sooner by what was measured: a network rate that is only assumed overrules no pack.
FetchOrCompute ChooseFetchOrCompute(const farm::v1::DeviceReport& device, uint64_t missing_bytes, double compute_s);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_FETCH_H_
