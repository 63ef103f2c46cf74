#include "coordinator/rpc/worker_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "coordinator/rpc/status.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::CoordinatorMessage;
using farm::v1::WorkerMessage;

void AddBlobs(const farm::v1::FrameResult& frame, std::set<std::string>& digests) {
  if (frame.has_image()) digests.insert(frame.image().digest());
  if (frame.has_latents()) digests.insert(frame.latents().digest());
}

// Every blob that a result names; a bank's step that nobody reads has none.
std::set<std::string> BlobsOf(const farm::v1::Result& result) {
  std::set<std::string> digests;
  if (result.has_frame()) AddBlobs(result.frame(), digests);
  if (result.has_identity()) {
    for (const auto& frame : result.identity().frames()) AddBlobs(frame, digests);
    for (const auto& step : result.identity().bank().steps()) digests.insert(step.digest());
  }
  if (result.has_page()) {
    for (const auto* blob : {&result.page().png(), &result.page().pdf(), &result.page().cbz()}) {
      digests.insert(blob->digest());
    }
  }
  if (result.has_text()) digests.insert(result.text().embeddings().digest());
  digests.erase("");
  return digests;
}

// The address of "ipv4:192.168.1.7:40112" or "ipv6:%5B::1%5D:40112", as gRPC names who calls; empty: a socket of this
// machine.
std::string HostOf(const std::string& caller) {
  const size_t begin = caller.find(':'), end = caller.rfind(':');
  if (!absl::StartsWith(caller, "ipv") || end <= begin) return "";
  return absl::StrReplaceAll(caller.substr(begin + 1, end - begin - 1), {{"%5B", "["}, {"%5D", "]"}});
}

}  // namespace

// One stream. Keeps itself alive until gRPC is done with it.
class WorkerSession : public grpc::ServerBidiReactor<WorkerMessage, CoordinatorMessage> {
 public:
  WorkerSession(WorkerServiceImpl* service, grpc::CallbackServerContext* context, uint64_t number,
                std::string member_id)
      : service_(service), context_(context), number_(number), member_id_(std::move(member_id)) {}

  void Begin(std::shared_ptr<WorkerSession> self) {
    std::lock_guard<std::mutex> lock(mutex_);
    self_ = std::move(self);
    Read();
  }
  void Deliver(CoordinatorMessage message);
  void End(const absl::Status& why);
  // Ends a stream that was never begun.
  void Refuse(std::shared_ptr<WorkerSession> self, const absl::Status& why) {
    std::lock_guard<std::mutex> lock(mutex_);
    self_ = std::move(self);
    end_ = why;
    Advance();
  }

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // The caller of these holds mutex_.
  void Read() {
    if (!finished_ && !end_.has_value()) StartRead(&received_);
  }
  void Advance();

  // The input of the message that was received, or why the stream ends. Only OnReadDone calls it.
  absl::StatusOr<Input> Understand();
  void HearResting(const std::string& resting);
  void Taken() {
    std::lock_guard<std::mutex> lock(mutex_);
    Read();
  }

  WorkerServiceImpl* const service_;
  grpc::CallbackServerContext* const context_;
  const uint64_t number_;
  const std::string member_id_;  // empty: from this machine

  // Between StartRead and OnReadDone nobody touches these.
  bool greeted_ = false;
  std::string node_;     // its name
  std::string resting_;  // what it said last
  WorkerMessage received_;

  std::mutex mutex_;
  bool writing_ = false;
  bool finished_ = false;
  std::deque<CoordinatorMessage> unsent_;  // the first is being sent where writing_
  std::optional<absl::Status> end_;
  std::shared_ptr<WorkerSession> self_;
};

void WorkerSession::Deliver(CoordinatorMessage message) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (end_.has_value()) return;
  if (unsent_.size() >= service_->limits_.unsent_a_session) {
    end_ = absl::ResourceExhaustedError(
        absl::StrCat("The worker reads too slowly: ", unsent_.size(), " messages wait for it. Connect again."));
    context_->TryCancel();  // the message that is stuck comes back as failed
    return Advance();
  }
  unsent_.push_back(std::move(message));
  Advance();
}

void WorkerSession::End(const absl::Status& why) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!end_.has_value()) end_ = why;
  Advance();
}

void WorkerSession::Advance() {
  if (writing_ || finished_) return;
  if (!unsent_.empty()) {
    writing_ = true;
    StartWrite(&unsent_.front());
  } else if (end_.has_value()) {
    finished_ = true;
    Finish(ToGrpc(*end_, nullptr));
  }
}

void WorkerSession::HearResting(const std::string& resting) {
  if (resting == resting_) return;
  resting_ = resting;
  if (resting.empty()) {
    service_->log_->Info("worker may work again", {{"node", node_}});
  } else {
    service_->log_->Info("worker rests", {{"node", node_}, {"why", resting}});
  }
}

