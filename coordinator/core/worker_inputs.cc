#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"
#include "pipeline/plan/peering.h"

namespace storyfarm::coordinator {
namespace {

// Longest id, name or version that is taken from a worker.
constexpr size_t kNameBytes = 128;
// Longest sentence.
constexpr size_t kSentenceBytes = 500;

bool IsBlob(const farm::v1::BlobRef& blob) { return blob.digest().size() == 32 && blob.size_bytes() > 0; }

// Why a frame's result can't be what was asked for; empty: it can.
std::string WrongFrame(const farm::v1::FrameResult& result) {
  if (!IsBlob(result.image())) return "the result names no image";
  if (result.has_latents() && !IsBlob(result.latents())) return "the result's latents are no blob";
  return "";
}

// Why a result can't be what was asked for; empty: it can.
std::string WrongResult(const Job& job, const farm::v1::Result& result) {
  const farm::v1::TaskId& task = result.task();
  switch (task.kind()) {
    case farm::v1::TASK_FRAME:
      if (!result.has_frame() || result.frame().panel() != task.number()) return "the result is not this frame's";
      return WrongFrame(result.frame());
    case farm::v1::TASK_IDENTITY: {
      if (!result.has_identity()) return "the result is not an identity's";
      const farm::v1::IdentityTask& identity = job.head().identities(static_cast<int>(task.number()));
      std::set<uint32_t> due(identity.panels().begin(), identity.panels().end());
      for (const auto& frame : result.identity().frames()) {
        if (due.erase(frame.panel()) == 0) return "the result has a panel that is not this identity's";
        if (std::string wrong = WrongFrame(frame); !wrong.empty()) return wrong;
      }
      if (!due.empty()) return absl::StrCat("the result lacks panel ", *due.begin());
      if (identity.read_by_others() && result.identity().bank().steps().empty()) return "the result has no bank";
      for (const auto& step : result.identity().bank().steps()) {
        if (step.size_bytes() > 0 && !IsBlob(step)) return "a step of the bank is no blob";
      }
      return "";
    }
    case farm::v1::TASK_PAGE:
      if (!result.has_page()) return "the result is not a page's";
      if (job.head().pages(static_cast<int>(task.number())).book()) {
        return IsBlob(result.page().pdf()) && IsBlob(result.page().cbz()) ? "" : "the result lacks the PDF or the CBZ";
      }
      return IsBlob(result.page().png()) ? "" : "the result names no image";
    case farm::v1::TASK_TEXT:
      if (!result.has_text()) return "the result is not a text task's";
      return IsBlob(result.text().embeddings()) ? "" : "the result names no embeddings";
    default:
      return "the result is of no kind";
  }
}

// The record of a result that was checked. Its time is the coordinator's, one clock for all nodes.
farm::v1::Record MakeFact(farm::v1::Result result, const std::string& node_id, uint64_t unix_ms) {
  farm::v1::Record record;
  const auto fill = [&result, &node_id](auto& fact) {
    fact.set_job_id(result.task().job_id());
    fact.set_node_id(node_id);
    *fact.mutable_token() = result.token();
  };
  if (result.has_frame()) {
    farm::v1::FrameFinished& fact = *record.mutable_frame_finished();
    fill(fact);
    *fact.mutable_result() = std::move(*result.mutable_frame());
    fact.mutable_result()->set_finished_unix_ms(unix_ms);
  } else if (result.has_identity()) {
    farm::v1::IdentityFinished& fact = *record.mutable_identity_finished();
    fill(fact);
    fact.set_number(result.task().number());
    *fact.mutable_result() = std::move(*result.mutable_identity());
    for (auto& frame : *fact.mutable_result()->mutable_frames()) frame.set_finished_unix_ms(unix_ms);
  } else if (result.has_text()) {
    farm::v1::TextFinished& fact = *record.mutable_text_finished();
    fill(fact);
    fact.set_number(result.task().number());
    *fact.mutable_result() = std::move(*result.mutable_text());
    fact.set_unix_ms(unix_ms);
  } else {
    farm::v1::PageFinished& fact = *record.mutable_page_finished();
    fill(fact);
    fact.set_number(result.task().number());
    *fact.mutable_result() = std::move(*result.mutable_page());
  }
  return record;
}

absl::Status CheckHello(const farm::v1::Hello& hello, const Limits& limits) {
  if (hello.protocol_version() < kMinimumProtocolVersion || hello.protocol_version() > kProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("this worker (", hello.software_version(), ") speaks protocol version ", hello.protocol_version(),
                     ", this coordinator versions ", kMinimumProtocolVersion, " to ", kProtocolVersion,
                     ": install the same version of storyfarm on both"));
  }
  if (hello.node_id().empty() || hello.node_id().size() > kNameBytes || hello.node_name().size() > kNameBytes ||
      hello.software_version().size() > kNameBytes || hello.blob_address().size() > kNameBytes ||
      hello.peer_host().size() > kNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a node's id, name, version and address must have at most ",
                                                   kNameBytes, " bytes, and the id at least one"));
  }
  if (static_cast<size_t>(hello.devices_size()) > limits.devices_a_node) {
    return absl::InvalidArgumentError(absl::StrCat("the node offers ", hello.devices_size(), " devices, at most ",
                                                   limits.devices_a_node, " are taken"));
  }
  std::set<uint32_t> indices;
  for (const auto& device : hello.devices()) {
    if (device.index() >= limits.devices_a_node || !indices.insert(device.index()).second) {
      return absl::InvalidArgumentError(absl::StrCat("device index ", device.index(), " is too large or named twice"));
    }
  }
  if (static_cast<size_t>(hello.held_size()) > limits.held_a_hello ||
      static_cast<size_t>(hello.outbox_size()) > limits.held_a_hello ||
      static_cast<size_t>(hello.cached_digests_size()) > limits.cached_digests) {
    return absl::InvalidArgumentError(absl::StrCat("a Hello lists at most ", limits.held_a_hello,
                                                   " held tasks, as many results and ", limits.cached_digests,
                                                   " cached digests"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Farm::Parts::CheckOnlyOne(const farm::v1::Hello& hello) const {
  const auto known = fleet.nodes.find(hello.node_id());
  if (known == fleet.nodes.end() || known->second.session == 0 || known->second.process == hello.process()) {
    return absl::OkStatus();
  }
  // Its own process before this one, killed behind a connection that still looks alive, is silent within a lease.
  const int64_t silent_ms = now.monotonic_ms - known->second.last_heard_ms;
  if (silent_ms >= limits.lease_ms) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("another worker, ", known->second.name, ", has the same node id ", hello.node_id(),
                   " and was heard from ", silent_ms / 1000,
                   " s ago: the data folder of one of them is a copy of the other's. Stop this worker, delete the "
                   "file node-id in its data folder and start it again: it then draws an id of its own"));
}

void Farm::Parts::On(const WorkerConnected& input) {
  const farm::v1::Hello& hello = input.hello;
  if (const absl::Status status = CheckHello(hello, limits); !status.ok()) return CloseWith(input.session, status);
  const farm::v1::Member* member = nullptr;
  if (!input.member_id.empty()) {
    const auto known = state.roster().members().find(input.member_id);
    if (known == state.roster().members().end()) {
      return CloseWith(input.session, absl::UnauthenticatedError(kRemovedFromFarm));
    }
    member = &known->second;
    if (member->node_id() != hello.node_id()) {
      return CloseWith(input.session,
                       absl::PermissionDeniedError(absl::StrCat(
                           "the certificate of ", member->name(), " came with the node id ", hello.node_id(),
                           ", which is not its own: let this machine join with a code of its own")));
    }
  }
  if (fleet.nodes.count(hello.node_id()) == 0 && fleet.node_of_session.size() >= limits.nodes) {
    return CloseWith(input.session, absl::ResourceExhaustedError(
                                        absl::StrCat("the farm already has ", limits.nodes, " nodes connected")));
  }
  if (const absl::Status status = CheckOnlyOne(hello); !status.ok()) return CloseWith(input.session, status);
  Node& node = fleet.nodes[hello.node_id()];
  pool.Leave(node);
  if (node.session != 0) {
    fleet.node_of_session.erase(node.session);
    CloseWith(node.session, absl::AbortedError("the same node opened another stream, which replaces this one"));
  }
  fleet.node_of_session[input.session] = hello.node_id();
  node.id = hello.node_id();
  node.name = member != nullptr             ? member->name()
              : hello.node_name().empty() ? hello.node_id().substr(0, 8)
                                          : hello.node_name();
  node.software_version = hello.software_version();
  node.session = input.session;
  const bool restarted = node.process != hello.process();
  node.process = hello.process();
  node.last_heard_ms = now.monotonic_ms;
  node.leaving = false;
  node.resting = hello.resting().substr(0, kSentenceBytes);
  node.cached.clear();
  for (const std::string& digest : hello.cached_digests()) node.cached.insert(digest);
  node.elsewhere = member != nullptr;
  node.certificate_host = node.elsewhere ? plan::MemberHost(*member) : "";
  // A host that is none costs the node its readers, not its place in the farm.
  node.blob_address = node.elsewhere ? plan::PeerAddress(hello.peer_host(), hello.peer_port()).value_or("")
                                     : hello.blob_address();
  fleet.Serves(node);
  std::map<uint32_t, Device> before = std::move(node.devices);
  node.devices.clear();
  for (const auto& report : hello.devices()) {
    Device& device = node.devices[report.index()];
    if (const auto known = before.find(report.index()); known != before.end()) device = std::move(known->second);
    if (restarted) {
      // Whoever started it anew may have mended what it failed of.
      device.faults_in_a_row = 0;
      device.not_before_ms = 0;
      device.last_fault.clear();
    }
    device.TakeReport(report);
    device.Limit(state.LimitsOf(node.id));
  }
  pool.Join(node);
  Welcome(node, hello);
  fleet.Prune(limits.nodes);
  schedule = true;
}

void Farm::Parts::Welcome(Node& node, const farm::v1::Hello& hello) {
  farm::v1::CoordinatorMessage message;
  farm::v1::Welcome& welcome = *message.mutable_welcome();
  welcome.set_protocol_version(kProtocolVersion);
  welcome.set_incarnation(state.incarnation());
  welcome.set_heartbeat_ms(static_cast<uint32_t>(limits.heartbeat_ms));
  welcome.set_lease_ms(static_cast<uint32_t>(limits.lease_ms));
  if (const farm::v1::WorkerLimits* limited = state.LimitsOf(node.id)) *welcome.mutable_limits() = *limited;
  if (node.elsewhere && !node.blob_address.empty()) {
    for (std::string& serial : state.roster().WorkerSerials()) welcome.add_readers(std::move(serial));
  }
  std::map<Token, std::set<uint32_t>> listed;
  for (const auto& held : hello.held()) {
    farm::v1::HeldVerdict& verdict = *welcome.add_held();
    *verdict.mutable_token() = held.token();
    *verdict.mutable_task() = held.task();
    verdict.set_keep(Keep(node, held.token(), held.task()));
    if (!verdict.keep()) continue;
    listed[FromMessage(held.token())].insert(held.task().number());
    if (held.started()) fleet.leases[FromMessage(held.token())].started.insert(held.task().number());
  }
  for (const auto& entry : hello.outbox()) {
    if (Keep(node, entry.token(), entry.task())) {
      listed[FromMessage(entry.token())].insert(entry.task().number());
      continue;
    }
    if (WouldTake(entry.token(), entry.task())) continue;
    farm::v1::ResultVerdict& verdict = *welcome.add_outbox();
    *verdict.mutable_token() = entry.token();
    *verdict.mutable_task() = entry.task();
    verdict.set_verdict(farm::v1::STALE);
  }
  // What was granted to this node and it does not know of is free at once.
  std::vector<std::pair<Token, farm::v1::TaskId>> unknown;
  if (const std::set<Token>* tokens = state.GrantsOf(node.id)) {
    for (const Token& token : *tokens) {
      const LiveGrant& grant = state.grants().at(token);
      for (uint32_t number : grant.numbers) {
        if (listed[token].count(number) == 0) unknown.emplace_back(token, MakeTask(grant.job_id, grant.kind, number));
      }
    }
  }
  for (const auto& [token, task] : unknown) {
    GiveBack(token, task, Lost(absl::StrCat(node.name, " came back without it")), false);
  }
  Send(node.session, std::move(message));
  // Steps that were told on the stream before may not have come.
  for (const auto& held : hello.held()) {
    const Job* job = state.FindJob(held.task().job_id());
    if (job != nullptr && held.task().kind() == farm::v1::TASK_FRAME) TellReader(*job, held.task().number());
  }
}

void Farm::Parts::On(const WorkerGone& input) {
  Node* node = fleet.OfSession(input.session);
  if (node == nullptr) return;
  // Its leases go on: a stream that broke is opened again within a second or two, and the node tells what it holds.
  pool.Leave(*node);
  node->session = 0;
  fleet.ServesNoMore(node->id);
  fleet.node_of_session.erase(input.session);
  schedule = true;
}

void Farm::Parts::On(WorkerSaid& input) {
  Node* node = fleet.OfSession(input.session);
  if (node == nullptr) return;  // a stream that was replaced: it renews nothing and is not believed
  // One that was silent for a while may work again.
  schedule |= now.monotonic_ms - node->last_heard_ms > limits.lease_ms / 2;
  touched_nodes.insert(node->id);
  node->last_heard_ms = now.monotonic_ms;
  farm::v1::WorkerMessage& message = input.message;
  switch (message.kind_case()) {
    case farm::v1::WorkerMessage::kHeartbeat:
      return OnHeartbeat(*node, message.heartbeat());
    case farm::v1::WorkerMessage::kProgress:
      return OnProgress(*node, message.progress());
    case farm::v1::WorkerMessage::kResult:
      return OnResult(*node, *message.mutable_result(), input.missing_digests);
    case farm::v1::WorkerMessage::kFault:
      return OnFault(*node, message.fault(), input.missing_digests);
    case farm::v1::WorkerMessage::kTrimReply:
      return OnTrimReply(*node, message.trim_reply());
    case farm::v1::WorkerMessage::kLeaving:
      return OnLeaving(*node, message.leaving());
    case farm::v1::WorkerMessage::kBankStep:
      return OnBankStep(*node, message.bank_step());
    case farm::v1::WorkerMessage::kHello:
    case farm::v1::WorkerMessage::KIND_NOT_SET:
      break;
  }
  CloseWith(input.session, absl::FailedPreconditionError("a message that this coordinator does not know, or a second "
                                                         "Hello: install the same version of storyfarm on both"));
  pool.Leave(*node);
  node->session = 0;
  fleet.ServesNoMore(node->id);
  fleet.node_of_session.erase(input.session);
}

void Farm::Parts::OnHeartbeat(Node& node, const farm::v1::Heartbeat& heartbeat) {
  if (std::string resting = heartbeat.resting().substr(0, kSentenceBytes); resting != node.resting) {
    node.resting = std::move(resting);
    for (const auto& [ordinal, id] : state.live()) changed.insert(id);  // why they wait
    schedule = true;
  }
  for (const auto& memory : heartbeat.memory()) {
    const auto device = node.devices.find(memory.index());
    if (device == node.devices.end()) continue;
    device->second.memory = memory;
    if (device->second.UpdatePlanKey()) device->second.version = ++fleet.last_version;
  }
  std::map<Token, farm::v1::CoordinatorMessage> revokes;
  std::set<Token> listed;
  for (const auto& held : heartbeat.held()) {
    const Token token = FromMessage(held.token());
    if (Keep(node, held.token(), held.task())) {
      listed.insert(token);
      if (held.started()) fleet.leases[token].started.insert(held.task().number());
      continue;
    }
    farm::v1::Revoke& revoke = *revokes[token].mutable_revoke();
    *revoke.mutable_token() = held.token();
    *revoke.add_tasks() = held.task();
  }
  VouchForListed(node, listed);
  for (auto& [token, message] : revokes) Send(node.session, std::move(message));
}

void Farm::Parts::OnProgress(Node& node, const farm::v1::Progress& progress) {
  if (!Keep(node, progress.token(), progress.task())) return;
  const auto found = node.devices.find(progress.device());
  if (found == node.devices.end() || progress.steps() == 0 || progress.step() > progress.steps()) return;
  const Token token = FromMessage(progress.token());
  PassProgress& pass = found->second.progress;
  if (pass.token != token || pass.task.number() != progress.task().number() || progress.step() < pass.step) {
    pass = PassProgress();
    pass.token = token;
    pass.task = progress.task();
    pass.first_step = progress.step();
    pass.first_step_ms = now.monotonic_ms;
  }
  pass.step = progress.step();
  pass.steps = progress.steps();
  Lease& lease = fleet.leases[token];
  lease.started.insert(progress.task().number());
  if (pass.step > 0) lease.setup_seconds = 0;
  if (pass.step > pass.first_step && now.monotonic_ms > pass.first_step_ms) {
    const double step_seconds = static_cast<double>(now.monotonic_ms - pass.first_step_ms) / 1000.0 /
                                static_cast<double>(pass.step - pass.first_step);
    lease.task_seconds = step_seconds * pass.steps / std::max(1u, lease.batch);
  }
  changed.insert(progress.task().job_id());
}

void Farm::Parts::OnResult(Node& node, farm::v1::Result& result, const std::vector<std::string>& missing_digests) {
  const farm::v1::TaskId task = result.task();
  const Token token = FromMessage(result.token());
  const Job* job = state.FindJob(task.job_id());
  const Slot* slot = job == nullptr ? nullptr : job->slot(task.kind(), task.number());
  farm::v1::CoordinatorMessage message;
  farm::v1::ResultVerdict& verdict = *message.mutable_verdict();
  *verdict.mutable_token() = result.token();
  *verdict.mutable_task() = task;
  if (!WouldTake(result.token(), task)) {
    // The same result once more gets the same answer; anything else nobody waits for.
    const bool current = slot != nullptr && token.number != 0 && slot->token == token;
    verdict.set_verdict(current && slot->state == farm::v1::TASK_DONE ? farm::v1::ACCEPTED : farm::v1::STALE);
    return Send(node.session, std::move(message));
  }
  if (std::string wrong = WrongResult(*job, result); !wrong.empty()) {
    if (slot->state == farm::v1::TASK_GRANTED) {
      farm::v1::Failure failure;
      failure.set_kind(farm::v1::INVALID_OUTPUT);
      failure.set_message(absl::StrCat(node.name, " sent a result that can't be taken: ", wrong));
      GiveBack(token, task, failure, true);
      EndJobIfDone(task.job_id());
      schedule = true;
    }
    verdict.set_verdict(farm::v1::STALE);
    return Send(node.session, std::move(message));
  }
  if (!missing_digests.empty()) {
    Keep(node, result.token(), task);  // it has time for the upload
    verdict.set_verdict(farm::v1::BLOBS_MISSING);
    for (const std::string& digest : missing_digests) verdict.add_missing_digests(digest);
    return Send(node.session, std::move(message));
  }
  const auto grant = state.grants().find(token);
  const uint32_t device_index = grant != state.grants().end() ? grant->second.device : slot->device;
  const bool went_ahead = slot->ahead;
  const uint64_t render_ms = result.has_identity() ? result.identity().render_ms() : result.frame().render_ms();
  const uint32_t frames = result.has_identity() ? result.identity().frames_size() : result.has_frame() ? 1 : 0;
  if (result.has_identity()) {
    node.NowCached(result.identity().bank(), limits);
    fleet.HasBanks(job->ordinal(), node.id);
  }
  if (result.has_text()) node.NowCached(result.text().embeddings(), limits);
  std::optional<farm::v1::PackManifest> pack = PackOf(*job, result, node, device_index);
  Commit(MakeFact(std::move(result), node.id, now.unix_ms));
  if (task.kind() == farm::v1::TASK_IDENTITY) {
    for (const uint32_t panel : job->GoneAhead(task.number())) TellReader(*job, panel);
  }
  if (pack.has_value()) KeepPack(*std::move(pack));
  Renew(token);
  Lease& lease = fleet.leases[token];
  lease.vouched = true;
  lease.last_event_ms = now.monotonic_ms;
  lease.setup_seconds = 0;
  if (Device* device = fleet.FindDevice(node.id, device_index)) {
    device->last_event_ms = now.monotonic_ms;
    device->faults_in_a_row = 0;
    device->last_fault.clear();
    device->frames_done += frames;
    for (uint32_t i = 0; i < frames; ++i) device->pace.Add(now.monotonic_ms);
    // What followed a writer took the writer's time.
    if (render_ms > 0 && lease.planned_task_seconds > 0 && !went_ahead) {
      const std::string& model = job->head().model().digest();
      const double seen = static_cast<double>(render_ms) / 1000.0 / lease.planned_task_seconds;
      if (device->LearnSlowness(model, seen)) device->version = ++fleet.last_version;
      lease.task_seconds = lease.planned_task_seconds * device->slowness[model].measured;
    }
  }
  for (uint32_t i = 0; i < frames; ++i) fleet.paces[task.job_id()].Add(now.monotonic_ms);
  if (state.grants().count(token) == 0) fleet.EndLease(token);
  changed.insert(task.job_id());
  schedule = true;
  EndJobIfDone(task.job_id());
  verdict.set_verdict(farm::v1::ACCEPTED);
  Send(node.session, std::move(message));
}

void Farm::Parts::OnTrimReply(Node& node, const farm::v1::TrimReply& reply) {
  farm::v1::Failure why;  // of no kind: nothing went wrong
  for (const auto& task : reply.released()) {
    const auto grant = state.grants().find(FromMessage(reply.token()));
    if (grant == state.grants().end() || grant->second.node_id != node.id || grant->second.job_id != task.job_id() ||
        grant->second.kind != task.kind() || grant->second.numbers.count(task.number()) == 0) {
      continue;
    }
    GiveBack(FromMessage(reply.token()), task, why, false);
    schedule = true;
  }
}

void Farm::Parts::OnLeaving(Node& node, const farm::v1::Leaving& leaving) {
  node.leaving = true;
  farm::v1::Failure why;
  for (const auto& message : leaving.released()) {
    const Token token = FromMessage(message);
    const auto grant = state.grants().find(token);
    if (grant == state.grants().end() || grant->second.node_id != node.id) continue;
    const LiveGrant held = grant->second;
    const std::set<uint32_t> running = fleet.leases[token].started;
    for (uint32_t number : held.numbers) {
      if (running.count(number) == 0) GiveBack(token, MakeTask(held.job_id, held.kind, number), why, false);
    }
  }
  schedule = true;
}

}  // namespace storyfarm::coordinator
