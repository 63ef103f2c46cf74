#include "pipeline/base/digest.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/temp_folder.h"

namespace storyfarm::base {
namespace {

// NIST's example values for SHA-256.
constexpr char kOfNothing[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr char kOfAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kOfAMillionAs[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Digest, IsSha256) {
  EXPECT_EQ(Digest::Of("").Hex(), kOfNothing);
  EXPECT_EQ(Digest::Of("abc").Hex(), kOfAbc);
  EXPECT_EQ(Digest::Of("abc").ShortHex(), "ba7816bf8f01");
}

TEST(Digest, IsTheSameHoweverTheBytesCome) {
  Sha256 hasher;
  for (int i = 0; i < 1000; ++i) hasher.Update(std::string(1000, 'a'));
  EXPECT_EQ(hasher.Finish().Hex(), kOfAMillionAs);
  hasher.Update("a");
  hasher.Update("bc");
  EXPECT_EQ(hasher.Finish().Hex(), kOfAbc) << "a finished hasher starts anew";
}

TEST(Digest, GoesThroughBytesAndHex) {
  const Digest digest = Digest::Of("abc");
  EXPECT_EQ(*Digest::FromBytes(digest.Bytes()), digest);
  EXPECT_EQ(*Digest::FromHex(kOfAbc), digest);
  EXPECT_EQ(*Digest::FromHex("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"), digest);
  for (const char* bad : {"", "ba78", "ga7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Digest::FromHex(bad).status())) << bad;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(Digest::FromBytes(std::string(31, 'x')).status()));
  EXPECT_TRUE(Digest().IsZero());
  EXPECT_FALSE(digest.IsZero());
}

TEST(Digest, OfAFileCountsItsBytes) {
  const testing_support::TempFolder folder;
  Env& env = Env::Real();
  const std::string bytes((1 << 20) + 7, 'q');
  ASSERT_TRUE(env.WriteFileDurably(folder.File("f"), bytes).ok());
  const auto hashed = HashFile(env, folder.File("f"));
  ASSERT_TRUE(hashed.ok());
  EXPECT_EQ(hashed->digest, Digest::Of(bytes));
  EXPECT_EQ(hashed->size_bytes, bytes.size());
  EXPECT_TRUE(absl::IsNotFound(HashFile(env, folder.File("g")).status()));
}

}  // namespace
}  // namespace storyfarm::base
