#include "tests/worker/agent/fake_coordinator.h"

#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "farm/v1/blob.grpc.pb.h"
#include "farm/v1/session.grpc.pb.h"
#include "pipeline/base/digest.h"

namespace storyfarm::worker {
namespace {

constexpr std::chrono::seconds kPatience(30);
constexpr size_t kChunkBytes = 512 << 10;

}  // namespace

struct FakeCoordinator::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, std::string> blobs;
  std::set<std::string> corrupt;
  std::deque<farm::v1::WorkerMessage> heard;
  std::deque<farm::v1::CoordinatorMessage> outgoing;
  grpc::ServerContext* stream = nullptr;  // the open one
  bool breaking = false;
  std::optional<grpc::Status> refusal;

  class Blobs final : public farm::v1::BlobService::Service {
   public:
    explicit Blobs(State* state) : state_(state) {}

    grpc::Status FindMissing(grpc::ServerContext*, const farm::v1::FindMissingRequest* request,
                             farm::v1::FindMissingResponse* response) override {
      const std::lock_guard<std::mutex> lock(state_->mutex);
      for (const auto& blob : request->blobs()) {
        if (state_->blobs.count(blob.digest()) == 0) *response->add_missing() = blob;
      }
      return grpc::Status::OK;
    }
    grpc::Status QueryWrite(grpc::ServerContext*, const farm::v1::QueryWriteRequest* request,
                            farm::v1::QueryWriteResponse* response) override {
      const std::lock_guard<std::mutex> lock(state_->mutex);
      response->set_complete(state_->blobs.count(request->blob().digest()) == 1);
      return grpc::Status::OK;
    }
    grpc::Status Write(grpc::ServerContext*, grpc::ServerReader<farm::v1::WriteRequest>* reader,
                       farm::v1::WriteResponse* response) override {
      farm::v1::WriteRequest request;
      std::string bytes;
      std::string digest;
      while (reader->Read(&request)) {
        if (request.has_blob()) digest = request.blob().digest();
        bytes += request.data();
      }
      if (base::Digest::Of(bytes).Bytes() != digest)
        return {grpc::StatusCode::DATA_LOSS, "the bytes do not hash to the digest"};
      response->set_committed_bytes(bytes.size());
      const std::lock_guard<std::mutex> lock(state_->mutex);
      state_->blobs[digest] = std::move(bytes);
      return grpc::Status::OK;
    }
    grpc::Status Read(grpc::ServerContext*, const farm::v1::ReadRequest* request,
                      grpc::ServerWriter<farm::v1::ReadResponse>* writer) override {
      std::string bytes;
      {
        const std::lock_guard<std::mutex> lock(state_->mutex);
        const auto found = state_->blobs.find(request->digest());
        if (found == state_->blobs.end()) return {grpc::StatusCode::NOT_FOUND, "no such blob"};
        bytes = found->second;
        if (state_->corrupt.count(request->digest()) == 1 && !bytes.empty()) bytes[0] = static_cast<char>(bytes[0] ^ 1);
      }
      farm::v1::ReadResponse response;
      response.set_size_bytes(bytes.size());
      size_t at = std::min<size_t>(request->offset_bytes(), bytes.size());
      do {
        response.set_data(bytes.substr(at, kChunkBytes));
        at += response.data().size();
        if (!writer->Write(response)) break;
        response.Clear();
      } while (at < bytes.size());
      return grpc::Status::OK;
    }

   private:
    State* state_;
  };

  class Sessions final : public farm::v1::WorkerService::Service {
   public:
    explicit Sessions(State* state) : state_(state) {}

    grpc::Status Session(
        grpc::ServerContext* context,
        grpc::ServerReaderWriter<farm::v1::CoordinatorMessage, farm::v1::WorkerMessage>* stream) override {
      {
        const std::lock_guard<std::mutex> lock(state_->mutex);
        if (state_->refusal.has_value()) return *state_->refusal;
        state_->stream = context;
        state_->breaking = false;
        state_->outgoing.clear();
      }
      bool ended = false;  // under the mutex
      std::thread writer([&] {
        std::unique_lock<std::mutex> lock(state_->mutex);
        while (true) {
          state_->changed.wait(lock, [&] { return ended || !state_->outgoing.empty(); });
          if (ended) return;
          const farm::v1::CoordinatorMessage message = std::move(state_->outgoing.front());
          state_->outgoing.pop_front();
          lock.unlock();
          stream->Write(message);
          lock.lock();
        }
      });
      farm::v1::WorkerMessage message;
      while (stream->Read(&message)) {
        const std::lock_guard<std::mutex> lock(state_->mutex);
        state_->heard.push_back(std::move(message));
        state_->changed.notify_all();
      }
      {
        const std::lock_guard<std::mutex> lock(state_->mutex);
        ended = true;
        state_->changed.notify_all();
      }
      writer.join();
      const std::lock_guard<std::mutex> lock(state_->mutex);
      state_->stream = nullptr;
      state_->changed.notify_all();
      return state_->refusal.value_or(state_->breaking ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "broken")
                                                       : grpc::Status::OK);
    }

