#include "worker/agent/blob_server.h"

#include <errno.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "farm/v1/blob.grpc.pb.h"
#include "pipeline/base/certificates.h"
#include "pipeline/base/farm_channel.h"
#include "pipeline/base/places.h"
#include "pipeline/base/transfer.h"
#include "pipeline/plan/peering.h"
#include "worker/agent/stall_watch.h"

namespace storyfarm::worker {
namespace {

// Reads at a time: a disk gives no more to more of them. Whoever comes then asks another peer or the coordinator.
constexpr int kMostReads = 8;
// What is asked is a digest and an offset.
constexpr int kRequestBytes = 1024;
// What strangers may make this machine hold before they have shown a certificate, and readers after it.
constexpr size_t kMemoryBytes = size_t{64} << 20;
constexpr int kMostThreads = 32;
// A reader that lost its cable holds nothing for longer.
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 10'000;

grpc::Status Absent() { return {grpc::StatusCode::NOT_FOUND, "this worker's cache does not hold the blob"}; }

// Who may read.
class Readers {
 public:
  void Admit(bool whole, const farm::v1::ReadersChanged& change) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (whole) serials_.clear();
    for (const std::string& serial : change.removed()) serials_.erase(serial);
    serials_.insert(change.added().begin(), change.added().end());
  }
  bool Has(const std::string& serial) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return serials_.count(serial) > 0;
  }

 private:
  mutable std::mutex mutex_;
  std::set<std::string> serials_;
};

// One caller, by what TLS has verified of it.
class Caller {
 public:
  Caller(const grpc::ServerContext& context, const Readers& readers) : readers_(readers) {
    from_here_ = absl::StartsWith(context.peer(), "unix:");
    if (from_here_) return;
    if (!context.auth_context()->IsPeerAuthenticated()) return;
    const auto facts = base::ReadCertificate(base::CallersCertificate(*context.auth_context()));
    if (!facts.ok()) return;
    is_coordinator_ = facts->host == base::kCoordinatorHost;
    if (plan::IsWorkerHost(facts->host)) serial_ = facts->serial;
  }
  // Asked again for each chunk.
  bool May() const { return from_here_ || is_coordinator_ || (!serial_.empty() && readers_.Has(serial_)); }

 private:
  const Readers& readers_;
  bool from_here_ = false;       // the socket's folder has let it in
  bool is_coordinator_ = false;  // has the authority's key, so it is on no list
  std::string serial_;           // of a worker
};

class CacheService final : public farm::v1::BlobService::Service {
 public:
  CacheService(base::FileStore& cache, absl::Duration stall) : cache_(cache), stalls_(stall) {}

  Readers& readers() { return readers_; }
  uint64_t given_bytes() const { return given_bytes_; }

  grpc::Status Read(grpc::ServerContext* context, const farm::v1::ReadRequest* request,
                    grpc::ServerWriter<farm::v1::ReadResponse>* writer) override {
    const Caller caller(*context, readers_);
    if (!caller.May()) return Refused();
    struct Slot {
      std::atomic<int>& open;
      const bool granted;
      ~Slot() { --open; }
    } slot{reads_, ++reads_ <= kMostReads};
    if (!slot.granted) {
      return {grpc::StatusCode::RESOURCE_EXHAUSTED, "this worker serves as many reads as it does at a time"};
    }
    const absl::StatusOr<base::Digest> digest = base::Digest::FromBytes(request->digest());
    if (!digest.ok()) return Absent();
    const absl::StatusOr<base::FilePin> pin = cache_.PinFile(*digest);
    if (!pin.ok()) return Absent();
    const auto file = cache_.env().OpenForReading(pin->path());
    if (!file.ok()) return Absent();
    return Send(**file, request->offset_bytes(), caller, context, writer);
  }

 private:
  static grpc::Status Refused() {
    return {grpc::StatusCode::PERMISSION_DENIED,
            "this worker gives files to workers of its farm alone, and the farm has not named this one to it"};
  }

