#include "worker/agent/blob_server.h"

#include <errno.h>
#include <grpcpp/grpcpp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "farm/v1/blob.grpc.pb.h"
#include "pipeline/base/places.h"
#include "pipeline/base/transfer.h"

namespace storyfarm::worker {
namespace {

// Reads at a time: a disk gives no more to more of them. Whoever comes then asks another peer or the coordinator.
constexpr int kMostReads = 8;

grpc::Status Absent() { return {grpc::StatusCode::NOT_FOUND, "this worker's cache does not hold the blob"}; }

class CacheService final : public farm::v1::BlobService::Service {
 public:
  explicit CacheService(base::FileStore& cache) : cache_(cache) {}

  grpc::Status Read(grpc::ServerContext* context, const farm::v1::ReadRequest* request,
                    grpc::ServerWriter<farm::v1::ReadResponse>* writer) override {
    struct Slot {
      std::atomic<int>& open;
      const bool granted;
      ~Slot() { --open; }
    } slot{reads_, ++reads_ <= kMostReads};
    if (!slot.granted) return {grpc::StatusCode::UNAVAILABLE, "this worker serves as many reads as it does at a time"};
    const absl::StatusOr<base::Digest> digest = base::Digest::FromBytes(request->digest());
    if (!digest.ok()) return Absent();
    const absl::StatusOr<base::FilePin> pin = cache_.PinFile(*digest);
    if (!pin.ok()) return Absent();
    const auto file = cache_.env().OpenForReading(pin->path());
    if (!file.ok()) return Absent();
    const uint64_t size_bytes = (*file)->SizeBytes();
    uint64_t offset_bytes = request->offset_bytes();
    if (offset_bytes > size_bytes) return {grpc::StatusCode::OUT_OF_RANGE, "the blob ends before that offset"};
    farm::v1::ReadResponse response;
    response.set_size_bytes(size_bytes);
    do {
      std::string& data = *response.mutable_data();
      data.resize(static_cast<size_t>(std::min<uint64_t>(size_bytes - offset_bytes, base::kBlobChunkBytes)));
      const absl::StatusOr<size_t> count = (*file)->ReadAt(offset_bytes, data.data(), data.size());
      if (!count.ok() || *count != data.size()) return {grpc::StatusCode::DATA_LOSS, "the blob's file can't be read"};
      offset_bytes += data.size();
      if (!writer->Write(response)) return {grpc::StatusCode::CANCELLED, "the reader has gone"};
      response.clear_size_bytes();
    } while (offset_bytes < size_bytes && !context->IsCancelled());
    return grpc::Status::OK;
  }

 private:
  base::FileStore& cache_;
  std::atomic<int> reads_ = 0;
};

}  // namespace

struct BlobServer::State {
  explicit State(base::FileStore& cache) : service(cache) {}
  CacheService service;
  std::string socket_path;
  std::string address;
  std::unique_ptr<grpc::Server> server;
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
  auto state = std::make_unique<State>(cache);
  state->socket_path = base::JoinPath(folder, "blobs.sock");
  if (state->socket_path.size() > base::kMaxSocketPathBytes) {
    return absl::InvalidArgumentError(absl::StrCat("The path ", state->socket_path, " is longer than the ",
                                                   base::kMaxSocketPathBytes, " bytes that a socket may have."));
  }
  // The data folder's lock is this worker's: a socket that lies here is a dead one's.
  if (absl::Status removed = env.Remove(state->socket_path); !removed.ok() && !absl::IsNotFound(removed)) return removed;
  state->address = absl::StrCat("unix:", state->socket_path);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(state->address, grpc::InsecureServerCredentials());
  builder.RegisterService(&state->service);
  state->server = builder.BuildAndStart();
  if (state->server == nullptr) {
    return absl::UnavailableError(absl::StrCat("Nothing can be served on ", state->address));
  }
  return std::unique_ptr<BlobServer>(new BlobServer(std::move(state)));
}

BlobServer::~BlobServer() { state_->server->Shutdown(std::chrono::system_clock::now()); }

const std::string& BlobServer::address() const { return state_->address; }

}  // namespace storyfarm::worker
