#include "worker/agent/wakefulness.h"

namespace storyfarm::worker {

void AwakeWhileLeased::Tell(bool leased) {
  if (leased == leased_) return;
  leased_ = leased;
  if (!leased) {
    if (held_) wakefulness_->LetGo();
    held_ = false;
    return;
  }
  const absl::Status held = wakefulness_->Hold();
  held_ = held.ok();
  // A machine without logind says so at each lease: once is enough.
  if (!held_ && !warned_) {
    warned_ = true;
    log_->Warning("this machine may go to sleep while it renders", {{"why", std::string(held.message())}});
  }
}

}  // namespace storyfarm::worker
