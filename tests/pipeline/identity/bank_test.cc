#include "pipeline/identity/bank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "pipeline/base/env.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::identity {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing_support::TempFolder;

BankOrigin Origin() {
  BankOrigin origin{.identity_frames = 2, .model = "abc"};
  origin.character_key[3] = 0xAB;
  return origin;
}

BankStep Entries(at::ScalarType type) {
  const auto values = [&](int64_t tokens, int64_t channels) {
    return at::arange(2 * tokens * channels, at::kFloat).view({2, tokens, channels}).mul(0.01).to(type);
  };
  return {{{0, 0}, values(3, 4)}, {{0, 1}, values(5, 4)}, {{7, 1}, values(0, 8)}};
}

TEST(Bank, AStepComesBackBitForBitInEveryFormat) {
  const TempFolder temp;
  for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const std::string path = temp.File("bank.safetensors");
    ASSERT_TRUE(WriteBankStep(base::Env::Real(), path, Origin(), 4, Entries(type)).ok());
    const auto read = ReadBankStep(path, Origin(), 4, at::kCPU, type);
    ASSERT_TRUE(read.ok()) << read.status();
    const BankStep wanted = Entries(type);
    ASSERT_EQ(read->size(), wanted.size());
    for (const auto& [place, tensor] : wanted) {
      EXPECT_EQ(read->at(place).scalar_type(), type);
      EXPECT_TRUE(read->at(place).equal(tensor)) << place.first << "/" << place.second;
    }
  }
}

TEST(Bank, AHalfPrecisionBankServesAFloatDevice) {
  const TempFolder temp;
  const std::string path = temp.File("bank.safetensors");
  ASSERT_TRUE(WriteBankStep(base::Env::Real(), path, Origin(), 4, Entries(at::kHalf)).ok());
  const auto read = ReadBankStep(path, Origin(), 4, at::kCPU, at::kFloat);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->at({0, 0}).equal(Entries(at::kHalf).at({0, 0}).to(at::kFloat)));
}

TEST(Bank, WhatDoesNotFitIsNamed) {
  const TempFolder temp;
  const std::string path = temp.File("bank.safetensors");
  ASSERT_TRUE(WriteBankStep(base::Env::Real(), path, Origin(), 4, Entries(at::kFloat)).ok());
  const auto says = [&](const BankOrigin& origin, int step, const char* what) {
    const auto read = ReadBankStep(path, origin, step, at::kCPU, at::kFloat);
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(read.status().message()), AllOf(HasSubstr("bank.safetensors"), HasSubstr(what)));
  };
  says(Origin(), 5, "`step` is \"4\"");
  BankOrigin origin = Origin();
  origin.model = "abd";
  says(origin, 4, "`model`");
  origin = Origin();
  origin.identity_frames = 3;
  says(origin, 4, "`identity_frames`");
  origin = Origin();
  origin.character_key[0] = 1;
  says(origin, 4, "`character_key`");
}

TEST(Bank, EntriesThatNoBankCanHaveAreNamed) {
  const TempFolder temp;
  const std::string path = temp.File("bank.safetensors");
  for (const BankStep& entries : {BankStep{{{0, 2}, at::zeros({2, 1, 4})}}, BankStep{{{0, 0}, at::zeros({3, 1, 4})}},
                                  BankStep{{{0, 0}, at::zeros({2, 4})}}}) {
    ASSERT_TRUE(WriteBankStep(base::Env::Real(), path, Origin(), 4, entries).ok());
    const auto read = ReadBankStep(path, Origin(), 4, at::kCPU, at::kFloat);
    ASSERT_FALSE(read.ok());
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("can't be an entry"));
  }
}

TEST(BankReader, HoldsOneStepAndAnEmptyOneWhereNobodyReads) {
  const TempFolder temp;
  const std::string path = temp.File("bank.safetensors");
  ASSERT_TRUE(WriteBankStep(base::Env::Real(), path, Origin(), 1, Entries(at::kFloat)).ok());
  for (const bool resident : {false, true}) {
    BankReader reader(Origin(), {"", path}, at::kCPU, at::kFloat, resident);
    for (int round = 0; round < 2; ++round) {
      ASSERT_TRUE(reader.Load(0).ok());
      EXPECT_TRUE(reader.entries().empty());
      ASSERT_TRUE(reader.Load(1).ok());
      EXPECT_EQ(reader.entries().size(), 3u);
    }
  }
}

}  // namespace
}  // namespace storyfarm::identity
