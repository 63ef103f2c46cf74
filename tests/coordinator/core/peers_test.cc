// Which workers read from which, and who is told that somebody may do so no more.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

TEST(Peers, AGrantNamesWhoElseHasWhatTheDeviceLacks) {
  Harness h;
  const auto connect = [&h](const std::string& node, const std::string& address) {
    farm::v1::Hello hello = h.HelloOf(node);
    hello.set_blob_address(address);
    h.ConnectWith(hello);
  };
  connect("a", "unix:/a");
  h.Submit(Story("j-1", 40, 2));
  h.FinishOne("a");  // the identity: its bank lies at a
  connect("b", "unix:/b");
  h.Advance(kTickMs);
  while (h.holds["b"].empty()) h.FinishOne("a");
  const farm::v1::Grant grant = h.holds["b"].front().grant;
  ASSERT_EQ(grant.work().frames().banks_size(), 1);
  ASSERT_EQ(grant.peers_size(), 1);
  EXPECT_EQ(grant.peers(0).address(), "unix:/a");
  EXPECT_EQ(grant.peers(0).digests(0), grant.work().frames().banks(0).steps(0).digest());
  h.FinishOne("b");
  while (h.holds["b"].empty()) h.FinishOne("a");
  EXPECT_EQ(h.holds["b"].back().grant.peers_size(), 0) << "it lacks nothing any more";
}

// A farm of machines that joined by code.
class JoinedPeersTest : public testing::Test {
 protected:
  JoinedPeersTest() { Ask(ChooseAuthority{0, DigestOf("authority")}); }
  template <typename T>
  void Ask(T input) {
    input.request = ++request_;
    const absl::Status status = h_.Step(std::move(input)).replies.at(0).status;
    EXPECT_TRUE(status.ok()) << status;
  }
  void Join(const std::string& name, farm::v1::MemberKind kind = farm::v1::MEMBER_WORKER) {
    AddMember add;
    add.member.set_member_id("m-" + name);
    add.member.set_kind(kind);
    add.member.set_name(name);
    if (kind == farm::v1::MEMBER_WORKER) add.member.set_node_id(name);
    add.member.add_serials("serial-" + name);
    Ask(add);
  }
  void Connect(const std::string& name, const std::string& host, uint32_t port = 7860) {
    farm::v1::Hello hello = h_.HelloOf(name);
    hello.set_peer_host(host);
    hello.set_peer_port(port);
    hello.set_blob_address("unix:/of-its-own");  // means nothing elsewhere
    h_.ConnectWith(hello, "m-" + name);
  }
  static std::vector<std::string> Strings(const google::protobuf::RepeatedPtrField<std::string>& strings) {
    return {strings.begin(), strings.end()};
  }
  // Peers of the first grant that the node gets, while `other` works.
  farm::v1::Grant FirstGrant(const std::string& node, const std::string& other) {
    h_.Advance(kTickMs);
    while (h_.holds[node].empty()) h_.FinishOne(other);
    return h_.holds[node].front().grant;
  }

  Harness h_;
  uint64_t request_ = 0;
};

TEST_F(JoinedPeersTest, OnesThatJoinedReadFromEachOtherOverTls) {
  Join("a");
  Join("b");
  Connect("a", "192.168.1.7");
  h_.Submit(Story("j-1", 40, 2));
  h_.FinishOne("a");  // the identity: its bank lies at a
  Connect("b", "192.168.1.8");
  const farm::v1::Grant grant = FirstGrant("b", "a");
  ASSERT_EQ(grant.peers_size(), 1);
  EXPECT_EQ(grant.peers(0).address(), "tls:192.168.1.7:7860");
  EXPECT_EQ(grant.peers(0).certificate_host(), "m-a.worker.storyfarm.internal");
}

