#include "coordinator/rpc/join_desk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/faulty_env.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::MEMBER_USER;
using farm::v1::MEMBER_WORKER;
using testing::HasSubstr;

class JoinDeskTest : public testing::Test {
 protected:
  JoinDeskTest() { env_.clock_ms = 1'000'000; }
  std::string Open() { return desk_.Open({MEMBER_WORKER, "attic", farm::v1::ROLE_UNSPECIFIED}).value(); }
  absl::Status Take(const std::string& secret, const base::Digest& key, const std::string& host = "ipv4:10.0.0.2") {
    return desk_.Take(secret, MEMBER_WORKER, key, host).status();
  }
  const base::Digest key_ = base::Digest::Of("key"), other_key_ = base::Digest::Of("other");
  testing_support::FaultyEnv env_{base::Env::Real()};
  JoinDesk desk_{&env_};
};

TEST_F(JoinDeskTest, ACodeIsGoodOnce) {
  const std::string secret = Open();
  const auto taken = desk_.Take(secret, MEMBER_WORKER, key_, "h");
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->offer.name, "attic");
  EXPECT_THAT(std::string(Take(secret, other_key_).message()), HasSubstr("being used"));
  farm::v1::JoinResponse answer;
  answer.set_certificate_pem("certificate");
  desk_.Settle(secret, key_, answer);
  const absl::Status used = Take(secret, other_key_);
  EXPECT_TRUE(absl::IsFailedPrecondition(used));
  EXPECT_THAT(std::string(used.message()),
              HasSubstr("has been used; each is good once. Ask for a new one: storyctl worker add"));
}

TEST_F(JoinDeskTest, WhoeverUsedItMayAskForTheAnswerThatWasLost) {
  const std::string secret = Open();
  ASSERT_TRUE(Take(secret, key_).ok());
  farm::v1::JoinResponse answer;
  answer.set_certificate_pem("certificate");
  desk_.Settle(secret, key_, answer);
  const auto again = desk_.Take(secret, MEMBER_WORKER, key_, "h");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->answered);
  EXPECT_EQ(again->answer.certificate_pem(), "certificate");
  env_.clock_ms += kCodeMs;
  EXPECT_FALSE(Take(secret, key_).ok()) << "and no longer than the code's own time";
}

TEST_F(JoinDeskTest, ACodeThatCameToNothingMayBeUsedAgain) {
  const std::string secret = Open();
  ASSERT_TRUE(Take(secret, key_).ok());
  desk_.Return(secret);
  EXPECT_TRUE(Take(secret, other_key_).ok());
}

TEST_F(JoinDeskTest, ACodeEndsAfterAQuarterOfAnHour) {
  const std::string secret = Open();
  env_.clock_ms += kCodeMs - 1;
  EXPECT_TRUE(Take(secret, key_).ok());
  desk_.Return(secret);
  env_.clock_ms += 2 * 60'000;
  const absl::Status old = Take(secret, key_);
  EXPECT_TRUE(absl::IsDeadlineExceeded(old));
  EXPECT_THAT(std::string(old.message()), HasSubstr("This code is 16 minutes old; each is good for 15. Ask for a new one: storyctl worker add"));
  env_.clock_ms += kRememberedMs;
  EXPECT_TRUE(absl::IsNotFound(Take(secret, key_)));
}

TEST_F(JoinDeskTest, ACodeForAPersonIsNoneForAMachine) {
  const std::string secret = desk_.Open({MEMBER_USER, "ann", farm::v1::ROLE_VIEWER}).value();
  EXPECT_THAT(std::string(Take(secret, key_).message()), HasSubstr("for a user, not for a worker"));
  EXPECT_TRUE(desk_.Take(secret, MEMBER_USER, key_, "h").ok());
}

TEST_F(JoinDeskTest, WrongCodesAreLimitedForEachHostAndAGoodOneStillCounts) {
  const std::string secret = Open();
  for (int i = 0; i < kWrongAMinute; ++i) {
    EXPECT_TRUE(absl::IsNotFound(Take("wrong", key_)));
  }
  const absl::Status enough = Take("wrong", key_);
  EXPECT_TRUE(absl::IsResourceExhausted(enough));
  EXPECT_THAT(std::string(enough.message()), HasSubstr("try again in a minute"));
  EXPECT_TRUE(absl::IsNotFound(Take("wrong", key_, "ipv4:10.0.0.3")));
  EXPECT_TRUE(Take(secret, key_).ok());
  env_.clock_ms += 60'000;
  EXPECT_TRUE(absl::IsNotFound(Take("wrong", key_)));
}

TEST_F(JoinDeskTest, CodesAreBoundedInNumber) {
  for (size_t i = 0; i < kMostCodes; ++i) Open();
  EXPECT_TRUE(absl::IsResourceExhausted(desk_.Open({MEMBER_WORKER, "", farm::v1::ROLE_UNSPECIFIED}).status()));
  env_.clock_ms += kRememberedMs;
  EXPECT_TRUE(desk_.Open({MEMBER_WORKER, "", farm::v1::ROLE_UNSPECIFIED}).ok());
}

}  // namespace
}  // namespace storyfarm::coordinator
