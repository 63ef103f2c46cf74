#include "pipeline/device/block_cache.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <vector>

namespace storyfarm::device {
namespace {

constexpr size_t kBlock = kLeastCachedBytes;

TEST(BlockCache, AFreedBlockServesTheNextOneOfExactlyItsSize) {
  BlockCache cache(4 * kBlock);
  void* const first = cache.Take(2 * kBlock);
  std::memset(first, 1, 2 * kBlock);
  cache.GiveBack(first);
  EXPECT_EQ(cache.idle_bytes(), 2 * kBlock);
  void* const other = cache.Take(kBlock);
  EXPECT_NE(other, first);
  void* const again = cache.Take(2 * kBlock);
  EXPECT_EQ(again, first);
  EXPECT_EQ(cache.idle_bytes(), 0u);
  cache.GiveBack(other);
  cache.GiveBack(again);
}

TEST(BlockCache, NoMoreThanTheLimitIsIdleAndTheOldestGoesFirst) {
  BlockCache cache(2 * kBlock);
  std::vector<void*> blocks;
  for (int i = 0; i < 3; ++i) blocks.push_back(cache.Take(kBlock));
  for (void* const block : blocks) cache.GiveBack(block);
  EXPECT_EQ(cache.idle_bytes(), 2 * kBlock);
  void* const newest = cache.Take(kBlock);
  void* const middle = cache.Take(kBlock);
  EXPECT_EQ(newest, blocks[2]);
  EXPECT_EQ(middle, blocks[1]);
  cache.GiveBack(newest);
  cache.GiveBack(middle);
  cache.Empty();
  EXPECT_EQ(cache.idle_bytes(), 0u);
}

TEST(BlockCache, SmallBlocksAndOnesLargerThanTheLimitAreNotKept) {
  BlockCache cache(2 * kBlock);
  void* const small = cache.Take(kBlock - 1);
  void* const large = cache.Take(3 * kBlock);
  cache.GiveBack(small);
  cache.GiveBack(large);
  EXPECT_EQ(cache.idle_bytes(), 0u);
  EXPECT_EQ(cache.Take(0), nullptr);
  cache.GiveBack(nullptr);
}

}  // namespace
}  // namespace storyfarm::device
