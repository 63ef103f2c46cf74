// How long a grant is believed alive: what renews it, and what follows when nothing did.
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {

farm::v1::Failure Lost(const std::string& message) {
  farm::v1::Failure failure;
  failure.set_kind(farm::v1::LOST);
  failure.set_message(message);
  return failure;
}

void Farm::Parts::Renew(const Token& token) {
  if (state.grants().count(token) > 0) fleet.Renew(token, now.monotonic_ms + limits.lease_ms);
}

void Farm::Parts::VouchForListed(const Node& node, const std::set<Token>& listed) {
  const std::set<Token>* tokens = state.GrantsOf(node.id);
  if (tokens == nullptr) return;
  for (const Token& token : *tokens) {
    Lease& lease = fleet.leases[token];
    // A list may have crossed a grant on its way; one that comes so late has not.
    if (listed.count(token) == 0 && now.monotonic_ms - lease.granted_ms >= limits.lease_ms / 2) lease.vouched = false;
  }
}

int64_t Farm::Parts::VouchedUntil(const Token& token) const {
  const auto lease = fleet.leases.find(token);
  const auto grant = state.grants().find(token);
  if (lease == fleet.leases.end() || !lease->second.vouched || grant == state.grants().end()) return 0;
  const auto node = fleet.nodes.find(grant->second.node_id);
  return node == fleet.nodes.end() ? 0 : node->second.last_heard_ms + limits.lease_ms;
}

bool Farm::Parts::Keep(const Node& node, const farm::v1::FencingToken& message, const farm::v1::TaskId& task) {
  const Token token = FromMessage(message);
  const Job* job = state.FindJob(task.job_id());
  const Slot* slot = job == nullptr ? nullptr : job->slot(task.kind(), task.number());
  if (slot == nullptr || token.number == 0 || slot->token != token || slot->node == 0) return false;
  if (job->nodes()[slot->node - 1].id != node.id || node.devices.count(slot->device) == 0) return false;
  if (slot->state == farm::v1::TASK_READY) {
    farm::v1::Record record;
    farm::v1::Granted* granted = record.mutable_granted();
    granted->set_job_id(task.job_id());
    granted->set_kind(task.kind());
    granted->add_numbers(task.number());
    *granted->mutable_token() = message;
    granted->set_node_id(node.id);
    granted->set_node_name(node.name);
    granted->set_device(slot->device);
    Commit(std::move(record));
    changed.insert(task.job_id());
    Lease& lease = fleet.leases[token];
    if (lease.last_event_ms == 0) lease.last_event_ms = now.monotonic_ms;
  } else if (slot->state != farm::v1::TASK_GRANTED) {
    return false;
  }
  Renew(token);
  fleet.leases[token].vouched = true;
  return true;
}

bool Farm::Parts::WouldTake(const farm::v1::FencingToken& message, const farm::v1::TaskId& task) const {
  return state.Takes(state.FindJob(task.job_id()), task.kind(), task.number(), FromMessage(message)).ok();
}

void Farm::Parts::On(const Tick&) {
  for (const Token& token : fleet.TakeExpired(now.monotonic_ms)) {
    if (state.grants().count(token) == 0) {
      fleet.EndLease(token);
      continue;
    }
    // A node with many results to tell is heard of all the time, though its heartbeat waits behind them.
    if (const int64_t until_ms = VouchedUntil(token); until_ms > now.monotonic_ms) {
      fleet.Renew(token, until_ms);
      continue;
    }
    const LiveGrant grant = state.grants().at(token);
    const auto node = fleet.nodes.find(grant.node_id);
    const std::string name = node == fleet.nodes.end() ? grant.node_id : node->second.name;
    const std::string why = absl::StrCat("no news from ", name, " for ", limits.lease_ms / 1000, " s");
    // A connected node whose engine hangs gets nothing more for a while.
    if (node != fleet.nodes.end() && node->second.session != 0) DeviceFault(grant.node_id, grant.device, why);
    for (uint32_t number : grant.numbers) {
      GiveBack(token, MakeTask(grant.job_id, grant.kind, number), Lost(why), false);
    }
    fleet.EndLease(token);
  }
  ForgetOld();
  TrimPacks();
  TrimTexts();
  schedule = true;
}

}  // namespace storyfarm::coordinator
