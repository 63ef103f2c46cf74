// How near the farm's scheduler comes to the least makespan, beside two simple ones, over mixed fleets:
//
//   schedule_sim [--seed N] [--scenarios N] [--verbose]
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/sim/schedule/study.h"

namespace storyfarm::schedule {
namespace {

void Print(const char* title, const std::vector<Study>& studies, bool small) {
  std::printf("%s\n  %-14s %8s %8s %8s %10s\n", title, "scheduler", "median", "p95", "worst", "unfinished");
  for (const Study& study : studies) {
    const Quantiles ratios = QuantilesOf(small ? study.small_ratios : study.ratios);
    std::printf("  %-14s %8.3f %8.3f %8.3f %10u\n", study.scheduler.c_str(), ratios.median, ratios.p95, ratios.worst,
                study.unfinished);
  }
}

int Main(int argc, char** argv) {
  uint64_t seed = 1;
  uint32_t scenarios = 200;
  bool verbose = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--verbose") {
      verbose = true;
    } else if (flag == "--seed" && i + 1 < argc) {
      seed = std::strtoull(argv[++i], nullptr, 10);
    } else if (flag == "--scenarios" && i + 1 < argc) {
      scenarios = static_cast<uint32_t>(std::strtoul(argv[++i], nullptr, 10));
    } else {
      std::fprintf(stderr, "usage: schedule_sim [--seed N] [--scenarios N] [--verbose]\n");
      return 2;
    }
  }
  const auto told = [verbose](const Scenario& scenario, const std::vector<double>& ratios) {
    if (!verbose) return;
    std::printf("seed %4lu: %2zu machines, %zu stories:", static_cast<unsigned long>(scenario.seed),
                scenario.machines.size(), scenario.stories.size());
    for (const double ratio : ratios) std::printf(" %.3f", ratio);
    std::printf("\n");
  };
  std::printf("Makespan over the lower bound (tests/sim/schedule/bound.h), %u scenarios from seed %lu.\n", scenarios,
              static_cast<unsigned long>(seed));
  Print("4 to 48 machines, 20 to 60 frames a machine:", RunStudy(seed, scenarios, Shape(), told), false);
  Shape busy;
  busy.small_stories = 5;
  const std::vector<Study> with_small = RunStudy(seed, scenarios, busy, told);
  Print("The same with 5 small stories among them:", with_small, false);
  Print("Those small stories: time from arrival to end over the least that they take in an empty farm:", with_small,
        true);
  Shape few;
  few.frames_a_machine_least = 1;
  few.frames_a_machine_most = 19;
  few.stories_most = 1;
  Print("One small job alone, 1 to 19 frames a machine:", RunStudy(seed, scenarios, few, told), false);
  return 0;
}

}  // namespace
}  // namespace storyfarm::schedule

int main(int argc, char** argv) { return storyfarm::schedule::Main(argc, argv); }
