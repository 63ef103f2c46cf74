// Blobs of frames on their way to the coordinator, on a few threads. Their bytes follow from a number, so that none is
// kept.
#ifndef STORYFARM_TOOLS_BENCH_FARM_LOAD_UPLOADER_H_
#define STORYFARM_TOOLS_BENCH_FARM_LOAD_UPLOADER_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "farm/v1/blob.grpc.pb.h"
#include "tools/bench/farm_load/farm_process.h"

namespace storyfarm::bench {

inline constexpr size_t kFrameBlobBytes = 256 << 10;  // final latents at 1024x1024

// The bytes of one, and what names them.
std::string FrameBytes(uint64_t number);
farm::v1::BlobRef RefOf(const std::string& bytes);

class Uploader {
 public:
  Uploader(const FarmProcess& farm, int threads);
  ~Uploader() { Stop(); }

  // Uploads FrameBytes(number) and calls `done` on one of its threads. What waits when it stops is not called.
  void Post(uint64_t number, const farm::v1::BlobRef& blob, std::function<void(const absl::Status&)> done);
  void Stop();

 private:
  struct Job {
    uint64_t number;
    farm::v1::BlobRef blob;
    std::function<void(const absl::Status&)> done;
  };
  void Main(int thread, std::unique_ptr<farm::v1::BlobService::Stub> stub);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::deque<Job> jobs_;
  std::vector<std::thread> threads_;
};

// Writes one blob; blocks.
absl::Status Upload(farm::v1::BlobService::Stub& stub, const farm::v1::BlobRef& blob, const std::string& bytes,
                    const std::string& upload_id);

}  // namespace storyfarm::bench

#endif  // STORYFARM_TOOLS_BENCH_FARM_LOAD_UPLOADER_H_
