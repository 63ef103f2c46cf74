// Which devices a worker drives: those that were named, or what the machine has.
#ifndef STORYFARM_WORKER_AGENT_DEVICES_H_
#define STORYFARM_WORKER_AGENT_DEVICES_H_

#include <string>
#include <vector>

#include "farm/v1/device.pb.h"

namespace storyfarm::worker {

// From everything that a machine has: its accelerators, and its CPU, last, where the accelerators have memory of their
// own. Where they share the CPU's (MPS) it would only take from them.
std::vector<std::string> ChooseDevices(const std::vector<farm::v1::DeviceReport>& reports);

// CPU threads of the CPU's own engine beside so many accelerators: each keeps one thread, which feeds it.
int CpuThreadsBeside(size_t accelerators, const std::vector<farm::v1::DeviceReport>& reports);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_DEVICES_H_
