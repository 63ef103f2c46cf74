#include "pipeline/device/copy_lane.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/ParallelGuard.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "pipeline/device/pinned.h"

namespace storyfarm::device {

namespace {

constexpr uint64_t kChunkBytes = 4 << 20;
// A thread reads 10 GB/s or so out of the page cache; a bus takes 25 to 55.
constexpr int kReaders = 6;

// A page-locked chunk on its way. For one thread.
class Chunk {
 public:
  explicit Chunk(c10::Device device) : device_(device), host_(kChunkBytes) {}
  ~Chunk() {
    try {
      if (sent_) arrived_.synchronize();
    } catch (const std::exception&) {  // the device failed: nothing is under way
    }
  }
  // `bytes` of `to` from `offset` on, with what `read` gives for them.
  absl::Status Pass(const at::Tensor& to, uint64_t offset, uint64_t bytes, const CopyLane::Read& read,
                    const c10::Stream& stream) {
    if (sent_) arrived_.synchronize();
    if (absl::Status status = read(offset, {host_.bytes(), bytes}); !status.ok()) return status;
    const c10::DeviceGuard device(device_);
    const c10::StreamGuard guard(stream);
    const auto size = static_cast<int64_t>(bytes);
    to.narrow(0, static_cast<int64_t>(offset), size)
        .copy_(at::from_blob(host_.bytes(), {size}, at::kByte), /*non_blocking=*/true);
    arrived_.record(stream);
    sent_ = true;
    return absl::OkStatus();
  }

 private:
  const c10::Device device_;
  PinnedBuffer host_;
  c10::Event arrived_{at::kCUDA};
  bool sent_ = false;
};

}  // namespace

struct CopyLane::Queue {
  explicit Queue(c10::Device of) : device(of), backend(of.type()), stream(backend.getStreamFromGlobalPool(of)) {}

  // Of all pieces' chunks, each kReaders-th is one reader's, in two buffers by turns: one is filled while the other is
  // copied.
  void ReadEvery(int reader, const std::vector<Piece>& pieces) {
    const c10::InferenceMode inference;
    int number = 0, turn = 0;
    for (const Piece& piece : pieces) {
      const auto total = static_cast<uint64_t>(piece.to.numel());
      for (uint64_t offset = 0; offset < total && !failed; offset += kChunkBytes) {
        if (number++ % kReaders != reader) continue;
        Chunk& chunk = *chunks[static_cast<size_t>(2 * reader + turn)];
        turn = 1 - turn;
        const absl::Status status =
            chunk.Pass(piece.to, offset, std::min(kChunkBytes, total - offset), piece.read, stream);
        TORCH_CHECK(status.ok(), std::string(status.message()));
      }
    }
  }

  std::vector<std::unique_ptr<Chunk>> chunks;  // from the first Fetch on
  std::atomic<bool> failed = false;

  c10::Device device;
  c10::impl::VirtualGuardImpl backend;
  c10::Stream stream;
  std::mutex mutex;
  std::optional<c10::Event> readers;  // under the mutex
};

CopyLane::CopyLane(c10::Device device) {
  if (device.is_cuda()) queue_ = std::make_unique<Queue>(device);
}
CopyLane::~CopyLane() = default;

void CopyLane::MarkReaders() {
  if (queue_ == nullptr) return;
  const std::lock_guard lock(queue_->mutex);
  queue_->readers.emplace(queue_->device.type());
  queue_->readers->record(queue_->backend.getStream(queue_->device));
}

void CopyLane::WaitForReaders() {
  if (queue_ == nullptr) return;
  std::optional<c10::Event> readers;
  {
    const std::lock_guard lock(queue_->mutex);
    readers = std::move(queue_->readers);
    queue_->readers.reset();
  }
  if (readers) readers->synchronize();
}

void CopyLane::Run(const std::function<void()>& copies) {
  // The computing thread has all of the plan's threads at work; a second team of as many would only get in its way.
  const c10::ParallelGuard alone(true);
  if (queue_ == nullptr) return copies();
  const c10::StreamGuard guard(queue_->stream);
  try {
    copies();
  } catch (...) {
    queue_->stream.synchronize();  // what is under way reads and writes what goes now
    throw;
  }
  queue_->stream.synchronize();
}

void CopyLane::Fetch(const std::vector<Piece>& pieces) {
  while (queue_->chunks.size() < 2 * kReaders) queue_->chunks.push_back(std::make_unique<Chunk>(queue_->device));
  std::exception_ptr thrown;
  std::mutex mutex;
  const auto read_every = [&](int reader) {
    try {
      queue_->ReadEvery(reader, pieces);
    } catch (...) {
      const std::lock_guard lock(mutex);
      thrown = std::current_exception();
      queue_->failed = true;
    }
  };
  std::vector<std::thread> readers;
  for (int reader = 1; reader < kReaders; ++reader) readers.emplace_back(read_every, reader);
  read_every(0);
  for (std::thread& reader : readers) reader.join();
  queue_->failed = false;
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace storyfarm::device