TEST_F(JoinedPeersTest, OnesThatJoinedAndTheFarmsOwnMachineReadFromTheCoordinatorWhatTheOthersHave) {
  Join("a");
  Connect("a", "192.168.1.7");
  h_.Submit(Story("j-1", 40, 2));
  h_.FinishOne("a");
  farm::v1::Hello hello = h_.HelloOf("here");
  hello.set_blob_address("unix:/here");
  hello.set_peer_port(7860);  // counts for nothing without a certificate
  hello.set_peer_host("192.168.1.1");
  h_.ConnectWith(hello);
  EXPECT_EQ(FirstGrant("here", "a").peers_size(), 0);
}

TEST_F(JoinedPeersTest, OneWithoutAPortOrWithAHostThatIsNoneIsNamedToNobody) {
  for (const auto& [host, port] : std::vector<std::pair<std::string, uint32_t>>{
           {"192.168.1.7", 0}, {"", 7860}, {"a,b", 7860}, {"unix:/x", 7860}, {"192.168.1.7", 65536}}) {
    h_.Restart();
    if (h_.farm().ListMembers().empty()) {
      Join("a");
      Join("b");
    }
    const std::string job = absl::StrCat("j-", ++request_);
    Connect("a", host, port);
    EXPECT_TRUE(h_.welcomes["a"].readers().empty());
    h_.Submit(Story(job, 40, 2));
    h_.FinishOne("a");
    Connect("b", "192.168.1.8");
    EXPECT_EQ(FirstGrant("b", "a").peers_size(), 0) << host << " " << port;
    h_.Cancel(job);
    h_.holds.clear();
  }
}

TEST_F(JoinedPeersTest, ThoseWhoServeKnowAtAnyTimeWhichCertificatesCount) {
  Join("a");
  Join("b");
  Join("ann", farm::v1::MEMBER_USER);
  Connect("a", "192.168.1.7");
  Connect("b", "", 0);  // serves nobody
  EXPECT_THAT(Strings(h_.welcomes["a"].readers()), UnorderedElementsAre("serial-a", "serial-b"));
  EXPECT_TRUE(h_.welcomes["b"].readers().empty());

  Join("c");
  ASSERT_EQ(h_.readers["a"].size(), 1u);
  EXPECT_THAT(Strings(h_.readers["a"][0].added()), ElementsAre("serial-c"));
  Ask(RenewMember{0, "m-c", "serial-c", "second-c", 5});
  ASSERT_EQ(h_.readers["a"].size(), 2u);
  EXPECT_THAT(Strings(h_.readers["a"][1].added()), ElementsAre("second-c"));
  EXPECT_TRUE(h_.readers["a"][1].removed().empty()) << "the one that asked counts until the new one asks";
  Ask(RenewMember{0, "m-c", "second-c", "third-c", 6});
  EXPECT_THAT(Strings(h_.readers["a"][2].removed()), ElementsAre("serial-c"));
  Ask(RemoveMember{0, farm::v1::MEMBER_WORKER, "c"});
  ASSERT_EQ(h_.readers["a"].size(), 4u);
  EXPECT_THAT(Strings(h_.readers["a"][3].removed()), UnorderedElementsAre("second-c", "third-c"));

  // People read nothing there: nobody is told of them.
  Join("bob", farm::v1::MEMBER_USER);
  Ask(RemoveMember{0, farm::v1::MEMBER_USER, "ann"});
  EXPECT_EQ(h_.readers["a"].size(), 4u);
  EXPECT_TRUE(h_.readers["b"].empty());
  // A machine that joins again does so with another certificate.
  AddMember again;
  again.member = h_.farm().ListMembers().at(0);
  ASSERT_EQ(again.member.name(), "a");
  again.member.set_member_id("m-a2");
  again.member.set_serials(0, "second-a");
  h_.Restart();
  Connect("b", "192.168.1.8");
  Ask(again);
  ASSERT_EQ(h_.readers["b"].size(), 1u);
  EXPECT_THAT(Strings(h_.readers["b"][0].removed()), ElementsAre("serial-a"));
  EXPECT_THAT(Strings(h_.readers["b"][0].added()), ElementsAre("second-a"));
}

}  // namespace
}  // namespace storyfarm::coordinator
