#include "coordinator/core/bitmap.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace storyfarm::coordinator {
namespace {

TEST(Bitmap, FindsTheNextMemberAsASetDoes) {
  std::mt19937_64 random(1);
  for (const size_t size : {1u, 63u, 64u, 65u, 4096u, 4097u, 20000u}) {
    Bitmap bitmap(size);
    std::set<size_t> set;
    for (int i = 0; i < 2000; ++i) {
      const size_t number = random() % size;
      if (random() % 3 == 0) {
        bitmap.Insert(number);
        set.insert(number);
      } else {
        bitmap.Erase(number);
        set.erase(number);
      }
      const size_t from = random() % (size + 1);
      const auto next = set.lower_bound(from);
      ASSERT_EQ(bitmap.Next(from), next == set.end() ? size : *next) << "size " << size << ", from " << from;
    }
  }
}

}  // namespace
}  // namespace storyfarm::coordinator
