#include "tests/sim/schedule/bound.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace storyfarm::schedule {
namespace {

constexpr int kHalvings = 60;

// Whole frames that the machine can have finished by `time_s`, of work that exists from `begin_s` on.
double FinishedBy(const Machine& machine, double begin_s, double time_s) {
  double frames = 0;
  for (const Window& window : machine.windows) {
    const double from_s = std::max(window.from_s + machine.setup_s, begin_s);
    const double to_s = std::min(time_s, window.to_s + kMostPassFrames * machine.frame_s);
    frames += std::max(0.0, std::floor((to_s - from_s) / machine.frame_s + 1e-9));
  }
  return frames;
}

// The least time that satisfies (1).
double LeastTime(const Scenario& scenario, uint64_t needed_bytes, double begin_s, double frames) {
  if (frames <= 0) return 0;
  const auto enough = [&](double time_s) {
    double sum = 0;
    for (const Machine& machine : scenario.machines) {
      if (machine.memory_bytes >= needed_bytes) sum += FinishedBy(machine, begin_s, time_s);
    }
    return sum >= frames;
  };
  double low = begin_s;
  double high = begin_s + 1;
  while (!enough(high)) high = begin_s + (high - begin_s) * 2;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (low + high) / 2;
    (enough(middle) ? high : low) = middle;
  }
  return low;
}

// When the fastest machine can have done one of the story's passes of so many frames.
double PassOver(const Scenario& scenario, const Story& story, uint32_t frames) {
  double soonest = kForever;
  for (const Machine& machine : scenario.machines) {
    if (machine.memory_bytes < story.needed_bytes) continue;
    for (const Window& window : machine.windows) {
      const double begin_s = std::max(window.from_s + machine.setup_s, story.arrival_s);
      if (begin_s <= window.to_s) soonest = std::min(soonest, begin_s + frames * machine.frame_s);
    }
  }
  return soonest;
}

struct Passes {
  double frames = 0;
  uint32_t shortest = 0;  // 0: some frame reads no identity
  uint32_t longest = 0;
};

Passes PassesOf(const Story& story) {
  Passes passes;
  bool free = false;  // some frame reads none
  for (const auto& set : story.spec.frame_sets()) free |= set.identities().empty();
  for (int i = 0; i < story.spec.identities_size(); ++i) {
    const uint32_t frames = IdentityFrames(story, static_cast<uint32_t>(i));
    passes.frames += frames;
    passes.longest = std::max(passes.longest, frames);
    passes.shortest = passes.shortest == 0 ? frames : std::min(passes.shortest, frames);
  }
  if (free) passes.shortest = 0;
  return passes;
}

}  // namespace

double LowerBoundOf(const Scenario& scenario, const Story& story) {
  const Passes passes = PassesOf(story);
  double bound = LeastTime(scenario, story.needed_bytes, story.arrival_s, story.frames + passes.frames);
  for (const auto& set : story.spec.frame_sets()) {
    uint32_t longest = 0;
    for (uint32_t identity : set.identities()) longest = std::max(longest, IdentityFrames(story, identity));
    if (longest == 0) continue;
    bound =
        std::max(bound, LeastTime(scenario, story.needed_bytes, PassOver(scenario, story, longest), set.panels_size()));
  }
  return bound - story.arrival_s;
}

double LowerBound(const Scenario& scenario) {
  std::set<uint64_t> needs;
  for (const Story& story : scenario.stories) needs.insert(story.needed_bytes);
  double bound = 0;
  for (const Story& first : scenario.stories) {
    bound = std::max(bound, first.arrival_s + LowerBoundOf(scenario, first));
    for (const uint64_t need : needs) {
      double all = 0;
      double frames = 0;
      double frames_from_s = kForever;
      for (const Story& story : scenario.stories) {
        if (story.arrival_s < first.arrival_s || story.needed_bytes < need) continue;
        const Passes passes = PassesOf(story);
        all += story.frames + passes.frames;
        frames += story.frames;
        frames_from_s = std::min(frames_from_s,
                                 passes.shortest == 0 ? story.arrival_s : PassOver(scenario, story, passes.shortest));
      }
      bound = std::max(bound, LeastTime(scenario, need, first.arrival_s, all));
      if (frames > 0) bound = std::max(bound, LeastTime(scenario, need, frames_from_s, frames));
    }
  }
  return bound;
}

}  // namespace storyfarm::schedule
