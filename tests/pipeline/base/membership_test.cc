#include "pipeline/base/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "pipeline/base/join_code.h"
#include "tests/support/faulty_env.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::base {
namespace {

using testing::HasSubstr;

constexpr int64_t kDay = int64_t{24} * 3600 * 1000;

Membership Join(const Authority& authority, int64_t now_unix_ms) {
  Membership membership;
  membership.farm = "tls:192.168.1.5:7850";
  membership.authority_pem = authority.certificate_pem;
  membership.key_pem = NewKey().value();
  CertificateTerms terms;
  terms.host = "a.worker.storyfarm.internal";
  terms.subject = "a";
  terms.now_unix_ms = now_unix_ms;
  membership.certificate_pem =
      IssueCertificate(authority, NewSigningRequest(membership.key_pem).value(), terms).value().pem;
  return membership;
}

class MembershipTest : public testing::Test {
 protected:
  MembershipTest() : env_(Env::Real()), folder_(TrustFolder(temp_.path())) { env_.clock_ms = kNow; }
  static constexpr int64_t kNow = 1'795'000'000'000;
  testing_support::TempFolder temp_;
  testing_support::FaultyEnv env_;
  const std::string folder_;
};

TEST_F(MembershipTest, IsKeptWithAKeyThatOnlyItsOwnerMayRead) {
  const Membership joined = Join(NewAuthority(kNow).value(), kNow);
  ASSERT_TRUE(SaveMembership(env_, folder_, joined).ok());
  const auto loaded = LoadMembership(env_, folder_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->farm, joined.farm);
  EXPECT_EQ(loaded->key_pem, joined.key_pem);
  EXPECT_EQ(JoinedFarm(env_, folder_), joined.farm);
  struct stat info {};
  ASSERT_EQ(stat(OwnKeyFile(folder_).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  // Also where a key was there before.
  ASSERT_TRUE(SaveMembership(env_, folder_, Join(NewAuthority(kNow).value(), kNow)).ok());
  ASSERT_EQ(stat(OwnKeyFile(folder_).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(MembershipTest, WhosePartsDoNotBelongTogetherIsTold) {
  const Authority authority = NewAuthority(kNow).value();
  ASSERT_TRUE(SaveMembership(env_, folder_, Join(authority, kNow)).ok());
  ASSERT_TRUE(SaveRenewed(env_, folder_, Join(authority, kNow).certificate_pem).ok());
  EXPECT_THAT(std::string(LoadMembership(env_, folder_).status().message()), HasSubstr("Join again"));
  EXPECT_TRUE(absl::IsNotFound(LoadMembership(env_, temp_.path()).status()));
}

TEST_F(MembershipTest, IsNeededForAFarmOnAnotherMachineOnly) {
  for (const char* here : {"unix:/tmp/s", "127.0.0.1:7850", "localhost:7850", "[::1]:1", "127.0.0.1:1,127.0.0.1:2"}) {
    EXPECT_TRUE(CheckFarmAccess(env_, here, folder_, "storyctl join").ok()) << here;
  }
  for (const char* there : {"192.168.1.5:7850", "studio.local:7850", "tls:127.0.0.1:7850", "127.0.0.1:1,10.0.0.1:2"}) {
    const absl::Status status = CheckFarmAccess(env_, there, folder_, "storyctl join");
    EXPECT_THAT(std::string(status.message()), HasSubstr("run storyctl join here")) << there;
  }
}

TEST_F(MembershipTest, OfAMachineWhoseClockIsWrongOrThatSleptForAYearSaysWhatToDo) {
  ASSERT_TRUE(SaveMembership(env_, folder_, Join(NewAuthority(kNow).value(), kNow)).ok());
  const auto check = [this] { return CheckFarmAccess(env_, "10.0.0.1:7850", folder_, "storyfarm-worker --join"); };
  EXPECT_TRUE(check().ok()) << check();
  env_.clock_ms = kNow - 47 * 3600 * 1000;
  EXPECT_TRUE(check().ok()) << check();
  env_.clock_ms = kNow - 3 * kDay;
  EXPECT_THAT(std::string(check().message()), HasSubstr("set the clock, then try again"));
  env_.clock_ms = kNow + 366 * kDay;
  EXPECT_THAT(std::string(check().message()),
              HasSubstr("set the clock if it is wrong, else run storyfarm-worker --join"));
}

farm::v1::JoinCode SomeCode() {
  farm::v1::JoinCode code;
  code.add_addresses("192.168.1.5:7851");
  code.set_secret(std::string(kJoinSecretBytes, 's'));
  code.set_authority_digest(std::string(32, 'd'));
  code.set_kind(farm::v1::MEMBER_WORKER);
  return code;
}

TEST(JoinCodes, SurviveTheWayFromOneMachineToTheOther) {
  const std::string text = WriteJoinCode(SomeCode());
  EXPECT_LT(text.size(), 140U);
  const std::string folded = "  " + text.substr(0, 40) + "\r\n" + text.substr(40, 30) + " " + text.substr(70) + "\n";
  const auto read = ReadJoinCode(folded);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->SerializeAsString(), SomeCode().SerializeAsString());
}

TEST(JoinCodes, ThatLostALetterAreToldBeforeAnythingIsConnected) {
  const std::string text = WriteJoinCode(SomeCode());
  std::string mistyped = text;
  mistyped[60] = mistyped[60] == 'a' ? 'b' : 'a';
  for (const std::string& bad : {text.substr(0, text.size() - 4), text.substr(5), mistyped, std::string("farm-"),
                                 std::string("hello"), std::string()}) {
    EXPECT_THAT(std::string(ReadJoinCode(bad).status().message()), HasSubstr("copy it from there to its end")) << bad;
  }
}

}  // namespace
}  // namespace storyfarm::base
