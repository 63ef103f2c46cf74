// The machine beneath: processors and memory as the operating system and its control groups say. Internal to this
// folder.
#ifndef STORYFARM_PIPELINE_DEVICE_HOST_H_
#define STORYFARM_PIPELINE_DEVICE_HOST_H_

#include <cstdint>
#include <string>

namespace storyfarm::device {

struct HostMemory {
  uint64_t total_bytes = 0;  // physical
  uint64_t free_bytes = 0;   // what a process may still take, caches counted as free; at most what the cgroup leaves
  uint64_t limit_bytes = 0;  // the cgroup's; 0: none
};
HostMemory ReadHostMemory();

struct ProcessMemory {
  uint64_t resident_bytes = 0;
  uint64_t file_bytes = 0;  // of those: pages of files, for the most part of libraries; where the system counts them
  uint64_t peak_bytes = 0;  // since the start, or the last ResetProcessPeak where the system can do that
};
ProcessMemory ReadProcessMemory();
void ResetProcessPeak();

std::string ProcessorName();
// Of the operating system, for people: "Linux 6.1.0", "macOS 14.5".
std::string SystemName();

// A control group's limit file as bytes, given its text: "max" and numbers at or over 2^60 mean none (0).
uint64_t ParseCgroupLimit(const std::string& text);
// "100000 50000" or "max 100000" (cgroup v2's cpu.max) as processors, rounded up; 0: no limit.
int ParseCgroupCpus(const std::string& text);

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_HOST_H_
