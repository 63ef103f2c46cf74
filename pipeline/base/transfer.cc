#include "pipeline/base/transfer.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"

namespace storyfarm::base {

using farm::v1::BlobRef;
using farm::v1::BlobService;

namespace {

// How often a thread looks whether another one of this process, which brings the same blob, is through.
constexpr absl::Duration kOtherDownloadPause = absl::Milliseconds(100);
// All downloads of one blob into one store resume the same partial file.
constexpr char kDownloadId[] = "download";

absl::Status ToAbsl(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

absl::Status WithContext(const absl::Status& status, const std::string& what) {
  return status.ok() ? status : absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

bool Transient(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsAborted(status) || absl::IsDeadlineExceeded(status);
}

absl::StatusOr<Digest> DigestOf(const BlobRef& blob) {
  return Digest::FromBytes({blob.digest().data(), blob.digest().size()});
}

std::string NameOf(const BlobRef& blob) {
  absl::StatusOr<Digest> digest = DigestOf(blob);
  return digest.ok() ? absl::StrCat("blob ", digest->ShortHex()) : "a blob without a valid digest";
}

}  // namespace

struct TransferCancel::State {
  std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  bool cancelled = false;
  std::set<grpc::ClientContext*> calls;
};

TransferCancel::TransferCancel() : state_(std::make_unique<State>()) {}
TransferCancel::~TransferCancel() = default;

void TransferCancel::Cancel() {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->cancelled = true;
  state_->changed.notify_all();
  for (grpc::ClientContext* call : state_->calls) call->TryCancel();
}

bool TransferCancel::cancelled() const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->cancelled;
}

namespace {

bool Cancelled(const TransferOptions& options) { return options.cancel != nullptr && options.cancel->cancelled(); }

absl::Status CancelledStatus() { return absl::CancelledError("The transfer was stopped."); }

// One call, which ends when the transfer is cancelled or nothing moved for too long.
class WatchedCall {
 public:
  explicit WatchedCall(const TransferOptions& options) : options_(options) {
    if (options_.cancel != nullptr) {
      TransferCancel::State& state = options_.cancel->state();
      std::lock_guard<std::mutex> lock(state.mutex);
      state.calls.insert(&context_);
      if (state.cancelled) context_.TryCancel();
    }
    watcher_ = std::thread([this] { Watch(); });
  }
  ~WatchedCall() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
      changed_.notify_all();
    }
    watcher_.join();
    if (options_.cancel != nullptr) {
      TransferCancel::State& state = options_.cancel->state();
      std::lock_guard<std::mutex> lock(state.mutex);
      state.calls.erase(&context_);
    }
  }

  grpc::ClientContext* context() { return &context_; }
  void Moved(uint64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    moved_bytes_ += bytes;
    if (moved_bytes_ >= options_.stall_bytes) changed_.notify_all();
  }
  // The call's status, told apart by why it was cancelled.
  absl::Status Result(const grpc::Status& status) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (status.error_code() == grpc::StatusCode::CANCELLED && Cancelled(options_)) return CancelledStatus();
    if (stalled_ && !status.ok()) {
      return absl::DeadlineExceededError(absl::StrCat(moved_bytes_ == 0 ? "nothing" : "next to nothing", " moved for ",
                                                      absl::FormatDuration(options_.stall)));
    }
    return ToAbsl(status);
  }

 private:
  void Watch() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!ended_) {
      moved_bytes_ = 0;
      if (changed_.wait_for(lock, absl::ToChronoMicroseconds(options_.stall),
                            [&] { return ended_ || moved_bytes_ >= options_.stall_bytes; })) {
        continue;
      }
      stalled_ = true;
      context_.TryCancel();
      changed_.wait(lock, [&] { return ended_; });
    }
  }

  const TransferOptions& options_;
  grpc::ClientContext context_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool ended_ = false;
  uint64_t moved_bytes_ = 0;  // since the watcher last began to wait
  bool stalled_ = false;
  std::thread watcher_;
};

// Waits, or less long where the transfer is cancelled.
void Pause(const TransferOptions& options, absl::Duration time) {
  if (options.cancel == nullptr) {
    absl::SleepFor(time);
    return;
  }
  TransferCancel::State& state = options.cancel->state();
  std::unique_lock<std::mutex> lock(state.mutex);
  state.changed.wait_for(lock, absl::ToChronoMicroseconds(time), [&] { return state.cancelled; });
}

// Runs `attempt` until it succeeds, fails for good, or failed too often in a row without progress. An attempt sets the
// bool where it moved bytes.
absl::Status WithRetries(const TransferOptions& options, const std::string& what,
                         const std::function<absl::Status(bool*)>& attempt) {
  int failures = 0;
  int data_losses = 0;
  absl::Duration pause = options.first_pause;
  while (true) {
    if (Cancelled(options)) return CancelledStatus();
    bool progress = false;
    const absl::Status status = attempt(&progress);
    if (status.ok() || absl::IsCancelled(status)) return status;
    // Resumed bytes that a crash damaged are thrown away by the first mismatch; a second one has another cause.
    const bool again = Transient(status) || (absl::IsDataLoss(status) && ++data_losses < 2);
    if (!again) return WithContext(status, what);
    if (progress) {
      failures = 0;
      pause = options.first_pause;
    }
    if (++failures >= options.max_attempts) {
      return WithContext(status, absl::StrCat(what, " (", failures, " attempts)"));
    }
    Pause(options, pause);
    pause = std::min(2 * pause, options.max_pause);
  }
}

