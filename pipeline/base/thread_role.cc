#include "pipeline/base/thread_role.h"

#include <dirent.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#ifdef __APPLE__
#include <pthread/qos.h>
#else
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace storyfarm::base {
namespace {

constexpr int kMostProcessors = 4096;
constexpr double kLikeTheFastest = 0.8;

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return std::string(absl::StripAsciiWhitespace(text.str()));
}

// One figure of each processor that has it; empty where there are none.
std::map<int, int64_t> FiguresOf(const std::string& folder, const std::string& file) {
  std::map<int, int64_t> figures;
  DIR* opened = opendir(folder.c_str());
  if (opened == nullptr) return figures;
  while (const dirent* entry = readdir(opened)) {
    const std::string name = entry->d_name;
    int number = 0;
    int64_t figure = 0;
    if (name.rfind("cpu", 0) != 0 || !absl::SimpleAtoi(name.substr(3), &number)) continue;
    if (absl::SimpleAtoi(ReadText(absl::StrCat(folder, "/", name, "/", file)), &figure)) figures[number] = figure;
  }
  closedir(opened);
  return figures;
}

// Those with at least this share of the largest figure; empty where that is all of them.
std::vector<int> Largest(const std::map<int, int64_t>& figures, double share) {
  int64_t most = 0;
  for (const auto& [number, figure] : figures) most = std::max(most, figure);
  std::vector<int> chosen;
  for (const auto& [number, figure] : figures) {
    if (static_cast<double>(figure) >= share * static_cast<double>(most)) chosen.push_back(number);
  }
  return chosen.size() == figures.size() ? std::vector<int>() : chosen;
}

}  // namespace

std::vector<int> ParseProcessorList(const std::string& text) {
  std::vector<int> numbers;
  for (const absl::string_view part : absl::StrSplit(absl::StripAsciiWhitespace(text), ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, '-');
    int first = 0, last = 0;
    if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &first) || !absl::SimpleAtoi(ends.back(), &last)) return {};
    if (first < 0 || last < first || last >= kMostProcessors) return {};
    for (int number = first; number <= last; ++number) numbers.push_back(number);
  }
  return numbers;
}

std::vector<int> PerformanceProcessors(const std::string& root) {
  const std::string devices = root + "/sys/devices";
  std::vector<int> cores = ParseProcessorList(ReadText(devices + "/cpu_core/cpus"));
  if (!cores.empty()) return cores;
  const std::map<int, int64_t> capacities = FiguresOf(devices + "/system/cpu", "cpu_capacity");
  if (!capacities.empty()) return Largest(capacities, 1.0);
  return Largest(FiguresOf(devices + "/system/cpu", "cpufreq/cpuinfo_max_freq"), kLikeTheFastest);
}

#ifdef __APPLE__

void TakeRole(ThreadRole role) {
  const bool waits_for_nobody = role == ThreadRole::kLease || role == ThreadRole::kTransfer;
  pthread_set_qos_class_self_np(waits_for_nobody ? QOS_CLASS_UTILITY : QOS_CLASS_USER_INITIATED, 0);
}

void KeepToPerformanceProcessors(int) {}

#else

void TakeRole(ThreadRole role) {
  constexpr int kNice[] = {/*kLease*/ 0, /*kTransfer*/ 5, /*kFeedsDevice*/ 0, /*kCompute*/ 3};
  const auto thread = static_cast<id_t>(syscall(SYS_gettid));
  const int nice = kNice[static_cast<int>(role)];
  // Whoever started the process nicer than that meant it.
  if (getpriority(PRIO_PROCESS, thread) < nice) setpriority(PRIO_PROCESS, thread, nice);
}

void KeepToPerformanceProcessors(int threads) {
  cpu_set_t now, wanted;
  CPU_ZERO(&wanted);
  if (sched_getaffinity(0, sizeof(now), &now) != 0) return;
  for (const int number : PerformanceProcessors("")) {
    if (number < CPU_SETSIZE && CPU_ISSET(number, &now)) CPU_SET(number, &wanted);
  }
  if (CPU_COUNT(&wanted) > 0 && threads <= CPU_COUNT(&wanted)) sched_setaffinity(0, sizeof(wanted), &wanted);
}

#endif

}  // namespace storyfarm::base
