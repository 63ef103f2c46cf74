#include "worker/core/silence.h"

#include <algorithm>

namespace storyfarm::worker {

void SilenceLimits::Observe(const RunKind& run, Phase phase, int64_t silence_ms) {
  Longest& longest = longest_[Key(run.device, run.model_digest, run.identity, run.text, phase)];
  // In double: milliseconds of hours times pixels of a batch of 4096 x 4096 is near 2^53, exact enough for a limit.
  const double before = static_cast<double>(longest.silence_ms) / static_cast<double>(longest.pixels);
  const double now = static_cast<double>(silence_ms) / static_cast<double>(std::max<int64_t>(run.pixels, 1));
  if (now >= before) longest = {silence_ms, std::max<int64_t>(run.pixels, 1)};
}

int64_t SilenceLimits::LimitMs(const RunKind& run, Phase phase) const {
  const auto found = longest_.find(Key(run.device, run.model_digest, run.identity, run.text, phase));
  if (found == longest_.end()) return limits_.unknown_silence_ms;
  // A small picture's overhead does not shrink with its pixels, so a limit never scales down.
  const double scale = std::max(1.0, static_cast<double>(run.pixels) / static_cast<double>(found->second.pixels));
  const double limit =
      static_cast<double>(found->second.silence_ms) * scale * static_cast<double>(limits_.silence_factor);
  return std::max(limits_.least_silence_ms, static_cast<int64_t>(limit));
}

}  // namespace storyfarm::worker
