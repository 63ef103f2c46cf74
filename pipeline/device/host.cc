#include "pipeline/device/host.h"

#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pipeline/device/device.h"

#ifdef __APPLE__
#include <mach/mach.h>
#include <sys/sysctl.h>
#else
#include <sched.h>
#endif

namespace storyfarm::device {
namespace {

constexpr uint64_t kNoLimitFrom = uint64_t{1} << 60;  // cgroup v1 writes "none" as a huge number

// /proc and /sys files are small and never change size while read; a missing one is an empty text.
std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

#ifndef __APPLE__
// "VmRSS:  1234 kB" -> bytes.
uint64_t KilobytesAfter(const std::string& text, const std::string& label) {
  const size_t at = text.find(label);
  if (at == std::string::npos) return 0;
  uint64_t kilobytes = 0;
  std::istringstream(text.substr(at + label.size())) >> kilobytes;
  return kilobytes * 1024;
}

// The folder of this process's cgroup v2; empty where there is none.
std::string CgroupFolder() {
  const std::vector<std::string> lines = absl::StrSplit(ReadText("/proc/self/cgroup"), '\n');
  for (const std::string& line : lines) {
    if (line.rfind("0::/", 0) == 0) return "/sys/fs/cgroup" + line.substr(3);
  }
  return "";
}

struct CgroupMemory {
  uint64_t limit_bytes = 0;
  uint64_t used_bytes = 0;
};

CgroupMemory ReadCgroupMemory() {
  // The process's own group, or, inside a container, the mount's root.
  for (const std::string& folder : {CgroupFolder(), std::string("/sys/fs/cgroup")}) {
    const uint64_t limit = ParseCgroupLimit(ReadText(folder + "/memory.max"));
    if (limit == 0) continue;
    const std::string stat = absl::StrCat("\n", ReadText(folder + "/memory.stat"));
    uint64_t used = 0, cache = 0;
    std::istringstream(ReadText(folder + "/memory.current")) >> used;
    if (const size_t at = stat.find("\ninactive_file "); at != std::string::npos) {
      std::istringstream(stat.substr(at + 15)) >> cache;
    }
    return {limit, used - std::min(used, cache)};
  }
  const std::string v1 = "/sys/fs/cgroup/memory";
  CgroupMemory memory;
  memory.limit_bytes = ParseCgroupLimit(ReadText(v1 + "/memory.limit_in_bytes"));
  std::istringstream(ReadText(v1 + "/memory.usage_in_bytes")) >> memory.used_bytes;
  return memory;
}
#else
std::string SystemText(const char* name) {
  size_t size = 0;
  if (sysctlbyname(name, nullptr, &size, nullptr, 0) != 0 || size == 0) return "";
  std::string text(size, '\0');
  if (sysctlbyname(name, text.data(), &size, nullptr, 0) != 0) return "";
  text.resize(size - 1);
  return text;
}
#endif

}  // namespace

uint64_t ParseCgroupLimit(const std::string& text) {
  uint64_t limit = 0;
  if (!absl::SimpleAtoi(text, &limit) || limit >= kNoLimitFrom) return 0;
  return limit;
}

Pressure ParsePressure(const std::string& text) {
  constexpr double kStalledPercent = 10;
  Pressure pressure = Pressure::kUnknown;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    const size_t at = line.find("avg10=");
    double percent = 0;
    if (at == std::string::npos || !(std::istringstream(line.substr(at + 6)) >> percent)) continue;
    Pressure told = Pressure::kNormal;
    if (percent >= kStalledPercent) told = line.rfind("full", 0) == 0 ? Pressure::kCritical : Pressure::kWarning;
    pressure = std::max(pressure, told);
  }
  return pressure;
}

std::string ParseDriverVersion(const std::string& text) {
  std::istringstream in(text.substr(0, text.find('\n')));
  for (std::string word; in >> word;) {
    if (word.find('.') == std::string::npos) continue;
    if (word.find_first_not_of("0123456789.") == std::string::npos) return word;
  }
  return "";
}

std::string NvidiaDriverVersion() { return ParseDriverVersion(ReadText("/proc/driver/nvidia/version")); }

int ParseCgroupCpus(const std::string& text) {
  double quota = 0, period = 0;
  std::istringstream in(text);
  if (!(in >> quota >> period) || period <= 0 || quota <= 0) return 0;
  return std::max(1, static_cast<int>((quota + period - 1) / period));
}

#ifndef __APPLE__

