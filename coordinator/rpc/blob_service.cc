#include "coordinator/rpc/blob_service.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/status.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::ReadResponse;
using farm::v1::WriteRequest;

// Counts a stream while it lives.
class StreamSlot {
 public:
  StreamSlot(std::atomic<int>& open, int limit) : open_(open), granted_(++open <= limit) {}
  ~StreamSlot() { --open_; }
  absl::Status status() const {
    if (granted_) return absl::OkStatus();
    return absl::UnavailableError("the coordinator has as many transfers open as it takes; try again in a second");
  }

 private:
  std::atomic<int>& open_;
  const bool granted_;
};

// Runs `work` on the pool; a pool that refuses ends the call with its reason.
template <typename Reactor>
void OnPool(WorkPool& pool, Reactor& reactor, grpc::CallbackServerContext* context, std::function<void()> work) {
  pool.Post([&reactor, context, work = std::move(work)](const absl::Status& refused) {
    if (!refused.ok()) return reactor.Finish(ToGrpc(refused, context));
    work();
  });
}

// One upload. Reads and disk work take turns, so nothing here runs twice at a time.
class WriteStream : public grpc::ServerReadReactor<WriteRequest> {
 public:
  WriteStream(BlobStore& store, WorkPool& pool, const BlobLimits& limits, std::atomic<int>& streams,
              grpc::CallbackServerContext* context, farm::v1::WriteResponse* response)
      : store_(store),
        pool_(pool),
        limits_(limits),
        slot_(streams, limits.streams),
        context_(context),
        response_(response) {
    if (absl::Status status = slot_.status(); !status.ok()) {
      Finish(ToGrpc(status, context_));
    } else {
      StartRead(&request_);
    }
  }

  void OnReadDone(bool ok) override {
    OnPool(pool_, *this, context_, [this, ok] { ok ? TakeChunk() : End(); });
  }
  void OnDone() override { delete this; }

 private:
  void TakeChunk() {
    if (writer_ == nullptr) {
      if (absl::Status opened = OpenUpload(); !opened.ok()) return Finish(ToGrpc(opened, context_));
      if (writer_ == nullptr) return Finish(grpc::Status::OK);  // it is already here
    }
    if (request_.data().size() > limits_.chunk_bytes) {
      return Finish(ToGrpc(absl::InvalidArgumentError(absl::StrCat("a chunk of ", request_.data().size(),
                                                                   " bytes; send at most ", limits_.chunk_bytes)),
                           context_));
    }
    if (request_.offset_bytes() != writer_->offset_bytes()) {
      return Finish(ToGrpc(absl::FailedPreconditionError(
                               absl::StrCat("bytes from ", request_.offset_bytes(), " came where those from ",
                                            writer_->offset_bytes(), " follow: ask QueryWrite where to resume")),
                           context_));
    }
    if (absl::Status written = writer_->Append(request_.data()); !written.ok())
      return Finish(ToGrpc(written, context_));
    StartRead(&request_);
  }

  absl::Status OpenUpload() {
    if (!request_.has_blob()) return absl::InvalidArgumentError("the first message of an upload must name its blob");
    if (store_.Has(request_.blob().digest())) {
      response_->set_committed_bytes(request_.blob().size_bytes());
      return absl::OkStatus();
    }
    auto writer = store_.OpenWriter(request_.blob(), request_.upload_id());
    if (!writer.ok()) return writer.status();
    writer_ = *std::move(writer);
    digest_ = request_.blob().digest();
    size_bytes_ = request_.blob().size_bytes();
    return absl::OkStatus();
  }

  // The client sent all, or went away; what a broken upload left is kept for its resumption.
  void End() {
    if (context_->IsCancelled()) return Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the upload was broken off"));
    if (writer_ == nullptr) return Finish(ToGrpc(absl::InvalidArgumentError("an upload without a message"), context_));
    if (writer_->offset_bytes() < size_bytes_) {
      return Finish(
          ToGrpc(absl::FailedPreconditionError(absl::StrCat("the upload ended after ", writer_->offset_bytes(), " of ",
                                                            size_bytes_, " bytes; they are kept: resume there")),
                 context_));
    }
    absl::Status committed = writer_->Commit();
    // Another upload of it may have ended, and gone unused, while this one lasted.
    if (committed.ok() && !store_.Has(digest_)) {
      committed = absl::AbortedError("an old file of this blob was just being removed: send it again in a second");
    }
    if (committed.ok()) response_->set_committed_bytes(size_bytes_);
    Finish(ToGrpc(committed, context_));
  }

  BlobStore& store_;
  WorkPool& pool_;
  const BlobLimits& limits_;
  const StreamSlot slot_;
  grpc::CallbackServerContext* const context_;
  farm::v1::WriteResponse* const response_;
  WriteRequest request_;
  std::unique_ptr<base::StoreWriter> writer_;
  std::string digest_;
  uint64_t size_bytes_ = 0;
};

