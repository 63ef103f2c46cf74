#include "pipeline/plan/limits.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "pipeline/plan/hours.h"
#include "pipeline/plan/names.h"

namespace storyfarm::plan {
namespace {

// Longer than any week's hours that a person writes.
constexpr size_t kHoursBytes = 200;
// A limit of a few bytes is a number in another unit than GB.
constexpr uint64_t kLeastMemoryBytes = 1'000'000;

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

absl::StatusOr<farm::v1::WorkerLimits> ChangeLimits(farm::v1::WorkerLimits limits,
                                                    const farm::v1::LimitNodeRequest& change) {
  if (change.none()) limits.Clear();
  if (change.has_memory_bytes()) {
    if (change.memory_bytes() > 0 && change.memory_bytes() < kLeastMemoryBytes) {
      return absl::InvalidArgumentError(absl::StrCat("a limit of ", change.memory_bytes(),
                                                     " bytes is none that anything fits in; --memory-gb is in GB"));
    }
    limits.set_memory_bytes(change.memory_bytes());
  }
  if (change.has_hours()) {
    const auto hours = ParseHours(change.hours());
    if (!hours.ok()) return hours.status();
    if (change.hours().size() > kHoursBytes) {
      return absl::InvalidArgumentError(absl::StrCat("hours take at most ", kHoursBytes, " characters"));
    }
    limits.set_hours(hours->empty() ? "" : change.hours());
  }
  if (change.has_mains_only()) limits.set_mains_only(change.mains_only());
  if (change.has_idle_minutes()) {
    if (change.idle_minutes() > kMinutesADay) {
      return absl::InvalidArgumentError(
          absl::StrCat("idle minutes are 0 to ", kMinutesADay, "; ", change.idle_minutes(), " are none"));
    }
    limits.set_idle_minutes(change.idle_minutes());
  }
  if (change.has_devices()) {
    const auto devices = ParseDevices(change.devices());
    if (!devices.ok()) return devices.status();
    limits.mutable_devices()->Assign(devices->begin(), devices->end());
  }
  return limits;
}

bool IsUnlimited(const farm::v1::WorkerLimits& limits) { return limits.ByteSizeLong() == 0; }

bool Lends(const farm::v1::WorkerLimits& limits, const farm::v1::DeviceReport& device) {
  if (limits.devices().empty()) return true;
  return std::find(limits.devices().begin(), limits.devices().end(), DeviceName(device)) != limits.devices().end();
}

std::string LimitsInWords(const farm::v1::WorkerLimits& limits) {
  std::vector<std::string> words;
  if (limits.memory_bytes() > 0) {
    words.push_back(absl::StrCat("at most ", GigabytesText(limits.memory_bytes()), " of each device"));
  }
  if (!limits.devices().empty()) words.push_back(absl::StrCat(absl::StrJoin(limits.devices(), ", "), " alone"));
  if (!limits.hours().empty()) words.push_back(limits.hours());
  if (limits.mains_only()) words.push_back("on mains power");
  if (limits.idle_minutes() > 0) {
    words.push_back(absl::StrCat("when nobody used it for ", limits.idle_minutes(), " min"));
  }
  return absl::StrJoin(words, "; ");
}

std::string GigabytesText(uint64_t bytes) {
  const uint64_t hundredths = (bytes + 9'999'999) / 10'000'000;
  std::string text = absl::StrCat(hundredths / 100);
  if (const uint64_t rest = hundredths % 100; rest > 0) {
    absl::StrAppend(&text, ".", rest / 10, rest % 10 > 0 ? absl::StrCat(rest % 10) : "");
  }
  return absl::StrCat(text, " GB");
}

}  // namespace storyfarm::plan
