#include "tools/bench/farm_load/uploader.h"

#include <grpcpp/client_context.h>

#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"

namespace storyfarm::bench {
namespace {

// Streams that share a connection; the coordinator's agents use a few each, too.
constexpr int kUploadsAConnection = 4;
constexpr size_t kChunkBytes = 512 << 10;  // at most, as blob.proto says

std::string Noise() {
  std::mt19937_64 random(1);
  std::string bytes(kFrameBlobBytes, '\0');
  for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + at, &word, sizeof(word));
  }
  return bytes;
}

}  // namespace

std::string FrameBytes(uint64_t number) {
  static const std::string* const kNoise = new std::string(Noise());
  std::string bytes = *kNoise;
  std::memcpy(bytes.data(), &number, sizeof(number));
  return bytes;
}

farm::v1::BlobRef RefOf(const std::string& bytes) {
  farm::v1::BlobRef blob;
  blob.set_digest(base::Digest::Of(bytes).Bytes());
  blob.set_size_bytes(bytes.size());
  return blob;
}

absl::Status Upload(farm::v1::BlobService::Stub& stub, const farm::v1::BlobRef& blob, const std::string& bytes,
                    const std::string& upload_id) {
  grpc::ClientContext context;
  farm::v1::WriteResponse response;
  const auto writer = stub.Write(&context, &response);
  farm::v1::WriteRequest request;
  *request.mutable_blob() = blob;
  request.set_upload_id(upload_id);
  for (size_t at = 0; at < bytes.size(); at += kChunkBytes) {
    request.set_offset_bytes(at);
    request.set_data(bytes.substr(at, kChunkBytes));
    if (!writer->Write(request)) break;  // Finish says why
    request.Clear();
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

Uploader::Uploader(const FarmProcess& farm, int threads) {
  std::shared_ptr<grpc::Channel> channel;
  for (int i = 0; i < threads; ++i) {
    if (i % kUploadsAConnection == 0) channel = farm.Connect();
    threads_.emplace_back(
        [this, i, stub = farm::v1::BlobService::NewStub(channel)]() mutable { Main(i, std::move(stub)); });
  }
}

void Uploader::Post(uint64_t number, const farm::v1::BlobRef& blob, std::function<void(const absl::Status&)> done) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back({number, blob, std::move(done)});
  }
  changed_.notify_one();
}

void Uploader::Main(int thread, std::unique_ptr<farm::v1::BlobService::Stub> stub) {
  for (;;) {
    Job job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job.done(Upload(*stub, job.blob, FrameBytes(job.number), absl::StrCat("load-", thread)));
  }
}

void Uploader::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace storyfarm::bench
