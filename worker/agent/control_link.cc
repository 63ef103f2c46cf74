#include "worker/agent/control_link.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "farm/v1/session.grpc.pb.h"
#include "pipeline/base/farm_channel.h"
#include "pipeline/base/thread_role.h"
#include "worker/agent/backoff.h"

namespace storyfarm::worker {
namespace {

using farm::v1::CoordinatorMessage;
using farm::v1::WorkerMessage;
using Milliseconds = std::chrono::milliseconds;

// A dead peer is noticed within 40 s even where the network says nothing; the server allows pings of 15 s and more.
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
constexpr int kMaxMessageBytes = 32 << 20;  // a grant holds at most 64 frames; a book's page work 20,000 panels

// One stream, from its start to OnDone. gRPC's threads call it; it lives until WaitDone says so.
class Stream : public grpc::ClientBidiReactor<WorkerMessage, CoordinatorMessage> {
 public:
  Stream(EventQueue* events, size_t unsent) : events_(events), unsent_(unsent) {}

  void Start(farm::v1::WorkerService::Stub* stub) {
    stub->async()->Session(&context_, this);
    AddHold();  // writes start outside of reactions
    StartRead(&incoming_);
    StartCall();
    const std::lock_guard<std::mutex> lock(mutex_);
    started_ = true;
    WriteNext();
  }

  void Send(WorkerMessage message) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (ended_ || closing_) return;
    if (outgoing_.size() >= unsent_) {
      context_.TryCancel();
      return;
    }
    outgoing_.push_back(std::move(message));
    WriteNext();
  }

  // No more messages; half-closes when the last has left.
  void Close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
    WriteNext();
  }

  void Cancel() { context_.TryCancel(); }

  // Whether the stream has ended within this time.
  bool WaitDone(Milliseconds most) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, most, [this] { return done_; });
  }
  bool welcomed() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return welcomed_;
  }
  // After WaitDone.
  const grpc::Status& status() const { return status_; }

  void OnReadDone(bool ok) override {
    if (!ok) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        ended_ = true;
      }
      RemoveHold();
      return;
    }
    if (incoming_.has_welcome()) {
      const std::lock_guard<std::mutex> lock(mutex_);
      welcomed_ = true;
    }
    events_->Push(CoordinatorSaid{std::move(incoming_)});
    incoming_ = CoordinatorMessage();
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    if (outgoing_.empty()) return;
    outgoing_.pop_front();
    if (ok) WriteNext();
  }

  void OnDone(const grpc::Status& status) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    status_ = status;
    done_ = true;
    changed_.notify_all();
  }

 private:
  // With the mutex held.
  void WriteNext() {
    if (!started_ || ended_ || writing_ || half_closed_) return;
    if (!outgoing_.empty()) {
      writing_ = true;
      StartWrite(&outgoing_.front());
    } else if (closing_) {
      half_closed_ = true;
      StartWritesDone();
    }
  }

  EventQueue* const events_;
  const size_t unsent_;
  grpc::ClientContext context_;
  CoordinatorMessage incoming_;  // the read under way
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<WorkerMessage> outgoing_;  // the first is being written while `writing_`
  bool started_ = false, writing_ = false, closing_ = false, half_closed_ = false, ended_ = false, done_ = false,
       welcomed_ = false;
  grpc::Status status_;
};

std::string Reason(const grpc::Status& status) {
  if (status.ok()) return "the coordinator ended the session";
  return status.error_message().empty() ? absl::StrCat("gRPC status ", static_cast<int>(status.error_code()))
                                        : status.error_message();
}

}  // namespace

struct ControlLink::State {
  State(LinkOptions options_in, LinkParts parts_in)
      : options(std::move(options_in)),
        parts(std::move(parts_in)),
        backoff(options.first_pause_ms, options.most_pause_ms) {}

  LinkOptions options;
  LinkParts parts;
  Backoff backoff;
  std::mutex mutex;
  std::condition_variable changed;
  std::shared_ptr<Stream> stream;  // null: none
  bool stopping = false;
  int failures = 0;
  std::optional<std::chrono::steady_clock::time_point> twin_since;
  std::thread thread;

