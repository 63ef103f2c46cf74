#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "coordinator/core/scheduling_round.h"
#include "coordinator/core/spread.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_PAGE;
using farm::v1::TASK_TEXT;

// Candidates that are compared exactly; beyond them a device differs by what the ranking already says.
constexpr size_t kMostCandidates = 16;
// A level holds until this share of the devices changed, a tick passed, or so much more work came.
constexpr size_t kLevelShare = 16;
constexpr double kLevelWork = 1.25;

}  // namespace

SchedulingRound::SchedulingRound(Farm::Parts* farm)
    : farm_(*farm), now_s_(static_cast<double>(farm->now.monotonic_ms) / 1000) {}

std::optional<SchedulingRound::Question> SchedulingRound::Ask(const Job& job, const Unit& unit) {
  Question question;
  question.job = &job;
  question.unit = unit;
  question.ranking = farm_.pool.RankingFor(job, unit, farm_.pool.SampleOf(job, unit));
  if (question.ranking == nullptr || question.ranking->size() == 0) return std::nullopt;
  if (unit.kind == TASK_IDENTITY) {
    question.tasks = std::max(1.0, farm_.queue.Backlog(job) / JobQueue::IdentityFrames(job, unit.number));
  }
  if (unit.kind == TASK_TEXT) question.tasks = job.count(TASK_TEXT, farm::v1::TASK_READY);
  if (unit.kind == TASK_FRAME) {
    question.tasks = farm_.queue.Backlog(job);
    for (uint32_t identity : job.head().frame_sets(static_cast<int>(unit.number)).identities()) {
      if (const farm::v1::Bank* bank = job.BankOf(identity)) question.banks.push_back(bank);
    }
  }
  return question;
}

double SchedulingRound::BankSeconds(const Question& question, Seat seat) const {
  const Seated& seated = farm_.pool.seats()[seat];
  uint64_t bytes = 0;
  for (const farm::v1::Bank* bank : question.banks) bytes += seated.node->MissingBytes(*bank);
  return bytes == 0 ? 0 : plan::FetchSeconds(seated.device->report, bytes);
}

std::vector<Candidate> SchedulingRound::CandidatesFor(const Question& question) {
  std::vector<Candidate> candidates = question.ranking->Nearest(now_s_, kMostCandidates);
  if (!question.banks.empty()) {
    // A node that has the banks may be worth more than a faster one that would fetch them first.
    const auto holders = farm_.fleet.bank_nodes.find(question.job->ordinal());
    if (holders != farm_.fleet.bank_nodes.end()) {
      for (const std::string& id : holders->second) {
        const auto node = farm_.fleet.nodes.find(id);
        if (node == farm_.fleet.nodes.end()) continue;
        for (const auto& [index, device] : node->second.devices) {
          Candidate holder;
          if (!device.seated || !question.ranking->CandidateAt(device.seat, now_s_, &holder)) continue;
          const bool known = std::any_of(candidates.begin(), candidates.end(),
                                         [&holder](const Candidate& other) { return other.seat == holder.seat; });
          if (!known) candidates.push_back(holder);
        }
      }
    }
    for (Candidate& candidate : candidates) {
      const double bank_s = BankSeconds(question, candidate.seat);
      candidate.offer.setup_s += bank_s;
      candidate.start_s += bank_s;
      candidate.finish_s += bank_s;
    }
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.finish_s != b.finish_s ? a.finish_s < b.finish_s : a.seat < b.seat;
  });
  return candidates;
}

