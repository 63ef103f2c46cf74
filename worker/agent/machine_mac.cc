// Compiled on macOS alone; links IOKit and CoreFoundation.
#include <CoreFoundation/CoreFoundation.h>
#include <IOKit/IOKitLib.h>
#include <IOKit/ps/IOPSKeys.h>
#include <IOKit/ps/IOPowerSources.h>
#include <notify.h>

#include "worker/agent/machine.h"

namespace storyfarm::worker {
namespace {

constexpr int64_t kNanosecondsASecond = 1'000'000'000;

// OSThermalNotification.h: nominal 0, moderate 1, heavy 2, trapping 3, sleeping 4.
constexpr char kThermalPressure[] = "com.apple.system.thermalpressurelevel";
constexpr uint64_t kHeavy = 2;

class Mac final : public Machine {
 public:
  Mac() : told_(notify_register_check(kThermalPressure, &pressure_) == NOTIFY_STATUS_OK) {}
  ~Mac() override {
    if (told_) notify_cancel(pressure_);
  }

  std::optional<bool> TooHot() override {
    uint64_t level = 0;
    if (!told_ || notify_get_state(pressure_, &level) != NOTIFY_STATUS_OK) return std::nullopt;
    return level >= kHeavy;
  }

  std::optional<bool> OnMains() override {
    const CFTypeRef sources = IOPSCopyPowerSourcesInfo();
    if (sources == nullptr) return std::nullopt;
    const CFStringRef type = IOPSGetProvidingPowerSourceType(sources);
    const bool mains = type != nullptr && CFStringCompare(type, CFSTR(kIOPMACPowerKey), 0) == kCFCompareEqualTo;
    CFRelease(sources);
    return type == nullptr ? std::nullopt : std::optional<bool>(mains);
  }

  std::optional<int64_t> IdleSeconds() override {
    // 0: the default main port, under both of its names.
    const io_service_t service = IOServiceGetMatchingService(0, IOServiceMatching("IOHIDSystem"));
    if (service == 0) return std::nullopt;
    const CFTypeRef value = IORegistryEntryCreateCFProperty(service, CFSTR("HIDIdleTime"), kCFAllocatorDefault, 0);
    IOObjectRelease(service);
    if (value == nullptr) return std::nullopt;
    int64_t idle_ns = 0;
    const bool read = CFGetTypeID(value) == CFNumberGetTypeID() &&
                      CFNumberGetValue(static_cast<CFNumberRef>(value), kCFNumberSInt64Type, &idle_ns);
    CFRelease(value);
    return read ? std::optional<int64_t>(idle_ns / kNanosecondsASecond) : std::nullopt;
  }

 private:
  int pressure_ = 0;
  bool told_;
};

}  // namespace

std::unique_ptr<Machine> Machine::OfSystem() { return std::make_unique<Mac>(); }

}  // namespace storyfarm::worker
