#include <algorithm>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {
namespace {

// Where a device can't say how much it lacked: so much more than the plan counted on.
constexpr uint64_t kUnknownNeedPercent = 115;
// A need is believed up to this many times the plan, as pipeline/plan does: beyond it something else is wrong.
constexpr uint64_t kMostNeedTimes = 4;

bool IsEngineFault(farm::v1::FailureKind kind) {
  return kind == farm::v1::ENGINE_ABORTED || kind == farm::v1::HUNG || kind == farm::v1::INTERNAL;
}

}  // namespace

// Which kinds count against a task:
//   LOST, PREEMPTED                                never, without end: machines come and go
//   OUT_OF_MEMORY, DISK_FULL, BLOB_UNAVAILABLE     not as own tries, but ended by Limits::machine_faults_a_task
//   ENGINE_ABORTED, HUNG, INTERNAL                 where the task was alone, on a device that works otherwise; else as
//                                                  the machine's, and the tasks go alone from then on
//   INVALID_OUTPUT                                 always
//   BAD_INPUT                                      fails at once: it would fail anywhere
void Farm::Parts::OnFault(Node& node, const farm::v1::TaskFault& fault,
                          const std::vector<std::string>& missing_digests) {
  const Token token = FromMessage(fault.token());
  std::vector<farm::v1::TaskId> tasks;
  for (const auto& task : fault.tasks()) {
    const Job* job = state.FindJob(task.job_id());
    const Slot* slot = job == nullptr ? nullptr : job->slot(task.kind(), task.number());
    if (slot != nullptr && slot->state == farm::v1::TASK_GRANTED && slot->token == token) tasks.push_back(task);
  }
  const auto grant = state.grants().find(token);
  if (tasks.empty() || grant == state.grants().end() || grant->second.node_id != node.id) return;
  const uint32_t device_index = grant->second.device;
  const std::string job_id = grant->second.job_id;
  const farm::v1::Failure& failure = fault.failure();
  const farm::v1::FailureKind kind = failure.kind();
  touched_nodes.insert(node.id);
  schedule = true;

  farm::v1::Failure why = failure;
  why.set_message(absl::StrCat(node.name, ": ", failure.message()));
  if (kind == farm::v1::BAD_INPUT) {
    for (const auto& task : tasks) FailTask(task, kind, failure.message());
    return EndJobIfDone(job_id);
  }
  const Device* device = fleet.FindDevice(node.id, device_index);
  bool works = device != nullptr && device->frames_done > 0;
  for (const JobNode& known : state.FindJob(job_id)->nodes()) works |= known.id == node.id && known.tasks_done > 0;
  const bool counts = kind == farm::v1::INVALID_OUTPUT || (IsEngineFault(kind) && tasks.size() == 1 && works);
  if (kind == farm::v1::OUT_OF_MEMORY) LearnNeed(token, failure);
  if (kind == farm::v1::PREEMPTED) {
    DeviceRests(node.id, device_index, failure.message());
  } else {
    DeviceFault(node.id, device_index, failure.message());
  }
  for (const auto& task : tasks) {
    GiveBack(token, task, why, counts);
    if (counts && kind == farm::v1::ENGINE_ABORTED) CheckPoison(task, why.message());
  }
  for (const std::string& digest : missing_digests) {
    ReopenIdentities(job_id, digest);
    ReopenTexts(job_id, digest);
  }
  EndJobIfDone(job_id);
}

void Farm::Parts::GiveBack(const Token& token, const farm::v1::TaskId& task, const farm::v1::Failure& why,
                           bool counts) {
  const Job& job = *state.FindJob(task.job_id());
  // It may have come back already, with the writer that it followed.
  if (const Slot& held = *job.slot(task.kind(), task.number());
      held.state != farm::v1::TASK_GRANTED || held.token != token) {
    return;
  }
  if (task.kind() == farm::v1::TASK_IDENTITY) CallBack(task.job_id(), task.number());
  farm::v1::Record record;
  farm::v1::TaskReturned& fact = *record.mutable_task_returned();
  *fact.mutable_task() = task;
  *fact.mutable_token() = ToMessage(token);
  *fact.mutable_why() = why;
  fact.set_counts(counts);
  const Slot& slot = *job.slot(task.kind(), task.number());
  if (slot.node > 0) fact.set_node_id(job.nodes()[slot.node - 1].id);
  Commit(std::move(record));
  changed.insert(task.job_id());
  if (state.grants().count(token) == 0) fleet.EndLease(token);
  if (IsFinal(slot.state)) return;  // embeddings that nobody needs any more
  if (slot.own_tries >= limits.own_tries) {
    FailTask(task, why.kind(), absl::StrCat("failed ", slot.own_tries, " times, the last time on ", why.message()));
  } else if (slot.machine_faults >= limits.machine_faults_a_task) {
    FailTask(
        task, why.kind(),
        absl::StrCat("given up after ", slot.machine_faults, " faults of machines, the last one on ", why.message()));
  }
}

void Farm::Parts::FailTask(const farm::v1::TaskId& task, farm::v1::FailureKind kind, const std::string& message) {
  const Job& job = *state.FindJob(task.job_id());
  const Token token = job.slot(task.kind(), task.number())->token;
  farm::v1::Record record;
  *record.mutable_task_failed()->mutable_task() = task;
  record.mutable_task_failed()->mutable_why()->set_kind(kind);
  record.mutable_task_failed()->mutable_why()->set_message(message);
  Commit(std::move(record));
  if (state.grants().count(token) == 0) fleet.EndLease(token);
  changed.insert(task.job_id());
}