double SchedulingRound::LevelOf(const Question& question) {
  UnitMemory& memory = farm_.fleet.units[{question.job->ordinal(), question.unit}];
  const uint64_t changes = farm_.pool.changes();
  const bool holds = memory.level_s > 0 && farm_.now.monotonic_ms - memory.level_ms < kTickMs &&
                     changes - memory.level_changes < std::max<size_t>(1, question.ranking->size() / kLevelShare) &&
                     question.tasks <= memory.level_tasks * kLevelWork;
  if (!holds) {
    memory.level_s = LevelFor(question.ranking->Runners(now_s_, [&](Seat seat) { return BankSeconds(question, seat); }),
                              question.tasks);
    memory.level_ms = farm_.now.monotonic_ms;
    memory.level_changes = changes;
    memory.level_tasks = question.tasks;
  }
  return memory.level_s;
}

double SchedulingRound::GroupSeconds() const {
  return static_cast<double>(farm_.queue.size() > 1 ? farm_.limits.turn_seconds : farm_.limits.group_seconds);
}

double SchedulingRound::ShareOf(const Question& question, const Candidate& candidate, double* level_s) {
  const Runner runner{candidate.start_s, candidate.offer.task_s};
  // All devices idle and fractions of tasks counted: no level is lower.
  *level_s = now_s_ + question.tasks / question.ranking->rate();
  const double share = FinishedBy(runner, *level_s);
  if (share * runner.task_s >= 2 * GroupSeconds() && share >= 2 * candidate.offer.batch) return share;
  *level_s = LevelOf(question);
  return FinishedBy(runner, *level_s);
}

bool SchedulingRound::HeldLongEnough(const Question& question, const Candidate& candidate) {
  const double since_s = farm_.fleet.held_since_s.emplace(question.job->ordinal(), now_s_).first->second;
  return now_s_ - since_s >= candidate.finish_s - now_s_;
}

bool SchedulingRound::OthersMayTake(const std::set<uint32_t>& aborted_on, const Job& job) const {
  for (const Seated& seated : farm_.pool.seats()) {
    if (!seated.available) continue;
    const bool tried = std::any_of(aborted_on.begin(), aborted_on.end(),
                                   [&](uint32_t node) { return job.nodes()[node].id == seated.node->id; });
    if (!tried) return true;
  }
  return false;
}

std::vector<uint32_t> SchedulingRound::Cut(const Job& job, const Unit& unit, const Node& node, size_t most) const {
  auto barred = [&](farm::v1::TaskKind kind, uint32_t number) {
    const std::set<uint32_t>* aborts = job.AbortsOf({kind, number});
    if (aborts == nullptr || !OthersMayTake(*aborts, job)) return false;
    return std::any_of(aborts->begin(), aborts->end(), [&](uint32_t at) { return job.nodes()[at].id == node.id; });
  };
  std::vector<uint32_t> numbers;
  if (unit.kind != TASK_FRAME) {
    if (!barred(unit.kind, unit.number)) numbers.push_back(unit.number);
    return numbers;
  }
  job.VisitReady(unit.number, [&](uint32_t panel) {
    if (barred(TASK_FRAME, panel)) return true;
    if (job.slot(TASK_FRAME, panel)->alone) {
      if (!numbers.empty()) return true;
      numbers.push_back(panel);
      return false;
    }
    numbers.push_back(panel);
    return numbers.size() < most;
  });
  return numbers;
}

bool SchedulingRound::ComesAsPack(const Job& job, const Unit& unit, const Candidate& first) const {
  const std::optional<PackUnderWay> pack = farm_.FindPackUnderWay(job, unit.number);
  return pack.has_value() && pack->end_s <= first.finish_s;
}

