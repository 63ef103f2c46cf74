// One run: the programs on their machines, what befalls them, and the end.
#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/coordinator.h"
#include "tests/sim/node.h"
#include "tests/sim/sim.h"
#include "tests/sim/submitter.h"
#include "tests/sim/world.h"

namespace storyfarm::sim {
namespace {

constexpr int64_t kSecondHostMs = 300;
constexpr int64_t kLookMs = 250;  // whether all is finished

class Simulation {
 public:
  explicit Simulation(const Options& options);
  Outcome Run(const std::vector<Fault>& faults);

 private:
  void Apply(const Fault& fault);
  bool ApplyToNode(const Fault& fault);
  bool ApplyToEngine(const Fault& fault);
  bool ApplyToNetwork(const Fault& fault);
  bool ApplyToStore(const Fault& fault);
  void ApplyToCoordinator(const Fault& fault);

  // Who took the lead last.
  Coordinator& active() { return *hosts_[world_.newest]; }
  // The node that a kill or a freeze strikes: one that holds a lease where there is one. Null: none is up.
  Node* Victim(uint32_t target);
  void Fail(Node& node, bool silently, int64_t back_after_ms);
  void Freeze(Node& node, int64_t ms, bool clock_stops);
  void FreezeActive(int64_t ms);
  void Restart(uint32_t host, int64_t after_ms);
  void Calm();
  bool Finished();
  int64_t BoundMs() const;
  void CheckResults();

