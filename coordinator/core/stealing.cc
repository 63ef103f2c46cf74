#include <algorithm>
#include <cmath>

#include "coordinator/core/scheduling_round.h"

namespace storyfarm::coordinator {
namespace {

// Moving frames costs two messages and perhaps a model's loading: less gain than this is not worth them.
constexpr double kLeastStealGainSeconds = 0.5;
// A device that was asked to give back frames answers within a round trip; it is not asked again meanwhile.
constexpr int64_t kTrimAgainMs = 3000;
}  // namespace

void SchedulingRound::Steal() {
  for (size_t i = 0; i < places_.size(); ++i) {
    if (places_[i].idle) StealFor(i);
  }
}

void SchedulingRound::StealFor(size_t idle) {
  const Token* victim = nullptr;
  size_t take = 0;
  double most_gain_s = kLeastStealGainSeconds;
  for (size_t i = 0; i < places_.size(); ++i) {
    const Place& busy = places_[i];
    const std::set<Token>* tokens = farm_.state.GrantsOf(busy.node->id);
    if (i == idle || busy.idle || tokens == nullptr) continue;
    const double left_s = farm_.BusySeconds(*busy.node, busy.index);
    for (const Token& token : *tokens) {
      const LiveGrant& grant = farm_.state.grants().at(token);
      const Lease& lease = farm_.fleet.leases[token];
      if (grant.device != busy.index || grant.kind != farm::v1::TASK_FRAME) continue;
      if (farm_.now.monotonic_ms < lease.trim_again_ms || lease.task_seconds <= 0) continue;
      const Job& job = *farm_.state.FindJob(grant.job_id);
      const Unit unit{grant.kind, static_cast<uint32_t>(job.owner(*grant.numbers.begin()))};
      const uint32_t sample[] = {*grant.numbers.begin()};
      const auto shape = farm_.planner->ShapeOf(job.spec(), unit.kind, sample);
      const std::optional<Offer> offer = shape.ok() ? OfferOf(job, unit, *shape, idle) : std::nullopt;
      if (!offer.has_value()) continue;
      // So many that both are done at the same time.
      const double even = (left_s - offer->setup_s) / (offer->task_s + lease.task_seconds);
      size_t unstarted = 0;
      for (uint32_t number : grant.numbers) unstarted += lease.started.count(number) == 0 ? 1 : 0;
      const bool running = token == *tokens->begin();
      if (running && unstarted == grant.numbers.size()) --unstarted;  // its first frame is about to begin
      const size_t can = std::min(unstarted, static_cast<size_t>(std::max(0.0, std::floor(even))));
      const double gain_s = static_cast<double>(can) * lease.task_seconds;
      if (can == 0 || gain_s <= most_gain_s) continue;
      most_gain_s = gain_s;
      victim = &token;
      take = can;
    }
  }
  if (victim == nullptr) return;
  const LiveGrant& grant = farm_.state.grants().at(*victim);
  Lease& lease = farm_.fleet.leases[*victim];
  lease.trim_again_ms = farm_.now.monotonic_ms + kTrimAgainMs;
  farm::v1::CoordinatorMessage message;
  *message.mutable_trim()->mutable_token() = ToMessage(*victim);
  for (auto number = grant.numbers.rbegin(); number != grant.numbers.rend() && take > 0; ++number) {
    if (lease.started.count(*number) > 0) continue;
    *message.mutable_trim()->add_tasks() = MakeTask(grant.job_id, grant.kind, *number);
    --take;
  }
  farm_.Send(farm_.fleet.nodes.at(grant.node_id).session, std::move(message));
}

}  // namespace storyfarm::coordinator
