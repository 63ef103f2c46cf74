#include "worker/agent/devices.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "pipeline/plan/names.h"

namespace storyfarm::worker {
namespace {

bool IsDevice(absl::string_view name) {
  if (name == "cpu" || name == "mps") return true;
  if (!absl::ConsumePrefix(&name, "cuda:")) return false;
  uint32_t ordinal = 0;
  return absl::SimpleAtoi(name, &ordinal) && ordinal < kMaxDevices && absl::StrCat(ordinal) == name;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParseDevices(const std::string& text) {
  std::vector<std::string> devices;
  if (text.empty() || text == "auto") return devices;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    part = absl::StripAsciiWhitespace(part);
    if (!IsDevice(part)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", part, "\" is no device; name them as in \"cpu\", \"mps\" or \"cuda:0,cuda:1\", or say \"auto\"."));
    }
    if (std::find(devices.begin(), devices.end(), part) != devices.end()) {
      return absl::InvalidArgumentError(absl::StrCat("The device ", part, " is named twice."));
    }
    devices.emplace_back(part);
  }
  if (devices.size() > kMaxDevices)
    return absl::InvalidArgumentError(absl::StrCat("At most ", kMaxDevices, " devices a worker."));
  return devices;
}

std::vector<std::string> ChooseDevices(const std::vector<farm::v1::DeviceReport>& reports) {
  std::vector<std::string> devices;
  bool shared = false;
  for (const farm::v1::DeviceReport& report : reports) {
    if (report.backend() == farm::v1::CPU || devices.size() + 1 == kMaxDevices) continue;
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
