// What a thread is for, told to the system's scheduler, so that leases and the thread that feeds a GPU do not wait
// behind CPU kernels, and transfers not before anything.
//
//   role           macOS: quality of service     Linux: nice value of the thread
//   kLease         utility                       0   it hardly runs, but a lease that is late costs frames
//   kTransfer      utility                       5
//   kFeedsDevice   user-initiated                0
//   kCompute       user-initiated                3   so that a CPU's engine does not starve a GPU's on one machine
#ifndef STORYFARM_PIPELINE_BASE_THREAD_ROLE_H_
#define STORYFARM_PIPELINE_BASE_THREAD_ROLE_H_

#include <string>
#include <vector>

namespace storyfarm::base {

enum class ThreadRole { kLease, kTransfer, kFeedsDevice, kCompute };

// For the calling thread, and on Linux for those that it starts afterwards. A system that refuses changes nothing: a
// role is a hint. On Linux a thread can only become nicer.
void TakeRole(ThreadRole role);

// The processors that are made for speed, on a machine that has two kinds; empty where all are alike, or the system does
// not tell. Linux: numbers, as the scheduler counts them. `root`: the folder that holds sys, "" for the machine's own.
//   Intel: /sys/devices/cpu_core/cpus. ARM: those of the largest cpu_capacity. Others: whose highest frequency is at
//   least 80 % of the machine's highest (favoured cores of one kind differ by less, efficient ones by more).
std::vector<int> PerformanceProcessors(const std::string& root);
// From now on this thread and those that it starts run on performance processors alone, where `threads` of them (0: as
// many as there are) are no more than those that this process may use. Else nothing changes. macOS, which binds no
// thread to a core, goes by the role and by how many threads there are (device::AvailableThreads).
void KeepToPerformanceProcessors(int threads);

// "0-3,8,10-11" -> 0 1 2 3 8 10 11 (Linux's cpulist). Empty where it is something else; numbers up to 4095.
std::vector<int> ParseProcessorList(const std::string& text);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_THREAD_ROLE_H_
