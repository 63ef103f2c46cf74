#include "pipeline/plan/fetch.h"

#include <algorithm>

namespace storyfarm::plan {
namespace {

// A gigabit network less what its protocols take.
constexpr double kAssumedNetworkBytesPerSecond = 100e6;

}  // namespace

double FetchSeconds(const farm::v1::DeviceReport& device, uint64_t bytes) {
  double rate = device.network_bytes_per_s() > 0 ? static_cast<double>(device.network_bytes_per_s())
                                                 : kAssumedNetworkBytesPerSecond;
  if (device.disk_write_bytes_per_s() > 0) rate = std::min(rate, static_cast<double>(device.disk_write_bytes_per_s()));
  return static_cast<double>(bytes) / rate;
}

FetchOrCompute ChooseFetchOrCompute(const farm::v1::DeviceReport& device, uint64_t missing_bytes, double compute_s) {
  FetchOrCompute choice;
  choice.fetch_s = FetchSeconds(device, missing_bytes);
  choice.fetch = device.network_bytes_per_s() == 0 || compute_s <= 0 || choice.fetch_s <= compute_s;
  return choice;
}

}  // namespace storyfarm::plan
