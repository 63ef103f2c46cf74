#include "tests/sim/fault.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_format.h"
#include "tests/sim/dice.h"
#include "tests/sim/sim.h"

namespace storyfarm::sim {
namespace {

struct KindInfo {
  const char* name;
  int64_t least;  // size
  int64_t most;
  uint32_t weight;
};

// By FaultKind. A lease lasts 5 s, a broken stream is noticed after 6 s.
constexpr std::array<KindInfo, kFaultKindCount> kKinds = {{
    {"kill-node", 50, 3000, 6},
    {"cut-power", 50, 9000, 4},
    {"lose-node", 200, 5000, 3},
    {"freeze-node", 500, 15'000, 5},
    {"suspend-node", 500, 15'000, 3},
    {"drain-node", 0, 0, 2},
    {"jump-node-clock", 1000, 60'000, 2},
    {"use-machine", 200, 15'000, 3},
    {"abort-engine", 0, 0, 4},
    {"hang-engine", 0, 0, 2},
    {"starve-engine", 0, 0, 3},
    {"spoil-output", 0, 0, 2},
    {"take-memory", 1000, 20'000, 3},
    {"kill-engine", 0, 0, 3},
    {"fill-disk", 1, 3, 2},
    {"corrupt-blob", 0, 1000, 3},
    {"break-upload", 1, 3, 2},
    {"partition", 100, 15'000, 5},
    {"partition-up", 100, 15'000, 3},
    {"partition-down", 100, 15'000, 3},
    {"drop-up", 0, 0, 5},
    {"drop-down", 0, 0, 5},
    {"double-up", 0, 0, 5},
    {"double-down", 0, 0, 5},
    {"delay-up", 100, 8000, 4},
    {"delay-down", 100, 8000, 4},
    {"reorder-up", 10, 3000, 4},
    {"reorder-down", 10, 3000, 4},
    {"kill-coordinator", 50, 4000, 3},
    {"kill-before-append", 50, 2000, 2},
    {"kill-after-append", 50, 2000, 2},
    {"kill-while-sending", 50, 2000, 2},
    {"freeze-coordinator", 300, 12'000, 2},
    {"cut-store", 300, 9000, 3},
    {"jump-coordinator-clock", 1000, 60'000, 1},
    {"lose-append-request", 1, 4, 2},
    {"lose-append-answer", 1, 4, 3},
    {"refuse-append", 1, 3, 2},
    {"slow-store", 100, 4000, 2},
    {"low-disk", 500, 12'000, 2},
}};

constexpr uint32_t kFavoured = 40;

// In a storm every node dies as often as this.
constexpr int64_t kStormLifeMs = 1100;

const KindInfo& InfoOf(FaultKind kind) { return kKinds[static_cast<size_t>(kind)]; }

Fault Draw(Dice& dice, FaultKind kind, int64_t duration_ms) {
  Fault fault;
  fault.kind = kind;
  fault.at_ms = dice.Between(0, duration_ms - 1);
  fault.target = static_cast<uint32_t>(dice.Below(1000));
  // Short ones more often than long ones.
  const KindInfo& info = InfoOf(kind);
  fault.size = std::min(dice.Between(info.least, info.most), dice.Between(info.least, info.most));
  return fault;
}

}  // namespace

const char* NameOf(FaultKind kind) { return InfoOf(kind).name; }

std::string ToString(const Fault& fault) {
  return absl::StrFormat("%9.3f s  %s, target %u, size %d", static_cast<double>(fault.at_ms) / 1000, NameOf(fault.kind),
                         fault.target, fault.size);
}

std::vector<Fault> DrawFaults(const Options& options) {
  Dice dice(options.seed, 3);
  std::array<uint32_t, kFaultKindCount> weights{};
  uint32_t sum = 0;
  for (int i = 0; i < kFaultKindCount; ++i) {
    const bool in = options.storm || dice.Chance(60);
    weights[i] = in ? kKinds[i].weight * (dice.Chance(15) ? 5 : 1) : 0;
  }
  if (const MutantInfo* mutant = InfoOf(options.mutant)) {
    for (const FaultKind kind : mutant->favours) weights[static_cast<size_t>(kind)] = kFavoured;
  }
  for (const uint32_t weight : weights) sum += weight;
  // Some runs are nearly calm: bugs that need a long quiet time before the one fault.
  const int64_t seconds = options.fault_ms / 1000;
  int64_t faults = seconds * options.nodes * dice.Between(1, 40) / 100;
  if (options.storm) faults = seconds * options.nodes / 20;
  std::vector<Fault> list;
  for (int64_t i = 0; i < faults && sum > 0; ++i) {
    uint64_t pick = dice.Below(sum);
    int kind = 0;
    while (pick >= weights[kind]) pick -= weights[kind++];
    list.push_back(Draw(dice, static_cast<FaultKind>(kind), options.fault_ms));
  }
  const int64_t kills = options.storm ? options.fault_ms * options.nodes / kStormLifeMs : 0;
  for (int64_t i = 0; i < kills; ++i) {
    const FaultKind kind = dice.Chance(80) ? FaultKind::kKillNode : FaultKind::kCutPower;
    Fault fault = Draw(dice, kind, options.fault_ms);
    fault.size = dice.Between(10, 100);
    list.push_back(fault);
  }
  std::stable_sort(list.begin(), list.end(), [](const Fault& a, const Fault& b) { return a.at_ms < b.at_ms; });
  return list;
}

}  // namespace storyfarm::sim