   private:
    State* state_;
  };

  Blobs blob_service{this};
  Sessions session_service{this};
  std::unique_ptr<grpc::Server> server;
};

FakeCoordinator::FakeCoordinator(const std::string& socket_path) : state_(std::make_unique<State>()) {
  // Never taken back: with its last server gRPC takes itself down, which may wait 10 s for a poller.
  grpc_init();
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket_path, grpc::InsecureServerCredentials());
  // Else its idle threads hold every test up for 10 s at the end.
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::CQ_TIMEOUT_MSEC, 100);
  builder.RegisterService(&state_->blob_service);
  builder.RegisterService(&state_->session_service);
  state_->server = builder.BuildAndStart();
}

FakeCoordinator::~FakeCoordinator() {
  // Cancels what is open: reads end and the handlers return.
  state_->server->Shutdown(std::chrono::system_clock::now());
}

farm::v1::BlobRef FakeCoordinator::Put(const std::string& bytes) {
  farm::v1::BlobRef blob;
  blob.set_digest(base::Digest::Of(bytes).Bytes());
  blob.set_size_bytes(bytes.size());
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->blobs[blob.digest()] = bytes;
  return blob;
}

std::optional<std::string> FakeCoordinator::Get(const std::string& digest) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  const auto found = state_->blobs.find(digest);
  if (found == state_->blobs.end()) return std::nullopt;
  return found->second;
}

void FakeCoordinator::Forget(const std::string& digest) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->blobs.erase(digest);
}

void FakeCoordinator::Corrupt(const std::string& digest) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->corrupt.insert(digest);
}

std::optional<farm::v1::WorkerMessage> FakeCoordinator::Wait(
    const std::function<bool(const farm::v1::WorkerMessage&)>& wanted) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (true) {
    while (!state_->heard.empty()) {
      farm::v1::WorkerMessage message = std::move(state_->heard.front());
      state_->heard.pop_front();
      if (wanted(message)) return message;
    }
    if (state_->changed.wait_until(lock, deadline) == std::cv_status::timeout) return std::nullopt;
  }
}

std::optional<farm::v1::WorkerMessage> FakeCoordinator::Wait(farm::v1::WorkerMessage::KindCase kind) {
  return Wait([kind](const farm::v1::WorkerMessage& message) { return message.kind_case() == kind; });
}

std::optional<farm::v1::Hello> FakeCoordinator::WaitHello() {
  std::optional<farm::v1::WorkerMessage> message = Wait(farm::v1::WorkerMessage::kHello);
  if (!message.has_value()) return std::nullopt;
  return message->hello();
}

bool FakeCoordinator::WaitGone() {
  std::unique_lock<std::mutex> lock(state_->mutex);
  return state_->changed.wait_for(lock, kPatience, [this] { return state_->stream == nullptr; });
}

void FakeCoordinator::Send(farm::v1::CoordinatorMessage message) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->outgoing.push_back(std::move(message));
  state_->changed.notify_all();
}

void FakeCoordinator::Welcome(const farm::v1::Hello& hello) {
  farm::v1::CoordinatorMessage message;
  farm::v1::Welcome* welcome = message.mutable_welcome();
  welcome->set_protocol_version(1);
  welcome->set_heartbeat_ms(100);
  welcome->set_lease_ms(15000);
  for (const farm::v1::HeldTask& held : hello.held()) {
    farm::v1::HeldVerdict* verdict = welcome->add_held();
    *verdict->mutable_token() = held.token();
    *verdict->mutable_task() = held.task();
    verdict->set_keep(true);
  }
  Send(std::move(message));
}

void FakeCoordinator::Refuse(int grpc_code, const std::string& message) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->refusal = grpc::Status(static_cast<grpc::StatusCode>(grpc_code), message);
  if (state_->stream != nullptr) state_->stream->TryCancel();
}

void FakeCoordinator::BreakStream() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->breaking = true;
  state_->heard.clear();
  if (state_->stream != nullptr) state_->stream->TryCancel();
}

}  // namespace storyfarm::worker