bool SchedulingRound::GrantUnit(const Job& job, const Unit& unit) {
  if (unit.kind == TASK_TEXT && farm_.TakeText(job, unit.number)) return true;
  const std::optional<Question> question = Ask(job, unit);
  if (!question.has_value()) return false;
  const std::vector<Candidate> candidates = CandidatesFor(*question);
  if (unit.kind == TASK_IDENTITY && !candidates.empty() && ComesAsPack(job, unit, candidates.front())) return false;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& candidate = candidates[i];
    Placement placement;
    // Pages are quick on anything: nothing is gained by waiting.
    double level_s = candidate.finish_s;
    double share = unit.kind == TASK_PAGE ? 1 : ShareOf(*question, candidate, &level_s);
    if (share < 1) {
      if (!HeldLongEnough(*question, candidate)) return false;  // those after it would finish later still
      share = 1;
      placement.held_s = now_s_ - farm_.fleet.held_since_s[job.ordinal()];
    }
    const double batch = candidate.offer.batch;
    double most =
        std::min({std::max(batch, std::ceil(share / 2)), share, static_cast<double>(farm_.limits.frames_a_group),
                  std::max(batch, std::floor(GroupSeconds() / candidate.offer.task_s))});
    if (most > batch) most -= std::fmod(most, batch);
    const Seated& seated = farm_.pool.seats()[candidate.seat];
    std::vector<uint32_t> numbers = Cut(job, unit, *seated.node, static_cast<size_t>(most));
    if (numbers.empty()) continue;
    placement.finish_s = candidate.finish_s - now_s_;
    placement.free_s = candidate.start_s - candidate.offer.setup_s - now_s_;
    placement.setup_s = candidate.offer.setup_s;
    placement.task_s = candidate.offer.task_s;
    placement.level_s = level_s - now_s_;
    placement.jobs = static_cast<uint32_t>(farm_.queue.size());
    placement.groups = job.live_grants;
    if (i + 1 < candidates.size()) {
      const Seated& next = farm_.pool.seats()[candidates[i + 1].seat];
      placement.next_node = next.node->name;
      placement.next_finish_s = candidates[i + 1].finish_s - now_s_;
    }
    if (Grant(*question, candidate, std::move(numbers), std::move(placement))) {
      farm_.fleet.held_since_s.erase(job.ordinal());
      return true;
    }
  }
  return false;
}

bool SchedulingRound::GrantOne(const Job& job) {
  // Prompts and identities first, as frames wait for them; then pages, which are quick and what people want to see.
  for (const auto kind : {TASK_TEXT, TASK_IDENTITY, TASK_PAGE, TASK_FRAME}) {
    const std::set<Unit>& units = job.ready_units();
    for (auto unit = units.lower_bound({kind, 0}); unit != units.end() && unit->kind == kind;) {
      const Unit asked = *unit++;
      if (GrantUnit(job, asked)) return true;
      if (farm_.pool.rooms() == 0) return false;
    }
  }
  return false;
}

void SchedulingRound::Run() {
  farm_.Settle();
  farm_.pool.Wake();
  if (!farm_.dispatch_held.empty()) return;
  const bool opened = farm_.pool.TakeOpened();
  const bool all = opened || farm_.now.monotonic_ms - farm_.full_round_ms >= kTickMs;
  // Where no device got room, only jobs that changed can get more than they got before.
  std::set<uint64_t> changed;
  changed.swap(farm_.changed_turns);
  if (farm_.pool.rooms() == 0) return;
  size_t grants = 0;
  for (auto turn = farm_.queue.turns().begin(); turn != farm_.queue.turns().end();) {
    const Turn now = *turn;
    if (farm_.pool.rooms() == 0) break;
    if (grants >= farm_.limits.grants_a_step) {
      farm_.full_round_ms = 0;  // the next Step goes on
      return;
    }
    if ((all || changed.count(now.ordinal) > 0) && GrantOne(*farm_.state.FindJob(farm_.state.live().at(now.ordinal)))) {
      ++grants;
      farm_.Settle();  // the job now stands further back, where it is met again
      changed.insert(now.ordinal);
    }
    turn = farm_.queue.turns().upper_bound(now);
  }
  if (!all) return;
  farm_.full_round_ms = farm_.now.monotonic_ms;
  if (!farm_.fleet.writers.empty()) GoAhead();
  Steal();
}

void Farm::Parts::Schedule() { SchedulingRound(this).Run(); }

}  // namespace storyfarm::coordinator
