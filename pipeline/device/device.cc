#include "pipeline/device/device.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "pipeline/device/backends.h"

namespace storyfarm::device {
namespace {

double SecondsOf(Device& device, const std::function<void()>& work) {
  device.Synchronize();
  const auto start = std::chrono::steady_clock::now();
  work();
  device.Synchronize();
  return std::max(1e-9, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

}  // namespace

double MeasureMatmul(Device& device, at::ScalarType dtype, int64_t edge) {
  constexpr double kBudgetSeconds = 0.3;
  constexpr int kMostRounds = 20;
  const c10::InferenceMode inference;
  const at::TensorOptions options = at::TensorOptions(device.torch_device()).dtype(dtype);
  const at::Tensor a = at::full({edge, edge}, 0.5, options), b = at::full({edge, edge}, 0.25, options);
  SecondsOf(device, [&] { at::matmul(a, b); });  // the first one also chooses a kernel
  double best = 1e9, spent = 0;
  for (int round = 0; round < kMostRounds && spent < kBudgetSeconds; ++round) {
    const double seconds = SecondsOf(device, [&] { at::matmul(a, b); });
    best = std::min(best, seconds);
    spent += seconds;
  }
  return 2.0 * static_cast<double>(edge) * static_cast<double>(edge) * static_cast<double>(edge) / best * 1e-12;
}

uint64_t MeasureCopy(Device& device) {
  constexpr int64_t kBytes = 64 << 20;
  const c10::InferenceMode inference;
  const at::Tensor host = at::ones({kBytes}, at::kByte);
  const c10::Device target = device.torch_device();
  SecondsOf(device, [&] { host.to(target); });
  return static_cast<uint64_t>(static_cast<double>(kBytes) / SecondsOf(device, [&] { host.to(target); }));
}

absl::StatusOr<std::unique_ptr<Device>> Device::Open(const std::string& name, int threads,
                                                       uint64_t memory_limit_bytes) {
  const int count = threads > 0 ? threads : AvailableThreads();
  at::set_num_threads(count);
  if (name == "cpu") return OpenCpu(count);
  if (name == "mps") return OpenMps(count, memory_limit_bytes);
  int ordinal = 0;
  if (name == "cuda" || (name.rfind("cuda:", 0) == 0 && absl::SimpleAtoi(name.substr(5), &ordinal) && ordinal >= 0)) {
    return OpenCuda(ordinal, count, memory_limit_bytes);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no device is called \"", name, "\": use cpu, mps, or cuda:0, cuda:1 and so on"));
}

std::vector<Report> DescribeAll(bool measure, int threads) {
  const int count = threads > 0 ? threads : AvailableThreads();
  std::vector<Report> reports;
  const auto add = [&](const std::function<absl::StatusOr<std::unique_ptr<Device>>()>& open) {
    // A device that is there but broken must not hide the others.
    try {
      const absl::StatusOr<std::unique_ptr<Device>> device = open();
      if (device.ok()) reports.push_back((*device)->Describe(measure));
    } catch (const c10::Error&) {
    }
  };
  for (int ordinal = 0; ordinal < CountCuda(); ++ordinal) {
    add([&] { return OpenCuda(ordinal, count, 0); });
  }
  if (HasMps()) add([&] { return OpenMps(count, 0); });
  add([&] { return OpenCpu(count); });
  return reports;
}

}  // namespace storyfarm::device
