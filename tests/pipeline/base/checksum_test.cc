#include "pipeline/base/checksum.h"

#include <gtest/gtest.h>

#include <string>

namespace storyfarm::base {
namespace {

TEST(Checksum, IsGmacUnderZeros) {
  // Of nothing: test case 1 of McGrew and Viega, "The Galois/Counter Mode of Operation". The others were computed bit
  // by bit, as SP 800-38D defines GHASH.
  EXPECT_EQ(Checksum(""), 0x61307efacefce258u);
  EXPECT_EQ(Checksum("abc"), 0xc27bcf4d01818225u);
  std::string bytes;
  for (int i = 0; i < 5 * 256; ++i) bytes.push_back(static_cast<char>(i));
  EXPECT_EQ(Checksum(bytes + "x"), 0xc666e452f9396383u);
}

TEST(Checksum, SeesEveryFlippedBit) {
  std::string bytes(200, '\0');
  const uint64_t whole = Checksum(bytes);
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    bytes[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_NE(Checksum(bytes), whole) << bit;
    bytes[bit / 8] ^= static_cast<char>(1 << (bit % 8));
  }
  EXPECT_NE(Checksum(bytes.substr(1)), whole);
}

}  // namespace
}  // namespace storyfarm::base
