#include "worker/agent/devices.h"

#include <algorithm>

#include "pipeline/plan/limits.h"
#include "pipeline/plan/names.h"

namespace storyfarm::worker {

std::vector<std::string> ChooseDevices(const std::vector<farm::v1::DeviceReport>& reports) {
  std::vector<std::string> devices;
  bool shared = false;
  for (const farm::v1::DeviceReport& report : reports) {
    if (report.backend() == farm::v1::CPU || devices.size() + 1 == plan::kMaxDevices) continue;
    devices.push_back(plan::DeviceName(report));
    shared |= report.unified();
  }
  if (!shared) devices.push_back("cpu");
  return devices;
}

int CpuThreadsBeside(size_t accelerators, const std::vector<farm::v1::DeviceReport>& reports) {
  for (const farm::v1::DeviceReport& report : reports) {
    if (report.backend() != farm::v1::CPU) continue;
    return std::max(1, static_cast<int>(report.threads()) - static_cast<int>(accelerators));
  }
  return 0;
}

}  // namespace storyfarm::worker
