#include "pipeline/plan/live_memory.h"

namespace storyfarm::plan {

uint64_t UsableBytes(const farm::v1::DeviceMemory& memory) {
  switch (memory.pressure()) {
    case farm::v1::PRESSURE_WARNING:
      return memory.farm_bytes() + memory.free_bytes() / 2;
    case farm::v1::PRESSURE_CRITICAL:
      return memory.farm_bytes();
    default:
      return memory.farm_bytes() + memory.free_bytes();
  }
}

}  // namespace storyfarm::plan