void Farm::Parts::LearnNeed(const Token& token, const farm::v1::Failure& why) {
  const LiveGrant& grant = state.grants().at(token);
  const Device* device = fleet.FindDevice(grant.node_id, grant.device);
  if (grant.planned_bytes == 0 || device == nullptr) return;
  const uint64_t planned = grant.planned_bytes;
  uint64_t needed = why.needed_bytes() > 0 ? why.needed_bytes() : planned * kUnknownNeedPercent / 100;
  // Within the plan it was not the plan that was wrong: someone else took the memory, as the next heartbeat tells.
  if (needed <= planned) return;
  const std::string& model = state.FindJob(grant.job_id)->head().model().digest();
  // On top of what the plan counted in: several groups that were planned before anything was learned teach it once.
  const auto lease = fleet.leases.find(token);
  const plan::LearnedNeed counted = lease == fleet.leases.end() ? plan::LearnedNeed{} : lease->second.counted_in;
  if (counted.planned_bytes > 0) {
    const absl::uint128 product = absl::uint128(needed) * counted.needed_bytes / counted.planned_bytes;
    needed = static_cast<uint64_t>(std::min<absl::uint128>(product, planned * kMostNeedTimes));
  }
  needed = std::min(needed, planned * kMostNeedTimes);
  const plan::LearnedNeed known = state.NeedOf(model, device->report.backend());
  if (absl::uint128(needed) * known.planned_bytes <= absl::uint128(known.needed_bytes) * planned &&
      known.planned_bytes > 0) {
    return;
  }
  farm::v1::Record record;
  farm::v1::NeedLearned& fact = *record.mutable_need_learned();
  fact.set_model_digest(model);
  fact.set_backend(device->report.backend());
  fact.set_planned_bytes(planned);
  fact.set_needed_bytes(needed);
  Commit(std::move(record));
}

void Farm::Parts::DeviceFault(const std::string& node_id, uint32_t index, const std::string& why) {
  Device* device = fleet.FindDevice(node_id, index);
  if (device == nullptr) return;
  ++device->faults_in_a_row;
  device->last_fault = why;
  device->last_event_ms = now.monotonic_ms;
  touched_nodes.insert(node_id);
  int64_t wait_ms = limits.set_aside_ms;
  if (device->faults_in_a_row < limits.faults_to_set_aside) {
    wait_ms = std::min(limits.backoff_most_ms, limits.backoff_first_ms << (device->faults_in_a_row - 1));
  }
  // A quarter more or less, so that devices that failed together don't all come back together.
  wait_ms += wait_ms / 4 - static_cast<int64_t>(Random() % static_cast<uint64_t>(wait_ms / 2 + 1));
  device->not_before_ms = now.monotonic_ms + wait_ms;
}

void Farm::Parts::DeviceRests(const std::string& node_id, uint32_t index, const std::string& why) {
  Device* device = fleet.FindDevice(node_id, index);
  if (device == nullptr) return;
  device->last_fault = why;
  device->last_event_ms = now.monotonic_ms;
  device->not_before_ms = std::max(device->not_before_ms, now.monotonic_ms + limits.preempted_ms);
  touched_nodes.insert(node_id);
}

void Farm::Parts::EndJobIfDone(const std::string& job_id) {
  const Job* job = state.FindJob(job_id);
  if (job == nullptr || job->pending() > 0 || state.live().count(job->ordinal()) == 0) return;
  bool all = true;
  for (const auto kind : {farm::v1::TASK_TEXT, farm::v1::TASK_IDENTITY, farm::v1::TASK_FRAME, farm::v1::TASK_PAGE}) {
    all &= job->count(kind, farm::v1::TASK_FAILED) == 0;
  }
  farm::v1::Record record;
  record.mutable_job_finished()->set_job_id(job_id);
  record.mutable_job_finished()->set_state(all ? farm::v1::JOB_DONE : farm::v1::JOB_FAILED);
  record.mutable_job_finished()->set_unix_ms(now.unix_ms);
  record.mutable_job_finished()->set_notice_due(NoticeWanted());
  Commit(std::move(record));
  changed.insert(job_id);
}

// A task that aborts engines on every capable node (or on enough of them) where other tasks succeed is the cause
// itself. Twice at least: one abort can be chance.
void Farm::Parts::CheckPoison(const farm::v1::TaskId& task, const std::string& why) {
  const Job& job = *state.FindJob(task.job_id());
  const Slot& slot = *job.slot(task.kind(), task.number());
  const std::set<uint32_t>* aborts = job.AbortsOf({task.kind(), task.number()});
  if (IsFinal(slot.state) || aborts == nullptr || slot.own_tries < 2) return;
  const uint32_t enough = std::min(limits.poison_nodes, CapableNodes(job, task.kind(), task.number()));
  if (aborts->size() < enough) return;
  FailTask(
      task, farm::v1::ENGINE_ABORTED,
      absl::StrCat("poison: it made the engine abort on ", aborts->size(), aborts->size() == 1 ? " node" : " nodes",
                   " where other frames succeed, the last time on ", why));
}

uint32_t Farm::Parts::CapableNodes(const Job& job, farm::v1::TaskKind kind, uint32_t number) {
  const auto shape = planner->ShapeOf(job.View(), kind, {&number, 1});
  if (!shape.ok()) return 0;
  uint32_t nodes = 0;
  for (const auto& [id, node] : fleet.nodes) {
    if (node.session == 0) continue;
    for (const auto& [index, device] : node.devices) {
      if (!device.lent) continue;
      if (kind != farm::v1::TASK_PAGE) {
        const auto need = state.NeedOf(job.head().model().digest(), device.report.backend());
        const auto& answer = fleet.plans.Plan(job.head().model(), device, *shape, need);
        if (!std::holds_alternative<farm::v1::MemoryPlan>(answer)) continue;
      }
      ++nodes;
      break;
    }
  }
  return nodes;
}

}  // namespace storyfarm::coordinator