  World world_;
  std::vector<std::unique_ptr<Coordinator>> hosts_;
  std::vector<std::unique_ptr<Node>> nodes_;
  Submitter submitter_;
};

Simulation::Simulation(const Options& options)
    : world_(options), submitter_(&world_, [this]() -> Coordinator* {
        for (const auto& host : hosts_) {
          if (host->leads() && (!active().leads() || host.get() == &active())) return host.get();
        }
        return nullptr;
      }) {
  for (uint32_t i = 0; i < kHosts; ++i) {
    hosts_.push_back(std::make_unique<Coordinator>(
        &world_, i, [this](uint32_t host, int64_t restart_ms) { Restart(host, restart_ms); }));
  }
  for (uint32_t i = 0; i < options.nodes; ++i) {
    nodes_.push_back(std::make_unique<Node>(&world_, i, [this](uint32_t node) {
      world_.time.After(500, [this, node] {
        if (!nodes_[node]->up()) nodes_[node]->Boot();
      });
    }));
  }
  Network::Ends ends;
  ends.to_host = [this](uint32_t host, uint64_t stream, uint32_t node, farm::v1::WorkerMessage message) {
    hosts_[host]->Hear(stream, node, std::move(message));
  };
  ends.host_lost = [this](uint32_t host, uint64_t stream) { hosts_[host]->StreamLost(stream); };
  ends.to_node = [this](uint32_t node, uint64_t stream, farm::v1::CoordinatorMessage message) {
    nodes_[node]->Hear(stream, std::move(message));
  };
  ends.node_lost = [this](uint32_t node, uint64_t stream, const absl::Status& why) {
    nodes_[node]->StreamLost(stream, why);
  };
  world_.network.Connect(std::move(ends));
}

// ---- Faults -------------------------------------------------------------------------------------------------------

void Simulation::Apply(const Fault& fault) {
  world_.Trace([&] { return absl::StrCat("FAULT ", ToString(fault)); });
  ++world_.counts.faults;
  if (ApplyToNode(fault) || ApplyToEngine(fault) || ApplyToNetwork(fault) || ApplyToStore(fault)) return;
  ApplyToCoordinator(fault);
}

Node* Simulation::Victim(uint32_t target) {
  std::vector<Node*> holders;
  std::vector<Node*> others;
  for (const auto& node : nodes_) {
    if (!node->up() || node->frozen()) continue;
    (world_.judge.durable().Holds(node->id()) ? holders : others).push_back(node.get());
  }
  const std::vector<Node*>& from = holders.empty() ? others : holders;
  return from.empty() ? nullptr : from[target % from.size()];
}

void Simulation::Fail(Node& node, bool silently, int64_t back_after_ms) {
  ++world_.counts.node_failures;
  world_.counts.holders_failed += world_.judge.durable().Holds(node.id());
  node.Kill(silently);
  world_.time.After(back_after_ms, [&node] {
    if (!node.up()) node.Boot();
  });
}

void Simulation::Freeze(Node& node, int64_t ms, bool clock_stops) {
  if (ms > world_.limits.lease_ms) {
    ++world_.counts.node_failures;
    world_.counts.holders_failed += world_.judge.durable().Holds(node.id());
  }
  node.Freeze();
  const auto index = static_cast<uint32_t>(
      std::find_if(nodes_.begin(), nodes_.end(), [&](const auto& each) { return each.get() == &node; }) -
      nodes_.begin());
  const uint64_t life = node.life();
  world_.time.After(kDeadPeerMs, [this, index, life] {
    if (nodes_[index]->frozen() && nodes_[index]->life() == life) world_.network.NodeFroze(index);
  });
  world_.time.After(ms, [this, &node, life, ms, clock_stops] {
    if (!node.frozen() || node.life() != life) return;
    world_.Trace([&] { return absl::StrCat(node.id(), " thaws"); });
    if (clock_stops) node.Suspend(ms);
    node.Thaw();
  });
}

bool Simulation::ApplyToNode(const Fault& fault) {
  Node* node = Victim(fault.target);
  switch (fault.kind) {
    case FaultKind::kKillNode:
      if (node != nullptr) Fail(*node, false, fault.size);
      return true;
    case FaultKind::kCutPower:
      if (node != nullptr) Fail(*node, true, fault.size);
      return true;
    case FaultKind::kLoseNode:
      if (node == nullptr) return true;
      Fail(*node, true, fault.size);
      node->LoseDisk();
      return true;
    case FaultKind::kFreezeNode:
    case FaultKind::kSuspendNode:
      if (node != nullptr) Freeze(*node, fault.size, fault.kind == FaultKind::kSuspendNode);
      return true;
    case FaultKind::kDrainNode:
      if (node != nullptr) node->Drain();
      return true;
    case FaultKind::kJumpNodeClock:
      nodes_[fault.target % nodes_.size()]->JumpClock(fault.size);
      return true;
    case FaultKind::kUseMachine:
      if (node != nullptr) node->UseMachine(fault.size);
      return true;
    case FaultKind::kFillDisk:
      nodes_[fault.target % nodes_.size()]->FillDisk(static_cast<uint32_t>(fault.size));
      return true;
    case FaultKind::kCorruptBlob:
      nodes_[fault.target % nodes_.size()]->CorruptBlob(static_cast<uint64_t>(fault.size));
      return true;
    case FaultKind::kBreakUpload:
      nodes_[fault.target % nodes_.size()]->BreakUploads(static_cast<uint32_t>(fault.size));
      return true;
    default:
      return false;
  }
}

bool Simulation::ApplyToEngine(const Fault& fault) {
  Node& node = *nodes_[fault.target % nodes_.size()];
  const auto device = static_cast<uint32_t>(fault.at_ms) % node.device_count();
  switch (fault.kind) {
    case FaultKind::kAbortEngine:
      return node.Doom(device, RunFate::kAborts), true;
    case FaultKind::kHangEngine:
      return node.Doom(device, RunFate::kHangs), true;
    case FaultKind::kStarveEngine:
      return node.Doom(device, RunFate::kStarves), true;
    case FaultKind::kSpoilOutput:
      return node.Doom(device, RunFate::kSpoils), true;
    case FaultKind::kTakeMemory:
      return node.TakeMemory(device, fault.size), true;
    case FaultKind::kKillEngine:
      return node.KillEngine(device), true;
    default:
      return false;
  }
}

bool Simulation::ApplyToNetwork(const Fault& fault) {
  const uint32_t node = fault.target % static_cast<uint32_t>(nodes_.size());
  Network& network = world_.network;
  switch (fault.kind) {
    case FaultKind::kPartition:
      network.Cut(node, Way::kUp, fault.size);
      return network.Cut(node, Way::kDown, fault.size), true;
    case FaultKind::kPartitionUp:
      return network.Cut(node, Way::kUp, fault.size), true;
    case FaultKind::kPartitionDown:
      return network.Cut(node, Way::kDown, fault.size), true;
    case FaultKind::kDropUp:
      return network.Drop(node, Way::kUp), true;
    case FaultKind::kDropDown:
      return network.Drop(node, Way::kDown), true;
    case FaultKind::kDoubleUp:
      return network.Double(node, Way::kUp), true;
    case FaultKind::kDoubleDown:
      return network.Double(node, Way::kDown), true;
    case FaultKind::kDelayUp:
      return network.Delay(node, Way::kUp, fault.size), true;
    case FaultKind::kDelayDown:
      return network.Delay(node, Way::kDown, fault.size), true;
    case FaultKind::kReorderUp:
      return network.Reorder(node, Way::kUp, fault.size), true;
    case FaultKind::kReorderDown:
      return network.Reorder(node, Way::kDown, fault.size), true;
    default:
      return false;
  }
}

bool Simulation::ApplyToStore(const Fault& fault) {
  const auto writes = static_cast<uint32_t>(fault.size);
  switch (fault.kind) {
    case FaultKind::kLoseAppendRequest:
      world_.trouble.lose_request += writes;
      return true;
    case FaultKind::kLoseAppendAnswer:
      world_.trouble.lose_answer += writes;
      return true;
    case FaultKind::kRefuseAppend:
      world_.trouble.refuse += writes;
      return true;
    case FaultKind::kSlowStore:
      world_.trouble.slow_ms = fault.size;
      return true;
    case FaultKind::kLowDisk:
      world_.disk_low_ms = std::max(world_.disk_low_ms, world_.time.now_ms() + fault.size);
      return true;
    default:
      return false;
  }
}

void Simulation::Restart(uint32_t host, int64_t after_ms) {
  world_.time.After(after_ms, [this, host] {
    if (!hosts_[host]->up()) hosts_[host]->Boot();
  });
}

void Simulation::FreezeActive(int64_t ms) {
  Coordinator& coordinator = active();
  const uint32_t host = world_.newest;
  const uint64_t life = coordinator.life();
  coordinator.Freeze();
  world_.time.After(kDeadPeerMs, [this, host, life] {
    if (hosts_[host]->frozen() && hosts_[host]->life() == life) world_.network.HostFroze(host);
  });
  world_.time.After(ms, [this, host, life] {
    if (hosts_[host]->life() == life) hosts_[host]->Thaw();
  });
}

void Simulation::ApplyToCoordinator(const Fault& fault) {
  if (!active().up() || active().frozen()) return;
  switch (fault.kind) {
    case FaultKind::kKillCoordinator:
      active().Kill(fault.target % 4 == 0);
      return Restart(world_.newest, fault.size);
    case FaultKind::kKillBeforeAppend:
      return active().ArmKill(KillPoint::kBeforeAppend, fault.size);
    case FaultKind::kKillAfterAppend:
      return active().ArmKill(KillPoint::kAfterAppend, fault.size);
    case FaultKind::kKillWhileSending:
      return active().ArmKill(KillPoint::kWhileSending, fault.size);
    case FaultKind::kFreezeCoordinator:
      return FreezeActive(fault.size);
    case FaultKind::kCutStore:
      world_.store_cut_ms[world_.newest] = world_.time.now_ms() + fault.size;
      return;
    case FaultKind::kJumpCoordinatorClock:
      return active().JumpClock(fault.size);
    default:
      return;
  }
}

// ---- The end ------------------------------------------------------------------------------------------------------

void Simulation::Calm() {
  world_.Trace([] { return std::string("QUIET"); });
  world_.network.Heal();
  world_.trouble = StoreTrouble();
  for (const auto& host : hosts_) {
    host->ArmKill(KillPoint::kNone, 0);
    host->Thaw();
  }
  world_.store_cut_ms = {};
  world_.disk_low_ms = 0;
  for (uint32_t i = 0; i < kHosts; ++i) Restart(i, 0);
  for (const auto& node : nodes_) {
    node->Calm();
    node->Thaw();
    if (!node->up()) node->Boot();
  }
}

// An engine's hang that began last is noticed, its device is set aside and gets another chance, whatever lease was open
// ends. Then all the work is done again by all devices together, and each of a story's four stages (identities, frames,
// pages, the book) ends with one batch on the slowest device. Twice, as needs are learned and outputs spoiled before.
int64_t Simulation::BoundMs() const {
  const int64_t recover_ms = WorkerLimits(Mutant::kNone).unknown_silence_ms + world_.limits.lease_ms +
                             2 * world_.limits.set_aside_ms + world_.limits.backoff_most_ms;
  double tflops = 0;
  for (const auto& node : nodes_) tflops += node->tflops();
  const double all_s = SimPlanner::kFrameWork * static_cast<double>(submitter_.tasks()) / tflops;
  const double tail_s = 4 * SimPlanner::kMostBatch * kSlowestFrameSeconds;
  return recover_ms + static_cast<int64_t>(2000 * (all_s + tail_s));
}

bool Simulation::Finished() {
  if (!submitter_.Done() || !active().leads() || !active().Level()) return false;
  for (const auto& [id, job] : world_.judge.durable().jobs()) {
    if (!job.ended || job.notice_due) return false;
  }
  return std::all_of(nodes_.begin(), nodes_.end(), [](const auto& node) { return node->up() && node->Idle(); });
}

// What people are shown is what the log says was taken.
void Simulation::CheckResults() {
  for (const std::string& id : world_.judge.promised()) {
    const auto status = active().farm().GetJob(active().Now(), id, true);
    if (!status.ok()) continue;  // in the archive
    for (const auto& task : status->tasks()) {
      const Ledger::Task* known = world_.judge.durable().Find(task.task());
      if (!task.has_frame() || known->taken_under.number == 0) continue;
      if (!std::equal(known->digest.begin(), known->digest.end(), task.frame().image().digest().begin()))
        world_.judge.Complain(Rule::kResultOnce, absl::StrCat("a result of job ", id, " has changed"));
    }
  }
}

Outcome Simulation::Run(const std::vector<Fault>& faults) {
  for (const Fault& fault : faults) {
    world_.time.After(fault.at_ms, [this, fault] { Apply(fault); });
  }
  hosts_[0]->Boot();
  Restart(1, kSecondHostMs);
  for (const auto& node : nodes_) node->Boot();
  submitter_.Start();
  const int64_t quiet_at_ms = world_.options.fault_ms;
  world_.time.After(quiet_at_ms, [this] { Calm(); });
  Outcome outcome;
  outcome.bound_ms = BoundMs();
  int64_t look_ms = quiet_at_ms + kLookMs;
  while (!world_.judge.violation().has_value() && world_.time.Next()) {
    if (world_.time.now_ms() < look_ms) continue;
    look_ms = world_.time.now_ms() + kLookMs;
    outcome.quiet_ms = world_.time.now_ms() - quiet_at_ms;
    if (Finished()) {
      active().CheckReplay();
      CheckResults();
      world_.judge.CheckTold();
      break;
    }
    if (outcome.quiet_ms > outcome.bound_ms)
      world_.judge.Complain(Rule::kFinishes,
                            absl::StrCat("not all is finished ", outcome.quiet_ms / 1000, " s after the last fault"));
  }
  outcome.violation = world_.judge.violation();
  outcome.counts = world_.counts;
  outcome.trace = std::move(world_.trace);
  if (outcome.trace.size() > kTraceLines)
    outcome.trace.erase(outcome.trace.begin(), outcome.trace.end() - static_cast<long>(kTraceLines));
  return outcome;
}

}  // namespace

Outcome Simulate(const Options& options, const std::vector<Fault>& faults) { return Simulation(options).Run(faults); }

}  // namespace storyfarm::sim