absl::StatusOr<Input> WorkerSession::Understand() {
  if (!greeted_) {
    if (!received_.has_hello()) return absl::FailedPreconditionError("The first message of a session must be Hello.");
    greeted_ = true;
    WorkerConnected connected;
    connected.session = number_;
    connected.member_id = member_id_;
    connected.hello = std::move(*received_.mutable_hello());
    if (connected.hello.peer_host().empty()) connected.hello.set_peer_host(HostOf(context_->peer()));
    service_->log_->Info("worker connected", {{"session", number_},
                                              {"node", connected.hello.node_name()},
                                              {"member", member_id_},
                                              {"version", connected.hello.software_version()},
                                              {"devices", connected.hello.devices_size()}});
    node_ = connected.hello.node_name();
    HearResting(connected.hello.resting());
    return Input(std::move(connected));
  }
  if (received_.has_heartbeat()) HearResting(received_.heartbeat().resting());
  WorkerSaid said;
  said.session = number_;
  if (received_.has_result()) {
    for (const std::string& digest : BlobsOf(received_.result())) {
      if (!service_->blobs_->Has(digest)) said.missing_digests.push_back(digest);
    }
  }
  if (const std::string& digest = received_.fault().failure().missing_digest(); !digest.empty()) {
    // The worker's word is not enough: what is whole here stays.
    if (!service_->blobs_->Verify(digest)) said.missing_digests.push_back(digest);
  }
  said.message = std::move(received_);
  return Input(std::move(said));
}

void WorkerSession::OnReadDone(bool ok) {
  std::shared_ptr<WorkerSession> self;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!ok) {
      if (!end_.has_value()) end_ = absl::OkStatus();  // the worker hung up, or the stream broke
      unsent_.resize(writing_ ? 1 : 0);
      return Advance();
    }
    if (end_.has_value()) return;
    self = self_;
  }
  // Without the lock: it asks the disk, and the loop must not wait for that when it delivers.
  absl::StatusOr<Input> input = Understand();
  if (!input.ok()) return End(input.status());
  service_->loop_->Tell(*std::move(input), [self] { self->Taken(); });
}

void WorkerSession::OnWriteDone(bool ok) {
  std::lock_guard<std::mutex> lock(mutex_);
  writing_ = false;
  unsent_.pop_front();
  if (!ok) {
    unsent_.clear();
    if (!end_.has_value()) end_ = absl::UnavailableError("The stream broke.");
  }
  Advance();
}

void WorkerSession::OnCancel() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!end_.has_value()) end_ = absl::CancelledError("The worker went away.");
  unsent_.resize(writing_ ? 1 : 0);
  Advance();
}

void WorkerSession::OnDone() {
  std::shared_ptr<WorkerSession> self;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    self = std::move(self_);
  }
  service_->Closed(number_);
  if (!greeted_) return;
  service_->log_->Info("worker gone", {{"session", number_}, {"node", node_}});
  WorkerGone gone;
  gone.session = number_;
  service_->loop_->Tell(gone, {});
}

WorkerServiceImpl::WorkerServiceImpl(Loop* loop, BlobStore* blobs, const Guard* guard, base::Log* log,
                                     const Limits& limits)
    : loop_(loop), blobs_(blobs), guard_(guard), log_(log), limits_(limits) {}

WorkerServiceImpl::~WorkerServiceImpl() = default;

grpc::ServerBidiReactor<WorkerMessage, CoordinatorMessage>* WorkerServiceImpl::Session(
    grpc::CallbackServerContext* context) {
  std::shared_ptr<WorkerSession> session;
  absl::Status refusal;
  const std::shared_ptr<const grpc::AuthContext> peer = context->auth_context();
  const std::optional<Caller> caller = guard_->CallerOf(*peer);
  if (peer->IsPeerAuthenticated() && !caller.has_value()) refusal = absl::UnauthenticatedError(kRemovedFromFarm);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    session = std::make_shared<WorkerSession>(this, context, next_session_++,
                                              caller.has_value() ? caller->member.member_id() : "");
    if (!refusal.ok()) {
      // Removed since the call was let in.
    } else if (stopped_.has_value()) {
      refusal = *stopped_;
    } else if (sessions_.size() >= limits_.sessions) {
      refusal = absl::ResourceExhaustedError(
          absl::StrCat("The coordinator already serves ", limits_.sessions, " workers, its limit."));
    } else {
      sessions_.emplace(next_session_ - 1, session);
    }
  }
  if (refusal.ok()) {
    session->Begin(session);
  } else {
    session->Refuse(session, refusal);
  }
  return session.get();
}

std::shared_ptr<WorkerSession> WorkerServiceImpl::Find(uint64_t session) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = sessions_.find(session);
  return found == sessions_.end() ? nullptr : found->second;
}

void WorkerServiceImpl::Deliver(uint64_t session, CoordinatorMessage message) {
  if (const auto found = Find(session)) found->Deliver(std::move(message));
}

void WorkerServiceImpl::Close(uint64_t session, const absl::Status& why) {
  const auto found = Find(session);
  if (found == nullptr) return;
  log_->Warning("worker refused", {{"session", session}, {"why", std::string(why.message())}});
  found->End(why);
}

void WorkerServiceImpl::Closed(uint64_t session) {
  std::lock_guard<std::mutex> lock(mutex_);
  sessions_.erase(session);
}

void WorkerServiceImpl::Stop(const absl::Status& why) {
  std::map<uint64_t, std::shared_ptr<WorkerSession>> sessions;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!stopped_.has_value()) stopped_ = why;
    sessions = sessions_;
  }
  for (const auto& [number, session] : sessions) session->End(why);
}

}  // namespace storyfarm::coordinator
