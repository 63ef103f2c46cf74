// farm_sim: simulated farms, one seed after the other.
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <random>
#include <string>

#include "tests/sim/shrink.h"
#include "tests/sim/sim.h"

namespace storyfarm::sim {
namespace {

struct Flags {
  Options options;
  uint64_t rounds = 0;
  double budget_s = 10;
  bool fresh = false;
  bool measure = false;
  std::string mutant;
};

// The core ends the process where it finds a defect of its own: say at least which seed it was.
char crash_line[128];
void OnAbort(int) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, crash_line, std::strlen(crash_line));
  ::signal(SIGABRT, SIG_DFL);
  ::raise(SIGABRT);
}

void Report(const Options& options, const Outcome& outcome, const std::vector<Fault>& faults) {
  const Violation& violation = *outcome.violation;
  std::printf("\nBROKEN by seed %lu at %.3f s: %s\n  %s\n", options.seed, static_cast<double>(violation.at_ms) / 1000,
              SentenceOf(violation.rule), violation.what.c_str());
  const std::vector<Fault> left = Shrink(options, faults, violation.rule);
  Options again = options;
  again.trace = true;
  const Outcome shrunk = Simulate(again, left);
  std::printf("%zu of its %zu faults suffice:\n", left.size(), faults.size());
  for (const Fault& fault : left) std::printf("  %s\n", ToString(fault).c_str());
  constexpr size_t kShown = 60;
  const size_t first = shrunk.trace.size() > kShown && !options.trace ? shrunk.trace.size() - kShown : 0;
  std::printf("What happened then%s:\n", first > 0 ? ", the end of it (all of it with --trace)" : "");
  for (size_t i = first; i < shrunk.trace.size(); ++i) std::printf("%s\n", shrunk.trace[i].c_str());
  std::printf("%10.3f  BROKEN: %s: %s\nAgain: farm_sim --seed %lu --nodes %u --jobs %u%s%s%s --rounds 1\n",
              static_cast<double>(shrunk.violation->at_ms) / 1000, SentenceOf(shrunk.violation->rule),
              shrunk.violation->what.c_str(), options.seed, options.nodes, options.jobs,
              options.storm ? " --measure" : "", options.mutant == Mutant::kNone ? "" : " --mutant ",
              options.mutant == Mutant::kNone ? "" : InfoOf(options.mutant)->name);
}

void Summarise(const Flags& flags, uint64_t first, uint64_t rounds, double seconds, const Counts& counts,
               double slowest) {
  std::printf("seeds %lu to %lu: %lu runs of %u nodes and %u jobs held every rule, in %.1f s\n", first,
              first + rounds - 1, rounds, flags.options.nodes, flags.options.jobs, seconds);
  std::printf("faults %lu, coordinator starts %lu, core steps %lu, worker events %lu, records %lu, results %lu\n",
              counts.faults, counts.coordinator_starts, counts.steps, counts.events, counts.records, counts.results);
  std::printf("finished after the last fault within %.0f %% of the stated bound at most\n", slowest * 100);
  // Of processor time, as other programs run here as well; this one has a single thread.
  const double cpu_s = static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  const double a_minute = static_cast<double>(counts.node_failures) * 60 / cpu_s;
  std::printf(
      "node failures %lu (killed, cut off from power, or frozen beyond the lease), %.0f a minute of one core; "
      "%.0f %% of them of nodes that held a lease\n",
      counts.node_failures, a_minute,
      100.0 * static_cast<double>(counts.holders_failed) /
          static_cast<double>(counts.node_failures == 0 ? 1 : counts.node_failures));
}

int Sweep(Flags flags) {
  using Clock = std::chrono::steady_clock;
  if (flags.fresh) flags.options.seed = std::random_device()() * uint64_t{1'000'000};
  const uint64_t first = flags.options.seed;
  std::printf("farm_sim begins with seed %lu\n", first);
  std::fflush(stdout);
  ::signal(SIGABRT, OnAbort);
  const auto began = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - began).count(); };
  Counts counts;
  double slowest = 0;
  uint64_t rounds = 0;
  do {
    Options options = flags.options;
    options.seed = first + rounds;
    std::snprintf(crash_line, sizeof(crash_line),
                  "\nBROKEN by seed %lu: the core found a defect of its own and ended\n", options.seed);
    const std::vector<Fault> faults = DrawFaults(options);
    const Outcome outcome = Simulate(options, faults);
    ++rounds;
    counts.Add(outcome.counts);
    if (outcome.violation.has_value()) return Report(options, outcome, faults), 1;
    if (options.trace) {
      for (const std::string& line : outcome.trace) std::printf("%s\n", line.c_str());
    }
    slowest = std::max(slowest, static_cast<double>(outcome.quiet_ms) / static_cast<double>(outcome.bound_ms));
  } while (flags.rounds > 0 ? rounds < flags.rounds : seconds() < flags.budget_s);
  Summarise(flags, first, rounds, seconds(), counts, slowest);
  return 0;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app(
      "Runs the farm's real coordinator core and worker sessions in a simulated world that breaks by seed, and holds\n"
      "them against the rules of what may never happen. A seed that breaks a rule is shrunk to the faults that "
      "matter.");
  app.add_option("--seed", flags.options.seed, "First seed; the others follow")->capture_default_str();
  app.add_flag("--fresh", flags.fresh, "Draw the first seed (it is printed)");
  app.add_option("--nodes", flags.options.nodes, "Machines that work")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--jobs", flags.options.jobs, "Stories submitted")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--rounds", flags.rounds, "Seeds to run; 0: as many as the budget allows")->capture_default_str();
  app.add_option("--budget", flags.budget_s, "Seconds to run for, at least one seed")
      ->envname("STORYFARM_SIM_SECONDS")
      ->capture_default_str();
  app.add_flag("--measure", flags.measure, "Nodes die all the time: how many failures a minute are tried");
  app.add_flag("--trace", flags.options.trace, "Print what happens");
  app.add_option("--mutant", flags.mutant, "Plant this bug (--mutant help lists them)");
  CLI11_PARSE(app, argc, argv);
  if (flags.mutant == "help") {
    for (const MutantInfo& info : AllMutants()) std::printf("%s\n", info.name);
    return 0;
  }
  if (!flags.mutant.empty()) {
    const std::optional<Mutant> mutant = MutantNamed(flags.mutant);
    if (!mutant.has_value())
      return std::fprintf(stderr, "farm_sim: there is no mutant %s; see --mutant help\n", flags.mutant.c_str()), 2;
    flags.options.mutant = *mutant;
  }
  flags.options.storm = flags.measure;
  return Sweep(flags);
}

}  // namespace
}  // namespace storyfarm::sim

int main(int argc, char** argv) { return storyfarm::sim::Main(argc, argv); }