absl::StatusOr<uint64_t> AskKept(BlobService::StubInterface& stub, const BlobRef& blob, const std::string& upload_id,
                                 const TransferOptions& options, bool* complete) {
  farm::v1::QueryWriteRequest request;
  *request.mutable_blob() = blob;
  request.set_upload_id(upload_id);
  farm::v1::QueryWriteResponse response;
  WatchedCall call(options);
  const absl::Status status = call.Result(stub.QueryWrite(call.context(), request, &response));
  if (!status.ok()) return status;
  *complete = response.complete();
  return response.kept_bytes();
}

absl::Status UploadOnce(BlobService::StubInterface& stub, const ReadableFile& file, const BlobRef& blob,
                        const std::string& upload_id, const TransferOptions& options, uint64_t* furthest,
                        bool* progress) {
  bool complete = false;
  absl::StatusOr<uint64_t> kept = AskKept(stub, blob, upload_id, options, &complete);
  if (!kept.ok()) return kept.status();
  *progress = complete || *kept > *furthest;
  *furthest = std::max(*furthest, *kept);
  if (complete) return absl::OkStatus();

  farm::v1::WriteResponse response;
  WatchedCall call(options);
  std::unique_ptr<grpc::ClientWriterInterface<farm::v1::WriteRequest>> stream = stub.Write(call.context(), &response);
  farm::v1::WriteRequest request;
  *request.mutable_blob() = blob;
  request.set_upload_id(upload_id);
  absl::Status read_error;
  uint64_t offset = *kept;
  do {
    std::string* data = request.mutable_data();
    data->resize(std::min<uint64_t>(kBlobChunkBytes, blob.size_bytes() - offset));
    absl::StatusOr<size_t> got = file.ReadAt(offset, data->data(), data->size());
    if (!got.ok() || *got < data->size()) {
      read_error = got.ok() ? absl::DataLossError("the file became shorter while it was sent") : got.status();
      call.context()->TryCancel();
      break;
    }
    request.set_offset_bytes(offset);
    if (!stream->Write(request)) break;  // Finish tells why
    call.Moved(request.data().size());
    offset += data->size();
    if (options.progress) options.progress(offset);
    request.Clear();
  } while (offset < blob.size_bytes());
  stream->WritesDone();
  const grpc::Status finished = stream->Finish();
  if (!read_error.ok()) return read_error;
  const absl::Status status = call.Result(finished);
  if (!status.ok()) return status;
  if (response.committed_bytes() != blob.size_bytes()) {
    return absl::InternalError(absl::StrCat("the server says that ", response.committed_bytes(), " of ",
                                            blob.size_bytes(), " bytes are durable"));
  }
  return absl::OkStatus();
}

// Streams a blob from an offset to its end.
absl::Status ReadStream(BlobService::StubInterface& stub, const BlobRef& blob, uint64_t offset,
                        const TransferOptions& options, const std::function<absl::Status(const std::string&)>& take) {
  farm::v1::ReadRequest request;
  request.set_digest(blob.digest());
  request.set_offset_bytes(offset);
  WatchedCall call(options);
  std::unique_ptr<grpc::ClientReaderInterface<farm::v1::ReadResponse>> stream = stub.Read(call.context(), request);
  farm::v1::ReadResponse response;
  absl::Status taken;
  bool first = true;
  while (taken.ok() && stream->Read(&response)) {
    call.Moved(response.data().size());
    if (first && response.size_bytes() != blob.size_bytes()) {
      taken = absl::InvalidArgumentError(
          absl::StrCat("it has ", response.size_bytes(), " bytes there, and ", blob.size_bytes(), " were expected"));
      break;
    }
    first = false;
    taken = take(response.data());
  }
  if (!taken.ok()) call.context()->TryCancel();
  const grpc::Status finished = stream->Finish();
  return taken.ok() ? call.Result(finished) : taken;
}

absl::Status DownloadOnce(BlobService::StubInterface& stub, FileStore& store, const Digest& digest, const BlobRef& blob,
                          const TransferOptions& options, bool* progress) {
  absl::StatusOr<std::unique_ptr<StoreWriter>> writer = store.OpenWriter(digest, blob.size_bytes(), kDownloadId);
  while (absl::IsAborted(writer.status())) {
    // Another thread of this process brings it.
    Pause(options, kOtherDownloadPause);
    if (Cancelled(options)) return CancelledStatus();
    if (store.Has(digest)) return absl::OkStatus();
    writer = store.OpenWriter(digest, blob.size_bytes(), kDownloadId);
  }
  if (!writer.ok()) return writer.status();
  if ((*writer)->offset_bytes() < blob.size_bytes()) {
    const absl::Status read = ReadStream(stub, blob, (*writer)->offset_bytes(), options, [&](const std::string& data) {
      absl::Status appended = (*writer)->Append({data.data(), data.size()});
      *progress = *progress || !data.empty();
      if (appended.ok() && options.progress) options.progress((*writer)->offset_bytes());
      return appended;
    });
    if (!read.ok()) return read;
    if ((*writer)->offset_bytes() < blob.size_bytes()) {
      return absl::AbortedError(
          absl::StrCat("the stream ended after ", (*writer)->offset_bytes(), " of ", blob.size_bytes(), " bytes"));
    }
  }
  return (*writer)->Commit();
}

}  // namespace