  std::shared_ptr<grpc::Channel> MakeChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, static_cast<int>(options.first_pause_ms));
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, static_cast<int>(options.most_pause_ms));
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    // Small messages fill no window: pings that measure the way's bandwidth would be half of all that is sent.
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
    return base::FarmChannel(options.coordinator, options.trust_folder, std::move(arguments));
  }

  void Main() {
    base::TakeRole(base::ThreadRole::kLease);
    const std::unique_ptr<farm::v1::WorkerService::Stub> stub = farm::v1::WorkerService::NewStub(MakeChannel());
    while (true) {
      const auto fresh = std::make_shared<Stream>(parts.events, options.unsent);
      std::vector<std::string> cached = parts.cached();
      {
        const std::lock_guard<std::mutex> lock(mutex);
        if (stopping) return;
        stream = fresh;
      }
      parts.events->Push(Connected{std::move(cached)});
      fresh->Start(stub.get());
      if (!fresh->WaitDone(Milliseconds(options.welcome_within_ms))) {
        if (!fresh->welcomed()) fresh->Cancel();
        while (!fresh->WaitDone(Milliseconds(60'000))) {
        }
      }
      {
        const std::lock_guard<std::mutex> lock(mutex);
        stream = nullptr;
      }
      parts.events->Push(Disconnected{});
      if (!GoOn(*fresh)) return;
    }
  }

  // Whether another process has had this node's id for longer than one that was killed can seem to.
  bool IsTwinForGood(const grpc::Status& status) {
    if (status.error_code() != grpc::StatusCode::ALREADY_EXISTS) {
      twin_since.reset();
      return false;
    }
    const auto now = std::chrono::steady_clock::now();
    if (!twin_since.has_value()) twin_since = now;
    return now - *twin_since > Milliseconds(options.twin_patience_ms);
  }

  // After a stream's end: whether to try again, after a pause.
  bool GoOn(Stream& ended) {
    const grpc::Status& status = ended.status();
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (stopping) return false;
    }
    const bool unwanted = status.error_code() == grpc::StatusCode::UNAUTHENTICATED ||
                          status.error_code() == grpc::StatusCode::PERMISSION_DENIED;
    if (unwanted || status.error_code() == grpc::StatusCode::FAILED_PRECONDITION) {
      parts.on_refused(absl::FailedPreconditionError(Reason(status)));
      return false;
    }
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
      parts.on_refused(absl::FailedPreconditionError(
          absl::StrCat("What listens at ", options.coordinator, " is no storyfarm coordinator; check --coordinator.")));
      return false;
    }
    if (IsTwinForGood(status)) {
      parts.on_refused(absl::FailedPreconditionError(Reason(status)));
      return false;
    }
    if (ended.welcomed()) {
      backoff.Reset();
      failures = 0;
    }
    // Said when it happens and then every now and then, not at each try.
    if (failures++ % 20 == 0) {
      parts.log->Warning(twin_since.has_value() ? "refused: trying again for a while"
                                                : "no coordinator: trying again until it answers",
                         {{"coordinator", options.coordinator},
                          {"why", base::IsForeignFarm(status.error_message()) ? base::ForeignFarm(options.coordinator)
                                                                              : Reason(status)}});
    }
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait_for(lock, Milliseconds(backoff.NextMs(parts.random_bits())), [this] { return stopping; });
    return !stopping;
  }
};

ControlLink::ControlLink(LinkOptions options, LinkParts parts)
    : state_(std::make_unique<State>(std::move(options), std::move(parts))) {}

ControlLink::~ControlLink() { Stop(0); }

void ControlLink::Start() {
  state_->thread = std::thread([this] { state_->Main(); });
}

void ControlLink::Send(WorkerMessage message) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  if (state_->stream != nullptr) state_->stream->Send(std::move(message));
}

void ControlLink::Stop(int64_t grace_ms) {
  std::shared_ptr<Stream> stream;
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stopping = true;
    stream = state_->stream;
  }
  state_->changed.notify_all();
  if (stream != nullptr) {
    stream->Close();
    if (!stream->WaitDone(Milliseconds(grace_ms))) stream->Cancel();
  }
  if (state_->thread.joinable()) state_->thread.join();
}

}  // namespace storyfarm::worker
