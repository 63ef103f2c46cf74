#include "coordinator/web/sessions.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/faulty_env.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {
namespace {

using testing::HasSubstr;
using testing::Not;

class SessionsTest : public testing::Test {
 protected:
  SessionsTest() { env_.clock_ms = 1'000'000; }
  std::unique_ptr<Sessions> Open() {
    auto sessions = Sessions::Open(&env_, File());
    EXPECT_TRUE(sessions.ok()) << sessions.status();
    return *std::move(sessions);
  }
  std::string File() { return folder_.File("sessions"); }
  void Pass(int64_t seconds) { env_.clock_ms = env_.clock_ms + seconds * 1000; }

  testing_support::TempFolder folder_;
  testing_support::FaultyEnv env_{base::Env::Real()};
};

TEST_F(SessionsTest, ACodeMakesOneSessionWithItsRole) {
  const auto sessions = Open();
  const std::string code = *sessions->DrawCode(farm::v1::ROLE_SUBMITTER);
  const auto login = sessions->Redeem(code);
  ASSERT_TRUE(login.ok()) << login.status();
  EXPECT_EQ(sessions->Find(login->token)->role, farm::v1::ROLE_SUBMITTER);
  EXPECT_FALSE(sessions->Find(code).has_value()) << "a code is no session";

  const auto again = sessions->Redeem(code);
  EXPECT_TRUE(absl::IsPermissionDenied(again.status()));
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("opened before"));
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("storyctl web"));
}

TEST_F(SessionsTest, ACodeIsTooOldAfterTenMinutes) {
  const auto sessions = Open();
  const std::string early = *sessions->DrawCode(farm::v1::ROLE_ADMIN);
  Pass(kCodeSeconds - 1);
  EXPECT_TRUE(sessions->Redeem(early).ok());
  const std::string late = *sessions->DrawCode(farm::v1::ROLE_ADMIN);
  Pass(kCodeSeconds);
  const auto login = sessions->Redeem(late);
  EXPECT_TRUE(absl::IsPermissionDenied(login.status()));
  EXPECT_THAT(std::string(login.status().message()), HasSubstr("older than 10 minutes"));
}

TEST_F(SessionsTest, CodesThatNobodyOpensRunOutAndPass) {
  const auto sessions = Open();
  for (size_t i = 0; i < kCodes; ++i) EXPECT_TRUE(sessions->DrawCode(farm::v1::ROLE_VIEWER).ok());
  const auto one_more = sessions->DrawCode(farm::v1::ROLE_VIEWER);
  EXPECT_TRUE(absl::IsResourceExhausted(one_more.status()));
  Pass(kCodeSeconds);
  EXPECT_TRUE(sessions->DrawCode(farm::v1::ROLE_VIEWER).ok());
}

TEST_F(SessionsTest, ASessionOutlivesARestartAndEndsAfterTwoWeeksOrWhenItIsLoggedOut) {
  std::string kept, ended;
  {
    const auto sessions = Open();
    kept = sessions->Redeem(*sessions->DrawCode(farm::v1::ROLE_VIEWER))->token;
    ended = sessions->Redeem(*sessions->DrawCode(farm::v1::ROLE_ADMIN))->token;
    EXPECT_TRUE(sessions->End(ended).ok());
  }
  const auto sessions = Open();
  EXPECT_EQ(sessions->Find(kept)->role, farm::v1::ROLE_VIEWER);
  EXPECT_FALSE(sessions->Find(ended).has_value());
  Pass(kSessionDays * 24 * 3600);
  EXPECT_FALSE(sessions->Find(kept).has_value());
}

TEST_F(SessionsTest, TheFileTellsNobodyATokenOrACode) {
  const auto sessions = Open();
  const std::string code = *sessions->DrawCode(farm::v1::ROLE_ADMIN);
  const std::string token = sessions->Redeem(code)->token;
  const std::string bytes = *env_.ReadFile(File());
  EXPECT_THAT(bytes, Not(HasSubstr(token)));
  EXPECT_THAT(bytes, Not(HasSubstr(code)));
}

TEST_F(SessionsTest, TheOldestSessionGoesWhereThereAreTooMany) {
  const auto sessions = Open();
  const std::string first = sessions->Redeem(*sessions->DrawCode(farm::v1::ROLE_ADMIN))->token;
  std::string last;
  for (size_t i = 0; i < kSessions; ++i) {
    Pass(kCodeSeconds);
    last = sessions->Redeem(*sessions->DrawCode(farm::v1::ROLE_ADMIN))->token;
  }
  EXPECT_FALSE(sessions->Find(first).has_value());
  EXPECT_TRUE(sessions->Find(last).has_value());
}

TEST_F(SessionsTest, ALoginThatCanNotBeKeptIsRefusedAndItsCodeStaysGood) {
  const auto sessions = Open();
  const std::string code = *sessions->DrawCode(farm::v1::ROLE_ADMIN);
  env_.writable_bytes = 0;
  EXPECT_TRUE(absl::IsResourceExhausted(sessions->Redeem(code).status()));
  env_.writable_bytes = testing_support::FaultyEnv::kUnlimited;
  EXPECT_TRUE(sessions->Redeem(code).ok());
}

TEST_F(SessionsTest, AFileThatHoldsSomethingElseIsNamedWithWhatToDo) {
  for (const char* bytes : {"nonsense\n", "00 1 2\n", "x 1 2 3\n"}) {
    ASSERT_TRUE(env_.WriteFileDurably(File(), bytes).ok());
    const auto sessions = Sessions::Open(&env_, File());
    EXPECT_TRUE(absl::IsDataLoss(sessions.status())) << bytes;
    EXPECT_THAT(std::string(sessions.status().message()), HasSubstr("Delete the file"));
  }
}

}  // namespace
}  // namespace storyfarm::coordinator
