#include "worker/core/session.h"

#include <utility>

#include "worker/core/session_parts.h"

namespace storyfarm::worker {

// Longer between two events than any tick takes: this process did not run meanwhile (the machine slept, or was
// starved), so nothing can be said of the engines' silence.
constexpr int64_t kWasAsleepMs = 5000;

Session::Session(Self self, std::vector<farm::v1::Result> outbox, const Limits& limits)
    : parts_(std::make_unique<Parts>(std::move(self), limits)) {
  for (const farm::v1::DeviceReport& report : parts_->self.devices) {
    Device& device = parts_->devices[report.index()];
    device.report = report;
    device.speeds = Speeds(report);
    device.memory.set_index(report.index());
    device.memory.set_free_bytes(report.free_bytes());
  }
  for (farm::v1::Result& result : outbox) parts_->outbox.Restore(std::move(result));
  parts_->heartbeat_ms = limits.heartbeat_ms;
}

Session::~Session() = default;

Actions Session::Step(int64_t now_ms, Event event) {
  Parts& parts = *parts_;
  const int64_t pause_ms = now_ms - parts.now_ms;
  if (pause_ms > kWasAsleepMs) {
    for (auto& [index, device] : parts.devices) {
      for (Running& running : device.runs) running.last_sign_ms += pause_ms;
    }
  }
  parts.now_ms = now_ms;
  std::visit([&parts](auto&& given) { parts.On(std::forward<decltype(given)>(given)); }, std::move(event));
  parts.Advance();
  return std::exchange(parts.actions, {});
}

size_t Session::outbox_size() const { return parts_->outbox.size(); }

size_t Session::held_tasks() const {
  size_t count = 0;
  for (const auto& [key, group] : parts_->groups) {
    for (size_t i = 0; i < group.task_count(); ++i) {
      if (group.stage(i) != TaskStage::kOver) ++count;
    }
  }
  return count;
}

bool Session::leased() const {
  return held_tasks() > 0 && (parts_->welcomed || parts_->now_ms < parts_->leases_end_ms);
}

}  // namespace storyfarm::worker
