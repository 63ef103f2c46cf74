// Compiled on macOS alone; links IOKit and CoreFoundation.
#include <IOKit/pwr_mgt/IOPMLib.h>

#include "absl/strings/str_cat.h"
#include "worker/agent/wakefulness.h"

namespace storyfarm::worker {
namespace {

class Mac final : public Wakefulness {
 public:
  ~Mac() override { LetGo(); }

  absl::Status Hold() override {
    const IOReturn made =
        IOPMAssertionCreateWithName(kIOPMAssertionTypePreventUserIdleSystemSleep, kIOPMAssertionLevelOn,
                                    CFSTR("storyfarm renders for the farm"), &assertion_);
    if (made == kIOReturnSuccess) return absl::OkStatus();
    assertion_ = kIOPMNullAssertionID;
    return absl::InternalError(absl::StrCat("macOS refused to stay awake (IOKit error ", absl::Hex(made), ")"));
  }

  absl::Status Try() override {
    const absl::Status held = Hold();  // macOS answers at once
    LetGo();
    return held;
  }

  void LetGo() override {
    if (assertion_ != kIOPMNullAssertionID) IOPMAssertionRelease(assertion_);
    assertion_ = kIOPMNullAssertionID;
  }

 private:
  IOPMAssertionID assertion_ = kIOPMNullAssertionID;
};

}  // namespace

std::unique_ptr<Wakefulness> Wakefulness::OfSystem() { return std::make_unique<Mac>(); }

}  // namespace storyfarm::worker
