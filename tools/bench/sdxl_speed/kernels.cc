#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "tools/bench/sdxl_speed/speed.h"

namespace storyfarm::bench {

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
  std::map<std::string, Row> rows;
  for (const profiler::KinetoEvent& event : result->events()) {
    if (event.deviceType() != c10::DeviceType::CUDA) continue;
    Row& row = rows[event.name().substr(0, 120)];
    ++row.count;
    row.ms += static_cast<double>(event.durationNs()) * 1e-6;
  }
  json kernels = json::array();
  for (const auto& [name, row] : rows) kernels.push_back({{"name", name}, {"count", row.count}, {"ms", row.ms}});
  std::sort(kernels.begin(), kernels.end(), [](const json& a, const json& b) { return a["ms"] > b["ms"]; });
  return kernels;
}

}  // namespace storyfarm::bench
