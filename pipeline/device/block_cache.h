// The memory of tensors on a processor, used again.
//
// A UNet makes tensors of the same sizes over and over. Fresh pages of the system for each of them cost a small model a
// third of its time; what the C library keeps for itself, between blocks that are in use, keeps no planner's promise.
// So freed blocks wait for the next tensor of exactly their size, as many as fit a limit, and go back to the system
// else.
#ifndef STORYFARM_PIPELINE_DEVICE_BLOCK_CACHE_H_
#define STORYFARM_PIPELINE_DEVICE_BLOCK_CACHE_H_

#include <cstddef>
#include <deque>
#include <mutex>
#include <unordered_map>

namespace storyfarm::device {

// Smaller blocks are the C library's.
inline constexpr size_t kLeastCachedBytes = 128 << 10;

// Of any threads.
class BlockCache {
 public:
  explicit BlockCache(size_t most_idle_bytes = 0) : most_idle_bytes_(most_idle_bytes) {}
  ~BlockCache() { Empty(); }

  // A block for a tensor, aligned as torch's are. c10::Error where there is no memory, also without idle blocks.
  void* Take(size_t size_bytes);
  // What Take gave, once it is used.
  void GiveBack(void* block);
  // Idle blocks go to the system.
  void Empty();
  void LimitIdle(size_t most_idle_bytes);
  size_t idle_bytes() const;

 private:
  struct Idle {
    void* block;
    size_t size;
  };
  // Null: there is none of this size.
  void* TakeIdle(size_t size_bytes);

  mutable std::mutex mutex_;  // guards the rest
  size_t most_idle_bytes_;
  std::unordered_map<void*, size_t> taken_;
  std::deque<Idle> idle_;  // the oldest first
  size_t idle_bytes_ = 0;
};

// From now on all tensors of this process on a processor come from one cache; what it keeps idle is given here, too.
void ReuseTensorBlocks(size_t most_idle_bytes);
void ReleaseIdleTensorBlocks();

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_BLOCK_CACHE_H_
