#include <algorithm>
#include <cmath>

#include "coordinator/core/scheduling_round.h"

namespace storyfarm::coordinator {
namespace {

// Moving frames costs two messages and perhaps a model's loading: less gain than this is not worth them.
constexpr double kLeastStealGainSeconds = 0.5;
// A device that was asked to give back frames answers within a round trip; it is not asked again meanwhile.
constexpr int64_t kTrimAgainMs = 3000;
// Groups looked at in a round, those that end last first.
constexpr int kMostVictims = 8;

// Frames of the group that its worker has not begun, from the last down; the first frame of a group that is about to
// begin stays.
std::vector<uint32_t> Unstarted(const LiveGrant& grant, const Lease& lease, bool running) {
  std::vector<uint32_t> unstarted;
  for (auto number = grant.numbers.rbegin(); number != grant.numbers.rend(); ++number) {
    if (lease.started.count(*number) == 0) unstarted.push_back(*number);
  }
  if (running && unstarted.size() == grant.numbers.size()) unstarted.pop_back();
  return unstarted;
}

}  // namespace

void Farm::Parts::NoteStealable(const Holding& holding) {
  const LiveGrant& grant = state.grants().at(holding.token);
  Lease& lease = fleet.leases[holding.token];
  const bool can =
      grant.kind == farm::v1::TASK_FRAME && lease.task_seconds > 0 && (!holding.running || grant.numbers.size() > 1);
  const double end_s = can ? holding.end_s : 0;
  if (end_s == lease.stealable_s) return;
  if (lease.stealable_s > 0) fleet.stealable.erase({lease.stealable_s, holding.token});
  if (end_s > 0) fleet.stealable.emplace(end_s, holding.token);
  lease.stealable_s = end_s;
}

void SchedulingRound::Steal() {
  promised_.clear();
  std::vector<Token> victims;
  auto& stealable = farm_.fleet.stealable;
  for (auto at = stealable.end(); at != stealable.begin() && farm_.pool.idle() > promised_.size();) {
    --at;
    if (farm_.state.grants().count(at->second) == 0) {
      at = stealable.erase(at);  // over
      continue;
    }
    if (farm_.now.monotonic_ms < farm_.fleet.leases[at->second].trim_again_ms) continue;
    victims.push_back(at->second);
    if (victims.size() == kMostVictims) break;
  }
  for (const Token& token : victims) {
    if (farm_.pool.idle() > promised_.size()) StealFrom(token);
  }
}

void SchedulingRound::StealFrom(const Token& token) {
  const LiveGrant& grant = farm_.state.grants().at(token);
  Lease& lease = farm_.fleet.leases[token];
  const Job& job = *farm_.state.FindJob(grant.job_id);
  const auto victim = farm_.fleet.nodes.find(grant.node_id);
  if (victim == farm_.fleet.nodes.end() || victim->second.session == 0) return;
  const std::vector<Holding> holdings = farm_.HoldingsOf(victim->second, grant.device);
  const bool running = !holdings.empty() && holdings.front().token == token;
  const std::vector<uint32_t> unstarted = Unstarted(grant, lease, running);
  if (unstarted.empty()) return;
  Question question;
  question.job = &job;
  question.unit = {grant.kind, static_cast<uint32_t>(job.owner(*grant.numbers.begin()))};
  question.ranking = farm_.pool.RankingFor(job, question.unit, {unstarted.front()});
  if (question.ranking == nullptr) return;
  for (uint32_t identity : job.head().frame_sets(static_cast<int>(question.unit.number)).identities()) {
    if (const farm::v1::Bank* bank = job.BankOf(identity)) question.banks.push_back(bank);
  }
  for (const Candidate& thief : CandidatesFor(question)) {
    if (farm_.pool.seats()[thief.seat].room != Room::kIdle || promised_.count(thief.seat) > 0) continue;
    // So many that both are done at the same time.
    const double left_s = holdings.back().end_s - now_s_;
    const double even = std::floor((left_s - thief.offer.setup_s) / (thief.offer.task_s + lease.task_seconds));
    const size_t take = std::min(unstarted.size(), static_cast<size_t>(std::max(0.0, even)));
    if (take == 0 || static_cast<double>(take) * lease.task_seconds <= kLeastStealGainSeconds) return;
    promised_.insert(thief.seat);
    lease.trim_again_ms = farm_.now.monotonic_ms + kTrimAgainMs;
    return farm_.AskBack(token, {unstarted.begin(), unstarted.begin() + static_cast<long>(take)});
  }
}

void Farm::Parts::AskBack(const Token& token, const std::vector<uint32_t>& numbers) {
  const LiveGrant& grant = state.grants().at(token);
  const auto node = fleet.nodes.find(grant.node_id);
  if (node == fleet.nodes.end() || numbers.empty()) return;
  farm::v1::CoordinatorMessage message;
  *message.mutable_trim()->mutable_token() = ToMessage(token);
  for (uint32_t number : numbers) *message.mutable_trim()->add_tasks() = MakeTask(grant.job_id, grant.kind, number);
  Send(node->second.session, std::move(message));
}

}  // namespace storyfarm::coordinator
