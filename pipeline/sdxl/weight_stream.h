// Weights that need not all be there at once: a network's blocks in the order in which a forward pass runs them, some
// resident, the others on their way through a bounded buffer.
//
//   mapped file --(loader thread: read, convert)--> ring of buffer_bytes on the device --> slots of the block's layers
//
// A block that streams is copied in while the blocks before it compute, stays while a layer holds it, and leaves when a
// later streamed block is asked for: who runs one block several times in a row (frames in lock step) pays once. After
// the last block comes the first: the next pass begins where this one did. The numbers are those of resident weights,
// to the last bit.
//
// Which blocks stay: as many as fit `resident_bytes`, spread so that streamed ones lie evenly between them and each has
// the computing of its neighbours to come in.
#ifndef STORYFARM_PIPELINE_SDXL_WEIGHT_STREAM_H_
#define STORYFARM_PIPELINE_SDXL_WEIGHT_STREAM_H_

#include <ATen/ATen.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "pipeline/device/copy_lane.h"
#include "pipeline/model/safetensors.h"
#include "pipeline/sdxl/parameter.h"
#include "pipeline/sdxl/placement.h"

namespace storyfarm::sdxl {

// A tensor over its mapped file, as stored.
struct StoredTensor {
  at::Tensor tensor;
  std::shared_ptr<const model::SafetensorsFile> file;
  uint64_t offset_bytes = 0;  // in the file
};
// In the placement's device, format and order; pages of the file that nothing views any more are given back.
at::Tensor Place(const StoredTensor& stored, const Placement& placement);
// The same of tensors of equal rows, one below the other.
at::Tensor PlaceStack(const std::vector<StoredTensor>& stored, const Placement& placement);

// What a network's blocks take.
struct BlockBytes {
  uint64_t resident = 0;  // kept on the device
  uint64_t streamed = 0;  // copied in by each pass
  uint64_t buffer = 0;    // for those
};

// AddBlock, Add and Start are called while a network is built, then Acquire and Release by the thread that computes.
// What a copy throws, Acquire throws.
class WeightStream {
 public:
  explicit WeightStream(const Placement& placement);
  ~WeightStream();

  // Blocks are added in the order in which a pass runs them; returns the number of the new one.
  size_t AddBlock();
  // `stored`: one tensor, or several of equal rows that become one below the other.
  void Add(size_t block, std::vector<StoredTensor> stored, std::shared_ptr<Parameter::Slot> slot);
  // Once all are added: decides which blocks stay, and fills these. Nothing is copied before the first Acquire.
  void Start();

  // Block `block`'s slots are filled between Acquire and Release.
  void Acquire(size_t block);
  void Release(size_t block);
  // Gives the buffer back until the next Acquire. No block may be held.
  void Park();

  BlockBytes bytes() const { return bytes_; }

 private:
  struct Piece {
    std::vector<StoredTensor> stored;
    std::shared_ptr<Parameter::Slot> slot;
    uint64_t offset_bytes = 0;  // in the block
  };
  struct Block {
    std::vector<Piece> pieces;
    uint64_t bytes = 0;  // in the dtype that computes, each piece aligned
    uint64_t kept = 0;   // as a resident block is kept
    bool resident = true;
    size_t place = 0;  // among the streamed ones
  };
  // A block in the ring.
  struct Loaded {
    size_t block = 0;
    uint64_t offset_bytes = 0;
    bool ready = false;
  };

  void MakeResident(Block& block);
  void Fill(const Block& block, uint64_t offset_bytes);
  static std::vector<int64_t> ShapeOf(const Piece& piece);
  at::Tensor Fetched(const Piece& piece);
  // Each piece to its place on the device, all under way at once.
  void CopyAll(const std::vector<std::pair<const Piece*, at::Tensor>>& places);
  static void Empty(const Block& block);
  std::optional<uint64_t> FreeOffset(uint64_t bytes) const;  // under the mutex
  void PopFront();                                           // under the mutex
  void DropAll(std::unique_lock<std::mutex>& lock);
  void LoadAhead();  // the loader thread
  void StartLoader();
  void StopLoader();

  const Placement placement_;
  std::vector<Block> blocks_;
  std::vector<size_t> streamed_;  // numbers of blocks, in order
  BlockBytes bytes_;
  device::CopyLane lane_;
  at::Tensor ring_;  // uint8 on the device; undefined while parked

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Loaded> loaded_;       // in order; the front is the oldest
  size_t next_ = 0;                 // into streamed_: what is loaded next
  bool copying_ = false;            // the back of loaded_ is being filled
  bool stopping_ = false;
  std::exception_ptr failure_;
  int held_ = 0;                    // Acquires without Release
  std::thread loader_;
};

// The block that layers belong to, kept by them. Empty: of no block, always resident.
class WeightBlock {
 public:
  WeightBlock() = default;
  WeightBlock(std::shared_ptr<WeightStream> stream, size_t number) : stream_(std::move(stream)), number_(number) {}

  class Lease {
   public:
    Lease(WeightStream* stream, size_t number) : stream_(stream), number_(number) {
      if (stream_ != nullptr) stream_->Acquire(number_);
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() {
      if (stream_ != nullptr) stream_->Release(number_);
    }

   private:
    WeightStream* stream_;
    size_t number_;
  };
  // The block's weights are there while the lease lives.
  [[nodiscard]] Lease Hold() const { return Lease(stream_.get(), number_); }

  explicit operator bool() const { return stream_ != nullptr; }
  WeightStream* stream() const { return stream_.get(); }
  size_t number() const { return number_; }

 private:
  std::shared_ptr<WeightStream> stream_;
  size_t number_ = 0;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_WEIGHT_STREAM_H_
