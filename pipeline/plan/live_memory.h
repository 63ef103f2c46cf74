// What the farm may count on of a device's memory as it is now.
#ifndef STORYFARM_PIPELINE_PLAN_LIVE_MEMORY_H_
#define STORYFARM_PIPELINE_PLAN_LIVE_MEMORY_H_

#include <cstdint>

#include "farm/v1/device.pb.h"

namespace storyfarm::plan {

// What is free, and what the device's own engine holds, since that frees or uses it for the next group. Where the
// system presses for memory, less of what is free: half at a warning, as other programs are about to ask for it, and
// nothing where it is critical: the farm then makes do with what it has. Coordinator and worker count alike.
uint64_t UsableBytes(const farm::v1::DeviceMemory& memory);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_LIVE_MEMORY_H_
