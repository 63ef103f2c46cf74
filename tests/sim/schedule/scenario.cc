#include "tests/sim/schedule/scenario.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "absl/strings/str_cat.h"

namespace storyfarm::schedule {
namespace {

constexpr double kFastestFrameSeconds = 2;
constexpr double kSpeedSpread = 100;
constexpr double kGigabyte = 1e9;
// What a model weighs, and a machine without it waits: 7 GB over a gigabit link, read at 2 GB/s.
constexpr double kFetchSeconds = 70;
constexpr double kLoadSeconds = 3.5;

class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(seed) {}
  // The same on every machine, unlike the standard library's distributions.
  double Uniform(double from, double to) { return from + (to - from) * static_cast<double>(random_() >> 11) * 0x1p-53; }
  double Spread(double from, double to) { return from * std::pow(to / from, Uniform(0, 1)); }
  uint32_t Whole(uint32_t from, uint32_t to) { return from + static_cast<uint32_t>(random_() % (to - from + 1)); }
  bool Chance(double share) { return Uniform(0, 1) < share; }

 private:
  std::mt19937_64 random_;
};

std::string Digest(const std::string& text) {
  std::string digest = text;
  digest.resize(32, '.');
  return digest;
}

// `frames` panels that read some of up to three characters' banks, and the identity frames before them.
farm::v1::JobSpec DrawSpec(Dice& dice, const std::string& id, uint32_t frames) {
  farm::v1::JobSpec spec;
  spec.set_job_id(id);
  spec.set_idempotency_key(id);
  spec.set_request_digest(Digest(id));
  spec.mutable_model()->set_name("model");
  spec.mutable_model()->set_digest(Digest("model"));
  farm::v1::ModelFile& file = *spec.mutable_model()->add_files();
  file.mutable_blob()->set_digest(Digest("weights"));
  file.mutable_blob()->set_size_bytes(7'000'000'000);
  spec.mutable_model()->mutable_profile()->set_stored_bytes(7'000'000'000);
  const uint32_t characters = dice.Chance(0.7) ? dice.Whole(1, 3) : 0;
  uint32_t panels = 0;
  for (uint32_t c = 0; c < characters; ++c) {
    spec.mutable_story()->add_characters()->set_name(absl::StrCat("c", c));
    farm::v1::IdentityTask& identity = *spec.add_identities();
    identity.set_character(c);
    identity.set_read_by_others(true);
    for (uint32_t i = dice.Whole(3, kMostPassFrames); i > 0; --i) identity.add_panels(panels++);
  }
  // Sets: one for each character, one for all of them together, one for none.
  std::vector<farm::v1::FrameSet> sets(characters + 2);
  for (uint32_t c = 0; c < characters; ++c) {
    sets[c].add_identities(c);
    sets[characters].add_identities(c);
  }
  for (uint32_t i = 0; i < frames; ++i) {
    const uint32_t set = characters == 0 ? 1 : dice.Chance(0.1) ? characters + 1 : dice.Whole(0, characters);
    sets[set].add_panels(panels++);
  }
  for (const auto& set : sets) {
    if (set.panels_size() > 0) *spec.add_frame_sets() = set;
  }
  farm::v1::Chapter& chapter = *spec.mutable_story()->add_chapters();
  for (uint32_t i = 0; i < panels; ++i) chapter.add_panels()->set_id(absl::StrCat(i));
  return spec;
}

std::vector<Machine> DrawMachines(Dice& dice, const Shape& shape) {
  std::vector<Machine> machines(dice.Whole(shape.machines_least, shape.machines_most));
  for (size_t i = 0; i < machines.size(); ++i) {
    Machine& machine = machines[i];
    machine.id = absl::StrCat("m", 100 + i);
    machine.claimed_s = dice.Spread(kFastestFrameSeconds, kFastestFrameSeconds * kSpeedSpread);
    machine.frame_s = machine.claimed_s * std::exp(dice.Uniform(-0.25, 0.25));
    machine.memory_bytes = static_cast<uint64_t>(dice.Spread(8, 80) * kGigabyte);
    machine.has_model = dice.Chance(0.8);
    machine.setup_s = kLoadSeconds + (machine.has_model ? 0 : kFetchSeconds);
  }
  Machine& anchor = machines.front();
  anchor.claimed_s = kFastestFrameSeconds;
  anchor.frame_s = kFastestFrameSeconds * 1.1;
  anchor.memory_bytes = static_cast<uint64_t>(80 * kGigabyte);
  anchor.has_model = true;
  anchor.setup_s = kLoadSeconds;
  machines.back().claimed_s = machines.back().frame_s = kFastestFrameSeconds * kSpeedSpread;
  return machines;
}

// A seventh comes late, a seventh leaves, some come back; `length_s` is about how long the work takes.
void DrawWindows(Dice& dice, double length_s, std::vector<Machine>& machines) {
  for (size_t i = 0; i < machines.size(); ++i) {
    std::vector<Window>& windows = machines[i].windows;
    windows.emplace_back();
    if (i == 0) continue;
    if (dice.Chance(0.15)) windows[0].from_s = dice.Uniform(0, 0.6) * length_s;
    if (!dice.Chance(0.15)) continue;
    windows[0].to_s = windows[0].from_s + dice.Uniform(0.1, 0.5) * length_s;
    // A machine that comes back later than its last frame ends.
    const double back_s = windows[0].to_s + 2 * machines[i].frame_s + dice.Uniform(0, 0.3) * length_s;
    if (dice.Chance(0.5)) windows.push_back({back_s, kForever});
  }
}

void AddStory(Dice& dice, Scenario& scenario, uint32_t frames, double arrival_s, bool small) {
  Story story;
  story.arrival_s = arrival_s;
  story.small = small;
  story.frames = std::min(frames, 19000u);
  story.spec = DrawSpec(dice, absl::StrCat("j-", scenario.stories.size()), story.frames);
  // Small pictures fit everywhere, large ones with many identity frames only on larger machines.
  const double draw = dice.Uniform(0, 1);
  story.needed_bytes = static_cast<uint64_t>((draw < 0.5 ? 6 : draw < 0.8 ? 10 : 20) * kGigabyte);
  scenario.stories.push_back(std::move(story));
}

}  // namespace

uint32_t IdentityFrames(const Story& story, uint32_t identity) {
  return static_cast<uint32_t>(story.spec.identities(static_cast<int>(identity)).panels_size());
}

Scenario Draw(uint64_t seed, const Shape& shape) {
  Dice dice(seed);
  Scenario scenario;
  scenario.seed = seed;
  scenario.machines = DrawMachines(dice, shape);
  double rate = 0;
  for (const Machine& machine : scenario.machines) rate += 1 / machine.frame_s;
  const double frames = dice.Uniform(shape.frames_a_machine_least, shape.frames_a_machine_most) *
                        static_cast<double>(scenario.machines.size());
  const double length_s = frames / rate;
  DrawWindows(dice, length_s, scenario.machines);
  std::vector<double> weights(dice.Whole(1, shape.stories_most));
  double sum = 0;
  for (double& weight : weights) sum += weight = dice.Spread(1, 10);
  for (size_t i = 0; i < weights.size(); ++i) {
    const double arrival_s = i == 0 ? 0 : dice.Uniform(0, 0.5) * length_s;
    AddStory(dice, scenario, static_cast<uint32_t>(std::ceil(frames * weights[i] / sum)), arrival_s, false);
  }
  for (uint32_t i = 0; i < shape.small_stories; ++i) {
    AddStory(dice, scenario, dice.Whole(1, static_cast<uint32_t>(scenario.machines.size())),
             dice.Uniform(0.05, 0.7) * length_s, true);
  }
  std::stable_sort(scenario.stories.begin(), scenario.stories.end(),
                   [](const Story& a, const Story& b) { return a.arrival_s < b.arrival_s; });
  return scenario;
}

}  // namespace storyfarm::schedule