  grpc::Status Send(const base::ReadableFile& file, uint64_t offset_bytes, const Caller& caller,
                    grpc::ServerContext* context, grpc::ServerWriter<farm::v1::ReadResponse>* writer) {
    const uint64_t size_bytes = file.SizeBytes();
    if (offset_bytes > size_bytes) return {grpc::StatusCode::OUT_OF_RANGE, "the blob ends before that offset"};
    StallWatch::Watched watched(stalls_, [context] { context->TryCancel(); });
    farm::v1::ReadResponse response;
    response.set_size_bytes(size_bytes);
    do {
      if (!caller.May()) return Refused();
      std::string& data = *response.mutable_data();
      data.resize(static_cast<size_t>(std::min<uint64_t>(size_bytes - offset_bytes, base::kBlobChunkBytes)));
      const absl::StatusOr<size_t> count = file.ReadAt(offset_bytes, data.data(), data.size());
      if (!count.ok() || *count != data.size()) return {grpc::StatusCode::DATA_LOSS, "the blob's file can't be read"};
      if (!writer->Write(response)) return {grpc::StatusCode::CANCELLED, "the reader has gone, or takes nothing"};
      watched.Moved();
      offset_bytes += data.size();
      given_bytes_ += data.size();
      response.clear_size_bytes();
    } while (offset_bytes < size_bytes && !context->IsCancelled());
    return grpc::Status::OK;
  }

  base::FileStore& cache_;
  Readers readers_;
  StallWatch stalls_;
  std::atomic<int> reads_ = 0;
  std::atomic<uint64_t> given_bytes_ = 0;
};

}  // namespace

struct BlobServer::State {
  State(base::FileStore& cache, absl::Duration stall) : service(cache, stall) {}
  CacheService service;
  std::string address;
  int port = 0;
  std::unique_ptr<grpc::Server> server;

  absl::Status Serve(const std::string& at, std::shared_ptr<grpc::ServerCredentials> credentials) {
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(kRequestBytes);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMostReads);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
    builder.SetResourceQuota(grpc::ResourceQuota("peers").Resize(kMemoryBytes).SetMaxThreads(kMostThreads));
    builder.AddListeningPort(at, std::move(credentials), &port);
    builder.RegisterService(&service);
    server = builder.BuildAndStart();
    if (server != nullptr) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("Nothing can be served on ", at, ": it is taken, or not of this machine."));
  }
};

BlobServer::BlobServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

absl::StatusOr<std::unique_ptr<BlobServer>> BlobServer::Start(base::FileStore& cache, const std::string& folder) {
  base::Env& env = cache.env();
  if (absl::Status made = env.CreateFolders(folder); !made.ok()) return made;
  struct stat info {};
  if (::lstat(folder.c_str(), &info) != 0) return base::ErrorFromErrno(errno, "look at", folder);
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & 077) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "The folder ", folder, " must belong to you and be closed to others: whoever may open the socket in it may read "
        "this worker's cache. Run: chmod 700 ", folder));
  }
  const std::string socket_path = base::JoinPath(folder, "blobs.sock");
  if (socket_path.size() > base::kMaxSocketPathBytes) {
    return absl::InvalidArgumentError(absl::StrCat("The path ", socket_path, " is longer than the ",
                                                   base::kMaxSocketPathBytes, " bytes that a socket may have."));
  }
  // The data folder's lock is this worker's: a socket that lies here is a dead one's.
  if (absl::Status removed = env.Remove(socket_path); !removed.ok() && !absl::IsNotFound(removed)) return removed;
  auto state = std::make_unique<State>(cache, absl::Seconds(30));
  state->address = absl::StrCat("unix:", socket_path);
  if (absl::Status served = state->Serve(state->address, grpc::InsecureServerCredentials()); !served.ok()) return served;
  return std::unique_ptr<BlobServer>(new BlobServer(std::move(state)));
}

absl::StatusOr<std::unique_ptr<BlobServer>> BlobServer::StartForMembers(base::FileStore& cache,
                                                                        const std::string& network,
                                                                        const std::string& trust_folder,
                                                                        absl::Duration stall) {
  auto state = std::make_unique<State>(cache, stall);
  const auto credentials = base::FarmServerCredentials(trust_folder, base::Callers::kMembers);
  if (absl::Status served = state->Serve(network, credentials); !served.ok()) return served;
  return std::unique_ptr<BlobServer>(new BlobServer(std::move(state)));
}

BlobServer::~BlobServer() { state_->server->Shutdown(std::chrono::system_clock::now()); }

void BlobServer::Admit(bool whole, const farm::v1::ReadersChanged& change) {
  state_->service.readers().Admit(whole, change);
}

const std::string& BlobServer::address() const { return state_->address; }
int BlobServer::port() const { return state_->port; }
uint64_t BlobServer::given_bytes() const { return state_->service.given_bytes(); }

}  // namespace storyfarm::worker