HostMemory ReadHostMemory() {
  HostMemory memory;
  memory.total_bytes = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  memory.free_bytes = KilobytesAfter(ReadText("/proc/meminfo"), "MemAvailable:");
  const CgroupMemory cgroup = ReadCgroupMemory();
  if (cgroup.limit_bytes > 0 && cgroup.limit_bytes < memory.total_bytes) {
    memory.limit_bytes = cgroup.limit_bytes;
    memory.free_bytes =
        std::min(memory.free_bytes, cgroup.limit_bytes - std::min(cgroup.limit_bytes, cgroup.used_bytes));
  }
  return memory;
}

Pressure ReadMemoryPressure() {
  Pressure pressure = ParsePressure(ReadText("/proc/pressure/memory"));
  if (const std::string folder = CgroupFolder(); !folder.empty()) {
    pressure = std::max(pressure, ParsePressure(ReadText(folder + "/memory.pressure")));
  }
  return pressure;
}

ProcessMemory ReadProcessMemory() {
  const std::string status = ReadText("/proc/self/status");
  return {KilobytesAfter(status, "VmRSS:"), KilobytesAfter(status, "RssFile:"), KilobytesAfter(status, "VmHWM:")};
}

void ResetProcessPeak() {
  // proc(5): 5 resets the peak resident set size. Where the kernel refuses, the peak stays that of the process's life.
  std::ofstream("/proc/self/clear_refs") << "5";
}

std::string ProcessorName() {
  const std::string info = ReadText("/proc/cpuinfo");
  for (const std::string& label : {std::string("model name"), std::string("Model")}) {
    const size_t at = info.find(label);
    const size_t colon = at == std::string::npos ? at : info.find(": ", at);
    if (colon != std::string::npos) return info.substr(colon + 2, info.find('\n', colon) - colon - 2);
  }
  utsname system{};
  return uname(&system) == 0 ? absl::StrCat(system.machine, " processor") : "processor";
}

int AvailableThreads() {
  int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) threads = std::min(threads, CPU_COUNT(&allowed));
  for (const std::string& folder : {CgroupFolder(), std::string("/sys/fs/cgroup")}) {
    if (const int cpus = ParseCgroupCpus(ReadText(folder + "/cpu.max")); cpus > 0) threads = std::min(threads, cpus);
  }
  return std::max(1, threads);
}

#else

HostMemory ReadHostMemory() {
  HostMemory memory;
  size_t size = sizeof(memory.total_bytes);
  sysctlbyname("hw.memsize", &memory.total_bytes, &size, nullptr, 0);
  vm_statistics64_data_t pages{};
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  if (host_statistics64(mach_host_self(), HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&pages), &count) ==
      KERN_SUCCESS) {
    memory.free_bytes = (uint64_t{pages.free_count} + pages.inactive_count + pages.purgeable_count) *
                        static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  }
  return memory;
}

Pressure ReadMemoryPressure() {
  // DISPATCH_MEMORYPRESSURE_NORMAL, _WARN and _CRITICAL.
  int level = 0;
  size_t size = sizeof(level);
  if (sysctlbyname("kern.memorystatus_vm_pressure_level", &level, &size, nullptr, 0) != 0) return Pressure::kUnknown;
  if (level >= 4) return Pressure::kCritical;
  return level >= 2 ? Pressure::kWarning : Pressure::kNormal;
}

ProcessMemory ReadProcessMemory() {
  task_vm_info_data_t info{};
  mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
  if (task_info(mach_task_self(), TASK_VM_INFO, reinterpret_cast<task_info_t>(&info), &count) != KERN_SUCCESS)
    return {};
  // The footprint is what Activity Monitor shows and what macOS presses on.
  return {info.phys_footprint, 0, static_cast<uint64_t>(info.ledger_phys_footprint_peak)};
}

void ResetProcessPeak() {}

std::string ProcessorName() { return SystemText("machdep.cpu.brand_string"); }

int AvailableThreads() {
  // Efficiency cores slow a matrix product down: every thread waits for the last.
  int cores = 0;
  size_t size = sizeof(cores);
  if (sysctlbyname("hw.perflevel0.logicalcpu", &cores, &size, nullptr, 0) == 0 && cores > 0) return cores;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

#endif

std::string SystemName() {
#ifdef __APPLE__
  return "macOS " + SystemText("kern.osproductversion");
#else
  utsname system{};
  if (uname(&system) != 0) return "";
  return absl::StrCat(system.sysname, " ", system.release);
#endif
}

}  // namespace storyfarm::device
