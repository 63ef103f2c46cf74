#include "worker/core/speeds.h"

#include <algorithm>
#include <cmath>

namespace storyfarm::worker {
namespace {

// Old measurements fade with a half-life of two frames, as in the coordinator: a machine that its owner uses again
// slows at once.
constexpr double kNewest = 0.3;
// Less than this share does not change who is faster, and is not worth a write.
constexpr double kGrain = 0.05;

}  // namespace

Speeds::Speeds(const farm::v1::DeviceReport& report) {
  for (const farm::v1::ModelSpeed& speed : report.speeds()) {
    if (known_.size() < kMostSpeeds && speed.slowness() > 0) known_.push_back({speed, speed.slowness()});
  }
}

bool Speeds::Observe(const std::string& model_digest, double predicted_s, uint64_t took_ms) {
  if (!(predicted_s > 0) || took_ms == 0) return false;
  const double seen = static_cast<double>(took_ms) / 1000 / predicted_s;
  auto known = std::find_if(known_.begin(), known_.end(),
                            [&](const Known& each) { return each.speed.model_digest() == model_digest; });
  if (known == known_.end()) {
    if (known_.size() == kMostSpeeds) known_.pop_back();
    known = known_.insert(known_.begin(), Known{});
    known->speed.set_model_digest(model_digest);
    known->speed.set_slowness(seen);
  } else {
    known->speed.set_slowness((1 - kNewest) * known->speed.slowness() + kNewest * seen);
    std::rotate(known_.begin(), known, known + 1);
    known = known_.begin();
  }
  const double now = known->speed.slowness();
  if (std::abs(now - known->kept) <= kGrain * known->kept) return false;
  known->kept = now;
  return true;
}

std::vector<farm::v1::ModelSpeed> Speeds::List() const {
  std::vector<farm::v1::ModelSpeed> speeds;
  for (const Known& known : known_) speeds.push_back(known.speed);
  return speeds;
}

}  // namespace storyfarm::worker