// One download: the next chunk is read from the disk when the last has gone out.
class ReadStream : public grpc::ServerWriteReactor<ReadResponse> {
 public:
  ReadStream(BlobStore& store, WorkPool& pool, const BlobLimits& limits, std::atomic<int>& streams,
             std::atomic<uint64_t>& given_bytes, grpc::CallbackServerContext* context,
             const farm::v1::ReadRequest* request)
      : store_(store),
        pool_(pool),
        limits_(limits),
        slot_(streams, limits.streams),
        given_bytes_(given_bytes),
        context_(context),
        digest_(request->digest()),
        offset_bytes_(request->offset_bytes()) {
    if (absl::Status status = slot_.status(); !status.ok()) {
      Finish(ToGrpc(status, context_));
    } else {
      OnPool(pool_, *this, context_, [this] { Begin(); });
    }
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the download was broken off"));
    OnPool(pool_, *this, context_, [this] { SendChunk(); });
  }
  void OnDone() override { delete this; }

 private:
  void Begin() {
    auto pin = store_.Pin(digest_);
    if (!pin.ok()) return Finish(ToGrpc(pin.status(), context_));
    pin_ = *std::move(pin);
    auto file = store_.env().OpenForReading(pin_.path());
    if (!file.ok()) return Finish(ToGrpc(file.status(), context_));
    file_ = *std::move(file);
    if (offset_bytes_ > file_->SizeBytes()) {
      return Finish(ToGrpc(absl::OutOfRangeError(absl::StrCat("the blob has ", file_->SizeBytes(),
                                                              " bytes; nothing starts at ", offset_bytes_)),
                           context_));
    }
    response_.set_size_bytes(file_->SizeBytes());
    SendChunk();
  }

  void SendChunk() {
    const uint64_t left = file_->SizeBytes() - offset_bytes_;
    if (left == 0 && sent_) return Finish(grpc::Status::OK);  // an empty blob still tells its size
    std::string& data = *response_.mutable_data();
    data.resize(static_cast<size_t>(std::min<uint64_t>(left, limits_.chunk_bytes)));
    auto count = file_->ReadAt(offset_bytes_, data.data(), data.size());
    if (!count.ok()) return Finish(ToGrpc(count.status(), context_));
    if (*count != data.size()) return Finish(ToGrpc(absl::DataLossError("the blob's file became shorter"), context_));
    offset_bytes_ += data.size();
    given_bytes_ += data.size();
    if (sent_) response_.clear_size_bytes();
    sent_ = true;
    StartWrite(&response_);
  }

  BlobStore& store_;
  WorkPool& pool_;
  const BlobLimits& limits_;
  const StreamSlot slot_;
  std::atomic<uint64_t>& given_bytes_;
  grpc::CallbackServerContext* const context_;
  const std::string digest_;
  uint64_t offset_bytes_;
  base::FilePin pin_;
  std::unique_ptr<base::ReadableFile> file_;
  ReadResponse response_;
  bool sent_ = false;
};

}  // namespace

BlobServiceImpl::BlobServiceImpl(BlobStore& store, const BlobLimits& limits)
    : store_(store), limits_(limits), pool_(limits.disk_threads, limits.queued_work) {}

grpc::ServerUnaryReactor* BlobServiceImpl::FindMissing(grpc::CallbackServerContext* context,
                                                       const farm::v1::FindMissingRequest* request,
                                                       farm::v1::FindMissingResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (static_cast<size_t>(request->blobs_size()) > limits_.find_missing) {
    reactor->Finish(ToGrpc(absl::InvalidArgumentError(absl::StrCat(
                               request->blobs_size(), " digests in one call; ask for at most ", limits_.find_missing)),
                           context));
    return reactor;
  }
  OnPool(pool_, *reactor, context, [this, request, response, reactor, context] {
    auto missing = store_.FindMissing({request->blobs().begin(), request->blobs().end()});
    if (missing.ok()) response->mutable_missing()->Assign(missing->begin(), missing->end());
    reactor->Finish(ToGrpc(missing.status(), context));
  });
  return reactor;
}

grpc::ServerReadReactor<WriteRequest>* BlobServiceImpl::Write(grpc::CallbackServerContext* context,
                                                              farm::v1::WriteResponse* response) {
  return new WriteStream(store_, pool_, limits_, streams_, context, response);
}

grpc::ServerUnaryReactor* BlobServiceImpl::QueryWrite(grpc::CallbackServerContext* context,
                                                      const farm::v1::QueryWriteRequest* request,
                                                      farm::v1::QueryWriteResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  OnPool(pool_, *reactor, context, [this, request, response, reactor, context] {
    if (store_.Has(request->blob().digest())) {
      response->set_complete(true);
      response->set_kept_bytes(request->blob().size_bytes());
      return reactor->Finish(grpc::Status::OK);
    }
    auto kept = store_.KeptBytes(request->blob(), request->upload_id());
    if (kept.ok()) response->set_kept_bytes(*kept);
    reactor->Finish(ToGrpc(kept.status(), context));
  });
  return reactor;
}

grpc::ServerWriteReactor<ReadResponse>* BlobServiceImpl::Read(grpc::CallbackServerContext* context,
                                                              const farm::v1::ReadRequest* request) {
  return new ReadStream(store_, pool_, limits_, streams_, given_bytes_, context, request);
}

}  // namespace storyfarm::coordinator
