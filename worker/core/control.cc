// Session, the side that speaks with the coordinator: hello and welcome, grants and their ends, results, draining.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/live_memory.h"
#include "worker/core/session_parts.h"

namespace storyfarm::worker {

using farm::v1::FencingToken;
using farm::v1::TaskId;
using farm::v1::WorkerMessage;

void Session::Parts::Say(bool warning, std::string text, const FencingToken& token, const TaskId& task) {
  actions.push_back(Note{warning, std::move(text), token, task});
}

void Session::Parts::On(Connected event) {
  connected = true;
  welcomed = false;
  SendHello(std::move(event.cached));
}

void Session::Parts::SendHello(std::vector<std::string> cached) {
  WorkerMessage message;
  farm::v1::Hello* hello = message.mutable_hello();
  hello->set_protocol_version(kProtocolVersion);
  hello->set_software_version(self.software_version);
  hello->set_node_id(self.node_id);
  hello->set_node_name(self.node_name);
  hello->set_process(self.process);
  hello->set_blob_address(self.blob_address);
  hello->set_peer_port(self.peer_port);
  hello->set_peer_host(self.peer_host);
  hello->set_resting(owner.resting);
  for (const auto& [index, device] : devices) {
    farm::v1::DeviceReport* report = hello->add_devices();
    *report = device.report;
    report->set_free_bytes(plan::UsableBytes(device.memory));
    report->clear_speeds();
    for (farm::v1::ModelSpeed& speed : device.speeds.List()) *report->add_speeds() = std::move(speed);
  }
  if (cached.size() > limits.cached_digests) cached.resize(limits.cached_digests);
  for (std::string& digest : cached) hello->add_cached_digests(std::move(digest));
  for (const auto& [key, group] : groups) {
    for (size_t i = 0; i < group.task_count(); ++i) {
      if (group.stage(i) == TaskStage::kOver) continue;
      farm::v1::HeldTask* held = hello->add_held();
      *held->mutable_token() = group.token();
      *held->mutable_task() = group.task(i);
      held->set_started(group.stage(i) == TaskStage::kRunning);
    }
  }
  // Tasks that ended while nobody listened: held until Welcome, so that what they taught is not lost.
  for (const farm::v1::TaskFault& fault : faults) {
    for (const TaskId& task : fault.tasks()) {
      farm::v1::HeldTask* held = hello->add_held();
      *held->mutable_token() = fault.token();
      *held->mutable_task() = task;
      held->set_started(true);
    }
  }
  for (farm::v1::OutboxEntry& entry : outbox.List()) *hello->add_outbox() = std::move(entry);
  Post(std::move(message));
}

void Session::Parts::On(Disconnected) {
  // A stream that failed again before its Welcome renewed nothing.
  if (welcomed) leases_end_ms = now_ms + lease_ms;
  connected = false;
  welcomed = false;
  outbox.Offline();
}

void Session::Parts::On(CoordinatorSaid event) {
  farm::v1::CoordinatorMessage& message = event.message;
  if (!connected) return;
  if (message.has_welcome()) return OnWelcome(message.welcome());
  if (!welcomed) return;
  if (message.has_grant()) OnGrant(std::move(*message.mutable_grant()));
  if (message.has_revoke()) OnRevoke(message.revoke());
  if (message.has_trim()) OnTrim(message.trim());
  if (message.has_limits()) TakeLimits(message.limits());
  if (message.has_readers()) actions.push_back(Admit{false, std::move(*message.mutable_readers())});
  if (message.has_bank_grown()) OnBankGrown(std::move(*message.mutable_bank_grown()));
  if (message.has_verdict()) outbox.Answered(message.verdict(), &actions);
}

void Session::Parts::OnWelcome(const farm::v1::Welcome& welcome) {
  if (welcomed) return;
  welcomed = true;
  // A quarter of the lease at most, so that one late heartbeat costs nothing.
  heartbeat_ms = welcome.heartbeat_ms() > 0 ? welcome.heartbeat_ms() : limits.heartbeat_ms;
  lease_ms = welcome.lease_ms();
  if (welcome.lease_ms() > 0)
    heartbeat_ms = std::min<int64_t>(heartbeat_ms, std::max<int64_t>(welcome.lease_ms() / 4, 1));
  next_heartbeat_ms = now_ms;
  for (const farm::v1::HeldVerdict& verdict : welcome.held()) {
    if (verdict.keep()) continue;
    if (Group* group = FindGroup(KeyOf(verdict.token()))) {
      if (const auto index = group->Find(verdict.task())) group->set_stage(*index, TaskStage::kOver);
    }
    for (farm::v1::TaskFault& fault : faults) {
      if (KeyOf(fault.token()) != KeyOf(verdict.token())) continue;
      auto* tasks = fault.mutable_tasks();
      tasks->erase(std::remove_if(tasks->begin(), tasks->end(),
                                  [&verdict](const TaskId& task) { return KeyOf(task) == KeyOf(verdict.task()); }),
                   tasks->end());
    }
  }
  for (farm::v1::TaskFault& fault : faults) {
    if (fault.tasks_size() == 0) continue;
    WorkerMessage message;
    *message.mutable_fault() = std::move(fault);
    Post(std::move(message));
  }
  faults.clear();
  for (const farm::v1::ResultVerdict& verdict : welcome.outbox()) outbox.Answered(verdict, &actions);
  for (const auto& [key, group] : groups) {
    if (!group.work().has_identity() || group.Over()) continue;
    for (int step = 0; step < group.identity.bank().steps_size(); ++step) {
      TellBankStep(group, static_cast<uint32_t>(step));
    }
  }
  TakeLimits(welcome.limits());
  if (self.peer_port != 0) {
    admits = true;
    Admit admit{true, {}};
    *admit.change.mutable_added() = welcome.readers();
    actions.push_back(std::move(admit));
  }
  if (draining) SendLeaving();
}

void Session::Parts::CloseCacheWhenLeft() {
  if (!admits || welcomed || now_ms < leases_end_ms) return;
  admits = false;
  actions.push_back(Admit{true, {}});
}

void Session::Parts::GiveBack(const FencingToken& token, std::vector<TaskId> tasks) {
  WorkerMessage message;
  *message.mutable_trim_reply()->mutable_token() = token;
  for (TaskId& task : tasks) *message.mutable_trim_reply()->add_released() = std::move(task);
  Post(std::move(message));
}

void Session::Parts::OnGrant(farm::v1::Grant grant) {
  const TokenKey key = KeyOf(grant.token());
  if (groups.count(key) > 0) return;
  const FencingToken token = grant.token();
  const TaskId first = grant.tasks_size() > 0 ? grant.tasks(0) : TaskId();
  const std::vector<TaskId> tasks(grant.tasks().begin(), grant.tasks().end());
  const auto device = devices.find(grant.device());
  const bool takes_nothing =
      draining || !owner.resting.empty() || (device != devices.end() && !Lent(device->second));
  if (takes_nothing || device == devices.end() || device->second.queue.size() >= limits.groups_a_device) {
    Say(!takes_nothing,
        takes_nothing ? "a grant came while nothing is taken: given back"
                      : "a grant has no room on its device: given back",
        token, first);
    return GiveBack(token, tasks);
  }
  std::vector<farm::v1::Peer> peers(grant.peers().begin(), grant.peers().end());
  absl::StatusOr<Group> group = Group::From(std::move(grant));
  if (!group.ok()) {
    WorkerMessage message;
    *message.mutable_fault()->mutable_token() = token;
    for (const TaskId& task : tasks) *message.mutable_fault()->add_tasks() = task;
    message.mutable_fault()->mutable_failure()->set_kind(farm::v1::INTERNAL);
    message.mutable_fault()->mutable_failure()->set_message(std::string(group.status().message()));
    return Post(std::move(message));
  }
  actions.push_back(Prepare{token, group->device(), group->work(), std::move(peers)});
  device->second.queue.push_back(key);
  groups.emplace(key, *std::move(group));
  Say(false, absl::StrCat("granted ", tasks.size(), " task(s)"), token, first);
}

void Session::Parts::OnBankGrown(farm::v1::BankGrown grown) {
  Group* group = FindGroup(KeyOf(grown.token()));
  if (group == nullptr || !group->Grown(grown.character(), grown.step())) return;
  actions.push_back(Follow{grown.token(), grown.character(), grown.step(), std::move(*grown.mutable_blob()),
                           std::move(*grown.mutable_writer())});
}

void Session::Parts::TellBankStep(const Group& group, uint32_t step) {
  WorkerMessage message;
  farm::v1::BankStep* told = message.mutable_bank_step();
  *told->mutable_token() = group.token();
  *told->mutable_task() = group.task(0);
  told->set_step(step);
  *told->mutable_blob() = group.identity.bank().steps(static_cast<int>(step));
  Post(std::move(message));
}

void Session::Parts::OnRevoke(const farm::v1::Revoke& revoke) {
  Group* group = FindGroup(KeyOf(revoke.token()));
  if (group == nullptr) return;
  Say(false, "revoked", revoke.token(), revoke.tasks_size() > 0 ? revoke.tasks(0) : group->task(0));
  if (revoke.tasks_size() == 0) {
    for (size_t i = 0; i < group->task_count(); ++i) group->set_stage(i, TaskStage::kOver);
  }
  for (const TaskId& task : revoke.tasks()) {
    if (const auto index = group->Find(task)) group->set_stage(*index, TaskStage::kOver);
  }
}

void Session::Parts::OnTrim(const farm::v1::Trim& trim) {
  std::vector<TaskId> released;
  if (Group* group = FindGroup(KeyOf(trim.token()))) {
    for (const TaskId& task : trim.tasks()) {
      const auto index = group->Find(task);
      if (!index.has_value() || group->stage(*index) != TaskStage::kWaiting) continue;
      group->set_stage(*index, TaskStage::kOver);
      released.push_back(task);
    }
  }
  GiveBack(trim.token(), std::move(released));
}

void Session::Parts::Finish(Group* group, size_t index, farm::v1::Result result) {
  *result.mutable_token() = group->token();
  *result.mutable_task() = group->task(index);
  group->set_stage(index, TaskStage::kOver);
  Say(false, "finished", group->token(), group->task(index));
  outbox.Add(std::move(result), &actions);
}

void Session::Parts::Fault(Group* group, const std::vector<size_t>& tasks, const farm::v1::Failure& failure) {
  if (tasks.empty()) return;
  farm::v1::TaskFault fault;
  *fault.mutable_token() = group->token();
  *fault.mutable_failure() = failure;
  for (const size_t index : tasks) {
    *fault.add_tasks() = group->task(index);
    group->set_stage(index, TaskStage::kOver);
  }
  Say(true, absl::StrCat("failed: ", farm::v1::FailureKind_Name(failure.kind()), ": ", failure.message()),
      group->token(), fault.tasks(0));
  if (!welcomed) {
    faults.push_back(std::move(fault));
    return;
  }
  WorkerMessage message;
  *message.mutable_fault() = std::move(fault);
  Post(std::move(message));
}

void Session::Parts::On(const Persisted& event) { outbox.Persisted(event.token, event.task); }

void Session::Parts::On(PersistFailed event) {
  outbox.Remove(event.token, event.task);
  farm::v1::TaskFault fault;
  *fault.mutable_token() = event.token;
  *fault.add_tasks() = event.task;
  *fault.mutable_failure() = std::move(event.failure);
  Say(true, absl::StrCat("the finished task could not be written to the outbox: ", fault.failure().message()),
      event.token, event.task);
  if (!welcomed) {
    faults.push_back(std::move(fault));
    return;
  }
  WorkerMessage message;
  *message.mutable_fault() = std::move(fault);
  Post(std::move(message));
}

void Session::Parts::On(const Uploaded& event) { outbox.Uploaded(event.digest); }

void Session::Parts::On(const UploadFailed& event) {
  Say(true, absl::StrCat("an upload failed", event.lost ? " for good: " : ", to be tried again: ", event.why));
  outbox.UploadFailed(now_ms, event.digest, event.lost);
}

void Session::Parts::On(Drain) {
  if (draining) return;
  draining = true;
  if (welcomed) SendLeaving();
}

void Session::Parts::SendLeaving() {
  // First what has begun: of the groups that Leaving names, the coordinator gives away what it does not know as begun.
  next_heartbeat_ms = now_ms;
  SendHeartbeatIfDue();
  WorkerMessage message;
  message.mutable_leaving();
  for (auto& [key, group] : groups) {
    if (!group.HasWaiting()) continue;
    *message.mutable_leaving()->add_released() = group.token();
    for (size_t i = 0; i < group.task_count(); ++i) {
      if (group.stage(i) == TaskStage::kWaiting) group.set_stage(i, TaskStage::kOver);
    }
  }
  Post(std::move(message));
}

void Session::Parts::SendHeartbeatIfDue() {
  if (!welcomed || now_ms < next_heartbeat_ms) return;
  next_heartbeat_ms = now_ms + heartbeat_ms;
  WorkerMessage message;
  farm::v1::Heartbeat* beat = message.mutable_heartbeat();
  for (const auto& [index, device] : devices) *beat->add_memory() = device.memory;
  beat->set_resting(owner.resting);
  // An engine beyond its deadline was stopped and its tasks reported before this is reached, so all that is held here
  // belongs to engines that progress, waits for one, or waits to be taken.
  for (const auto& [key, group] : groups) {
    for (size_t i = 0; i < group.task_count(); ++i) {
      if (group.stage(i) == TaskStage::kOver) continue;
      farm::v1::HeldTask* held = beat->add_held();
      *held->mutable_token() = group.token();
      *held->mutable_task() = group.task(i);
      held->set_started(group.stage(i) == TaskStage::kRunning);
    }
  }
  for (farm::v1::OutboxEntry& entry : outbox.List()) {
    farm::v1::HeldTask* held = beat->add_held();
    *held->mutable_token() = std::move(*entry.mutable_token());
    *held->mutable_task() = std::move(*entry.mutable_task());
    held->set_started(true);
  }
  Post(std::move(message));
}

}  // namespace storyfarm::worker
