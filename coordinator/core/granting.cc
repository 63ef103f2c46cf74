// The grant itself: the plan for just this group, the record, the lease and the message.
#include <algorithm>
#include <variant>

#include "coordinator/core/scheduling_round.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_PAGE;
using farm::v1::TASK_TEXT;

// Reasons and plans of so many grants are kept: about 5 MB.
constexpr size_t kMostPlacements = 10000;

}  // namespace

bool SchedulingRound::Grant(const Question& question, const Candidate& candidate, std::vector<uint32_t> numbers,
                            Placement placement) {
  const Job& job = *question.job;
  const Unit& unit = question.unit;
  const Seated& seated = farm_.pool.seats()[candidate.seat];
  const farm::v1::ModelManifest& model = job.head().model();
  OfferSource source(&farm_.state, &farm_.fleet.plans);
  farm::v1::MemoryPlan plan;
  while (unit.kind != TASK_PAGE) {
    const auto shape = farm_.planner->ShapeOf(job.View(), unit.kind, numbers);
    if (!shape.ok()) return false;
    const auto& answer = source.Plan(model, *shape, *seated.device);
    if (const auto* fits = std::get_if<farm::v1::MemoryPlan>(&answer)) {
      plan = *fits;
      break;
    }
    if (numbers.size() == 1) return false;
    numbers.resize(numbers.size() / 2);
  }
  plan::WorkInputs inputs = job.InputsFor(unit.kind, numbers);
  if (question.ahead) farm_.AddGrowing(job, numbers.front(), &inputs);
  auto work = farm_.planner->WorkFor(job.View(), unit.kind, numbers, plan, inputs);
  if (!work.ok()) {
    const std::string id = job.head().job_id();
    for (uint32_t number : numbers) {
      farm_.FailTask(MakeTask(id, unit.kind, number), farm::v1::BAD_INPUT, std::string(work.status().message()));
    }
    farm_.EndJobIfDone(id);
    return true;
  }
  SendGrant(question, candidate, numbers, plan, *std::move(work), std::move(placement));
  return true;
}

void SchedulingRound::SendGrant(const Question& question, const Candidate& candidate,
                                const std::vector<uint32_t>& numbers, const farm::v1::MemoryPlan& plan,
                                farm::v1::Work work, Placement placement) {
  const Job& job = *question.job;
  const Unit& unit = question.unit;
  const Seated& seated = farm_.pool.seats()[candidate.seat];
  Node& node = *seated.node;
  Device& device = *seated.device;
  const Token token = farm_.state.next_token();
  farm::v1::Record record;
  farm::v1::Granted& fact = *record.mutable_granted();
  fact.set_job_id(job.head().job_id());
  fact.set_kind(unit.kind);
  for (uint32_t number : numbers) fact.add_numbers(number);
  *fact.mutable_token() = ToMessage(token);
  fact.set_node_id(node.id);
  fact.set_node_name(node.name);
  fact.set_device(seated.index);
  fact.set_planned_bytes(plan.predicted_peak_bytes());
  fact.set_ahead(question.ahead);
  farm_.Commit(std::move(record));
  farm_.changed.insert(job.head().job_id());

  Lease& lease = farm_.fleet.leases[token];
  farm_.fleet.Renew(token, farm_.now.monotonic_ms + farm_.limits.lease_ms);
  lease.vouched = true;
  lease.granted_ms = farm_.now.monotonic_ms;
  lease.last_event_ms = farm_.now.monotonic_ms;
  lease.planned_task_seconds = plan.predicted_seconds() / static_cast<double>(numbers.size());
  lease.task_seconds = candidate.offer.task_s;
  lease.setup_seconds = candidate.offer.setup_s;
  lease.batch = std::max(1u, plan.batch());
  if (unit.kind != TASK_PAGE) {
    const double frames = unit.kind == TASK_TEXT    ? 0
                          : unit.kind == TASK_FRAME ? 1
                                                    : JobQueue::IdentityFrames(job, unit.number);
    lease.job_ordinal = job.ordinal();
    lease.work_rate = static_cast<int64_t>(frames * JobQueue::FrameWork(job) * 1000 / candidate.offer.task_s);
    farm_.fleet.held_rates[job.ordinal()] += lease.work_rate;
  }
  lease.counted_in = farm_.state.NeedOf(job.head().model().digest(), device.report.backend());

  placement.size = static_cast<uint32_t>(numbers.size());
  placement.unix_ms = farm_.now.unix_ms;
  placement.plan = plan;
  std::map<Token, Placement>& placements = farm_.fleet.placements;
  placements[token] = std::move(placement);
  if (placements.size() > kMostPlacements) placements.erase(placements.begin());

  std::vector<const farm::v1::BlobRef*> texts;
  for (const uint32_t number : numbers) {
    const farm::v1::BlobRef* text = job.EmbeddingsOf(job.TextOf({unit.kind, number}));
    if (text != nullptr && (texts.empty() || texts.back() != text)) texts.push_back(text);
  }
  const plan::ModelUse use = plan::UseOf(work);
  farm::v1::CoordinatorMessage message;
  farm::v1::Grant& grant = *message.mutable_grant();
  *grant.mutable_token() = ToMessage(token);
  grant.set_device(seated.index);
  for (uint32_t number : numbers) *grant.add_tasks() = MakeTask(job.head().job_id(), unit.kind, number);
  *grant.mutable_work() = std::move(work);
  if (unit.kind != TASK_PAGE) farm_.AddPeers(job, node, use, question.banks, texts, &grant);
  farm_.Send(node.session, std::move(message));

  if (question.ahead) {
    for (const uint32_t panel : numbers) farm_.TellReader(job, panel);
  }
  if (unit.kind == TASK_PAGE) return;
  bool offers_more = device.warm_model != job.head().model().digest();
  device.warm_model = job.head().model().digest();
  offers_more |= node.NowCached(job.head().model(), use, farm_.limits);
  if (offers_more) farm_.fleet.OffersChanged(node);
  for (const farm::v1::BlobRef* text : texts) node.NowCached(*text, farm_.limits);
  for (const farm::v1::Bank* bank : question.banks) {
    node.NowCached(*bank, farm_.limits);
    farm_.fleet.HasBanks(job.ordinal(), node.id);
  }
}

}  // namespace storyfarm::coordinator