absl::Status UploadFile(BlobService::StubInterface& stub, Env& env, const std::string& path, const BlobRef& blob,
                        const std::string& upload_id, const TransferOptions& options) {
  absl::StatusOr<std::unique_ptr<ReadableFile>> file = env.OpenForReading(path);
  if (!file.ok()) return file.status();
  if ((*file)->SizeBytes() != blob.size_bytes()) {
    return absl::DataLossError(absl::StrCat(path, " has ", (*file)->SizeBytes(), " bytes, and ", blob.size_bytes(),
                                            " were expected: it changed after it was hashed."));
  }
  uint64_t furthest = 0;
  return WithRetries(options, absl::StrCat("Can't upload ", path, " as ", NameOf(blob)), [&](bool* progress) {
    return UploadOnce(stub, **file, blob, upload_id, options, &furthest, progress);
  });
}

absl::StatusOr<FilePin> DownloadTo(BlobService::StubInterface& stub, FileStore& store, const BlobRef& blob,
                                   const TransferOptions& options) {
  absl::StatusOr<Digest> digest = DigestOf(blob);
  if (!digest.ok()) return digest.status();
  FilePin pin;
  const absl::Status status =
      WithRetries(options, absl::StrCat("Can't download ", NameOf(blob)), [&](bool* progress) -> absl::Status {
        if (!store.Has(*digest)) {
          absl::Status once = DownloadOnce(stub, store, *digest, blob, options, progress);
          if (!once.ok()) return once;
        }
        absl::StatusOr<FilePin> pinned = store.PinFile(*digest);
        // Evicted between commit and pin by another download: bring it again.
        if (absl::IsNotFound(pinned.status()))
          return absl::AbortedError("the cache has no room for all that is fetched");
        if (!pinned.ok()) return pinned.status();
        pin = *std::move(pinned);
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  return pin;
}

absl::StatusOr<std::string> DownloadBytes(BlobService::StubInterface& stub, const BlobRef& blob, uint64_t max_bytes,
                                          const TransferOptions& options) {
  absl::StatusOr<Digest> digest = DigestOf(blob);
  if (!digest.ok()) return digest.status();
  if (blob.size_bytes() > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("The ", NameOf(blob), " has ", blob.size_bytes(), " bytes; at most ", max_bytes, " are taken."));
  }
  std::string bytes;
  const absl::Status status =
      WithRetries(options, absl::StrCat("Can't download ", NameOf(blob)), [&](bool* progress) -> absl::Status {
        absl::Status read = ReadStream(stub, blob, bytes.size(), options, [&](const std::string& data) -> absl::Status {
          if (data.size() > blob.size_bytes() - bytes.size())
            return absl::OutOfRangeError("more bytes came than announced");
          bytes += data;
          *progress = *progress || !data.empty();
          return absl::OkStatus();
        });
        if (!read.ok()) return read;
        if (bytes.size() < blob.size_bytes()) return absl::AbortedError("the stream ended too early");
        if (Digest::Of(bytes) == *digest) return absl::OkStatus();
        bytes.clear();
        return absl::DataLossError("the bytes that came do not hash to its digest");
      });
  if (!status.ok()) return status;
  return bytes;
}

absl::StatusOr<std::vector<BlobRef>> FindMissing(BlobService::StubInterface& stub, const std::vector<BlobRef>& blobs,
                                                 const TransferOptions& options) {
  std::vector<const BlobRef*> unique;
  std::set<std::string> seen;
  for (const BlobRef& blob : blobs) {
    if (seen.insert(blob.digest()).second) unique.push_back(&blob);
  }
  std::vector<BlobRef> missing;
  for (size_t begin = 0; begin < unique.size(); begin += kMaxFindMissing) {
    farm::v1::FindMissingRequest request;
    for (size_t i = begin; i < std::min(unique.size(), begin + kMaxFindMissing); ++i) *request.add_blobs() = *unique[i];
    farm::v1::FindMissingResponse response;
    const absl::Status status = WithRetries(options, "Can't ask which blobs are missing", [&](bool*) {
      WatchedCall call(options);
      return call.Result(stub.FindMissing(call.context(), request, &response));
    });
    if (!status.ok()) return status;
    for (BlobRef& blob : *response.mutable_missing()) missing.push_back(std::move(blob));
  }
  return missing;
}

BlobRef MakeBlobRef(const Digest& digest, uint64_t size_bytes) {
  BlobRef blob;
  blob.set_digest(digest.Bytes());
  blob.set_size_bytes(size_bytes);
  return blob;
}

}  // namespace storyfarm::base
