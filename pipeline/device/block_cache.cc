#include "pipeline/device/block_cache.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <iterator>
#include <vector>

namespace storyfarm::device {
namespace {

// Never destroyed: tensors of static storage may outlive whatever else is.
BlockCache& ProcessCache() {
  static auto* const cache = new BlockCache;
  return *cache;
}

class TensorAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size_bytes) override {
    void* const block = ProcessCache().Take(size_bytes);
    return {block, block, &Free, c10::DeviceType::CPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void* to, const void* from, size_t size_bytes) const override {
    default_copy_data(to, from, size_bytes);
  }

 private:
  static void Free(void* block) { ProcessCache().GiveBack(block); }
};

}  // namespace

void* BlockCache::Take(size_t size_bytes) {
  if (size_bytes < kLeastCachedBytes) return c10::alloc_cpu(size_bytes);
  void* block = TakeIdle(size_bytes);
  if (block != nullptr) return block;
  try {
    block = c10::alloc_cpu(size_bytes);
  } catch (const c10::Error&) {
    if (idle_bytes() == 0) throw;
    Empty();
    block = c10::alloc_cpu(size_bytes);
  }
  const std::lock_guard lock(mutex_);
  taken_[block] = size_bytes;
  return block;
}

void* BlockCache::TakeIdle(size_t size_bytes) {
  const std::lock_guard lock(mutex_);
  // The newest is the likeliest to lie in a processor's caches.
  const auto found =
      std::find_if(idle_.rbegin(), idle_.rend(), [&](const Idle& idle) { return idle.size == size_bytes; });
  if (found == idle_.rend()) return nullptr;
  void* const block = found->block;
  idle_bytes_ -= size_bytes;
  idle_.erase(std::next(found).base());
  taken_[block] = size_bytes;
  return block;
}

void BlockCache::GiveBack(void* block) {
  std::vector<void*> surplus;
  {
    const std::lock_guard lock(mutex_);
    const auto taken = taken_.find(block);
    if (taken == taken_.end()) {
      surplus.push_back(block);
    } else {
      idle_.push_back({block, taken->second});
      idle_bytes_ += taken->second;
      taken_.erase(taken);
    }
    while (idle_bytes_ > most_idle_bytes_) {
      surplus.push_back(idle_.front().block);
      idle_bytes_ -= idle_.front().size;
      idle_.pop_front();
    }
  }
  for (void* const each : surplus) c10::free_cpu(each);
}

void BlockCache::Empty() {
  std::deque<Idle> idle;
  {
    const std::lock_guard lock(mutex_);
    idle.swap(idle_);
    idle_bytes_ = 0;
  }
  for (const Idle& each : idle) c10::free_cpu(each.block);
}

void BlockCache::LimitIdle(size_t most_idle_bytes) {
  {
    const std::lock_guard lock(mutex_);
    most_idle_bytes_ = most_idle_bytes;
    if (idle_bytes_ <= most_idle_bytes) return;
  }
  Empty();
}

size_t BlockCache::idle_bytes() const {
  const std::lock_guard lock(mutex_);
  return idle_bytes_;
}

void ReuseTensorBlocks(size_t most_idle_bytes) {
  [[maybe_unused]] static const bool installed = (c10::SetCPUAllocator(new TensorAllocator), true);
  ProcessCache().LimitIdle(most_idle_bytes);
}
void ReleaseIdleTensorBlocks() { ProcessCache().Empty(); }

}  // namespace storyfarm::device
