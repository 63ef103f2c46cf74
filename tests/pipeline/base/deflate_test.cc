#include "pipeline/base/deflate.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace storyfarm::base {
namespace {

std::string Prose() {
  std::string text;
  for (int i = 0; i < 500; ++i) absl::StrAppend(&text, "A girl with black hair walks past house ", i * i, ". ");
  return text;
}

TEST(Deflate, GivesBackWhatItMadeSmaller) {
  const std::string text = Prose();
  const std::string deflated = Deflate(text);
  EXPECT_LT(deflated.size(), text.size() / 4);
  EXPECT_EQ(*Inflate(deflated, text.size()), text);
}

TEST(Deflate, TakesAnyBytesAndNone) {
  std::string bytes;
  for (uint32_t i = 0; i < 5000; ++i) bytes.push_back(static_cast<char>(i * 2654435761u >> 24));
  EXPECT_EQ(*Inflate(Deflate(bytes), bytes.size()), bytes);
  EXPECT_EQ(*Inflate(Deflate(""), 0), "");
}

TEST(Deflate, FindsWhatIsCutOffDrawnOutOrOfAnotherLength) {
  const std::string text = Prose();
  const std::string deflated = Deflate(text);
  for (size_t size = 0; size < deflated.size(); size += 7) {
    EXPECT_TRUE(absl::IsDataLoss(Inflate(deflated.substr(0, size), text.size()).status())) << size;
  }
  EXPECT_TRUE(absl::IsDataLoss(Inflate(deflated + "x", text.size()).status()));
  EXPECT_TRUE(absl::IsDataLoss(Inflate(deflated, text.size() - 1).status()));
  EXPECT_TRUE(absl::IsDataLoss(Inflate(deflated, text.size() + 1).status()));
  EXPECT_TRUE(absl::IsDataLoss(Inflate("this was never deflated", 23).status()));
}

}  // namespace
}  // namespace storyfarm::base
