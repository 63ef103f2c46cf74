#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tools/bench/sdxl_speed/speed.h"

namespace storyfarm::bench {
namespace {

constexpr size_t kNameChars = 120;

}  // namespace

json Kernels(const std::function<void()>& await, const std::function<void()>& work) {
  namespace profiler = torch::autograd::profiler;
  const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
  const std::set<torch::profiler::impl::ActivityType> kinds = {torch::profiler::impl::ActivityType::CUDA};
  profiler::prepareProfiler(config, kinds);
  profiler::enableProfiler(config, kinds);
  work();
  await();
  const auto result = profiler::disableProfiler();
  struct Row {
    int64_t count = 0;
    double ms = 0;
  };
  std::vector<const profiler::KinetoEvent*> events;
  for (const profiler::KinetoEvent& event : result->events()) {
    if (event.deviceType() == c10::DeviceType::CUDA) events.push_back(&event);
  }
  std::sort(events.begin(), events.end(), [](const auto* a, const auto* b) { return a->startNs() < b->startNs(); });
  std::map<std::string, Row> rows;
  std::string wants_zeros;  // the name of the kernel after a memset, which is why it is there
  for (auto event = events.rbegin(); event != events.rend(); ++event) {
    std::string name = (*event)->name().substr(0, kNameChars);
    if (name.rfind("Memset", 0) == 0) {
      name = "Memset before " + wants_zeros;
    } else {
      wants_zeros = name;
    }
    Row& row = rows[name];
    ++row.count;
    row.ms += static_cast<double>((*event)->durationNs()) * 1e-6;
  }
  json kernels = json::array();
  for (const auto& [name, row] : rows) kernels.push_back({{"name", name}, {"count", row.count}, {"ms", row.ms}});
  std::sort(kernels.begin(), kernels.end(), [](const json& a, const json& b) { return a["ms"] > b["ms"]; });
  return kernels;
}

}  // namespace storyfarm::bench
