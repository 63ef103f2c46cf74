// Whom the farm trusts: the roster over restarts, and what becomes of the work of those who leave it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using testing::HasSubstr;

farm::v1::Member Worker(const std::string& name, const std::string& node_id, const std::string& id = "") {
  farm::v1::Member member;
  member.set_member_id(id.empty() ? "m-" + name : id);
  member.set_kind(farm::v1::MEMBER_WORKER);
  member.set_name(name);
  member.set_node_id(node_id);
  member.add_serials("serial-" + member.member_id());
  return member;
}
farm::v1::Member User(const std::string& name, farm::v1::Role role) {
  farm::v1::Member member = Worker(name, "", "u-" + name);
  member.set_kind(farm::v1::MEMBER_USER);
  member.set_role(role);
  return member;
}

class MembersTest : public testing::Test {
 protected:
  MembersTest() { EXPECT_TRUE(Ask(ChooseAuthority{1, DigestOf("authority")}).ok()); }
  template <typename T>
  absl::Status Ask(T input) {
    input.request = ++request_;
    return h_.Step(std::move(input)).replies.at(0).status;
  }
  absl::Status Add(const farm::v1::Member& member) { return Ask(AddMember{0, member}); }
  // Opens the worker's stream with its certificate.
  uint64_t Connect(const std::string& node, const std::string& member_id) {
    const uint64_t session = 1000 + ++request_;
    h_.session_of[node] = session;
    h_.Step(WorkerConnected{session, h_.HelloOf(node), member_id});
    return session;
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const farm::v1::Member& member : h_.farm().ListMembers()) names.push_back(member.name());
    return names;
  }

  Harness h_;
  uint64_t request_ = 0;
};

TEST_F(MembersTest, AreThereAfterARestartAndInASnapshot) {
  ASSERT_TRUE(Add(Worker("attic", "node-1")).ok());
  ASSERT_TRUE(Add(User("ann", farm::v1::ROLE_VIEWER)).ok());
  ASSERT_TRUE(Ask(RenameMember{0, farm::v1::MEMBER_WORKER, "attic", "cellar"}).ok());
  h_.CheckReplay();
  h_.Restart();
  EXPECT_THAT(Names(), testing::UnorderedElementsAre("cellar", "ann"));
  EXPECT_EQ(h_.farm().AuthorityDigest(), DigestOf("authority"));
}

TEST_F(MembersTest, OneThatIsRemovedTakesItsLimitsAlong) {
  ASSERT_TRUE(Add(Worker("attic", "node-1")).ok());
  LimitNode limit;
  limit.change.set_node("attic");
  limit.change.set_idle_minutes(5);
  ASSERT_TRUE(Ask(limit).ok()) << "also while it is away";
  EXPECT_EQ(h_.farm().ListNodes({h_.now_ms, 0}).at(0).name(), "attic") << "it is told of while it is away";
  EXPECT_EQ(h_.farm().GetNode({h_.now_ms, 0}, "node-1").limits().idle_minutes(), 5u);
  ASSERT_TRUE(Ask(RemoveMember{0, farm::v1::MEMBER_WORKER, "attic"}).ok());
  EXPECT_FALSE(h_.farm().GetNode({h_.now_ms, 0}, "node-1").has_limits());
  h_.CheckReplay();
}

TEST_F(MembersTest, HaveNamesThatNobodyElseOfTheirKindHas) {
  ASSERT_TRUE(Add(Worker("attic", "node-1")).ok());
  EXPECT_THAT(std::string(Add(Worker("attic", "node-2", "m-2")).message()), HasSubstr("taken by another worker"));
  EXPECT_TRUE(Add(User("attic", farm::v1::ROLE_ADMIN)).ok()) << "a person may be called like a machine";
  ASSERT_TRUE(Add(Worker("cellar", "node-2", "m-2")).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Ask(RenameMember{0, farm::v1::MEMBER_WORKER, "cellar", "attic"})));
  EXPECT_TRUE(absl::IsNotFound(Ask(RenameMember{0, farm::v1::MEMBER_WORKER, "barn", "loft"})));
  for (const std::string& bad : {std::string(), std::string(65, 'x'), std::string("a/b"), std::string("a\nb")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Ask(RenameMember{0, farm::v1::MEMBER_WORKER, "cellar", bad}))) << bad;
  }
  h_.CheckReplay();
}

TEST_F(MembersTest, AWorkerIsKnownByItsNameInTheRosterAndByItsOwnNodeIdOnly) {
  ASSERT_TRUE(Add(Worker("attic", "node-1")).ok());
  Connect("node-1", "m-attic");
  ASSERT_EQ(h_.farm().ListNodes({}).size(), 1U);
  EXPECT_EQ(h_.farm().ListNodes({})[0].name(), "attic");
  ASSERT_TRUE(Ask(RenameMember{0, farm::v1::MEMBER_WORKER, "m-attic", "cellar"}).ok());
  EXPECT_EQ(h_.farm().ListNodes({})[0].name(), "cellar");
  const uint64_t other = Connect("node-2", "m-attic");
  EXPECT_TRUE(absl::IsPermissionDenied(h_.closed[other])) << h_.closed[other];
  const uint64_t unknown = Connect("node-3", "m-nobody");
  EXPECT_EQ(h_.closed[unknown].message(), kRemovedFromFarm);
}

TEST_F(MembersTest, TheWorkOfARemovedWorkerGoesElsewhereAtOnceAndItsStreamEnds) {
  ASSERT_TRUE(Add(Worker("attic", "node-1")).ok());
  const uint64_t session = Connect("node-1", "m-attic");
  h_.Submit(Story("j-1", 3));
  EXPECT_EQ(h_.TaskOf("j-1", farm::v1::TASK_FRAME, 0).state(), farm::v1::TASK_GRANTED);
  const int64_t before_ms = h_.now_ms;
  h_.Connect("b", 1);
  ASSERT_TRUE(Ask(RemoveMember{0, farm::v1::MEMBER_WORKER, "attic"}).ok());
  EXPECT_TRUE(absl::IsUnauthenticated(h_.closed[session]));
  EXPECT_GE(h_.HeldTasks("b"), 1U) << "no lease was waited for";
  for (uint32_t panel = 0; panel < 3; ++panel) {
    const farm::v1::TaskStatus task = h_.TaskOf("j-1", farm::v1::TASK_FRAME, panel);
    EXPECT_TRUE(task.state() == farm::v1::TASK_READY || task.node() == "b") << panel;
  }
  EXPECT_EQ(h_.now_ms, before_ms);
  EXPECT_EQ(h_.farm().ListNodes({h_.now_ms, 0}).size(), 1U);
  h_.session_of.erase("node-1");
  h_.holds.erase("node-1");
  h_.RunAll();
  h_.CheckReplay();
}

TEST_F(MembersTest, AWorkerRemovedWhileItIsAwayLosesItsWorkToo) {
  ASSERT_TRUE(Add(Worker("attic", "node-1")).ok());
  Connect("node-1", "m-attic");
  h_.Submit(Story("j-1", 3));
  h_.Restart();  // it has not come back yet
  ASSERT_TRUE(Ask(RemoveMember{0, farm::v1::MEMBER_WORKER, "m-attic"}).ok());
  EXPECT_EQ(h_.TaskOf("j-1", farm::v1::TASK_FRAME, 0).state(), farm::v1::TASK_READY);
  h_.CheckReplay();
}

TEST_F(MembersTest, AMachineThatJoinsAgainTakesItsOwnPlaceAndKeepsItsName) {
  ASSERT_TRUE(Add(Worker("attic", "node-1")).ok());
  const uint64_t session = Connect("node-1", "m-attic");
  ASSERT_TRUE(Ask(DrainNode{0, "attic"}).ok());
  ASSERT_TRUE(Add(Worker("attic", "node-1", "m-new")).ok());
  EXPECT_TRUE(absl::IsAborted(h_.closed[session])) << "its earlier certificate counts no more";
  ASSERT_EQ(h_.farm().ListMembers().size(), 1U);
  EXPECT_EQ(h_.farm().ListMembers()[0].member_id(), "m-new");
  h_.CheckReplay();
}

TEST_F(MembersTest, ARenewedCertificateLeavesTheOneThatAskedForItUntilTheNextTime) {
  ASSERT_TRUE(Add(User("ann", farm::v1::ROLE_ADMIN)).ok());
  const auto serials = [this] {
    const farm::v1::Member member = h_.farm().ListMembers().at(0);
    return std::vector<std::string>(member.serials().begin(), member.serials().end());
  };
  ASSERT_TRUE(Ask(RenewMember{0, "u-ann", "serial-u-ann", "two", 5}).ok());
  EXPECT_EQ(serials(), (std::vector<std::string>{"serial-u-ann", "two"}));
  // The answer was lost; the first one asks again.
  ASSERT_TRUE(Ask(RenewMember{0, "u-ann", "serial-u-ann", "three", 6}).ok());
  EXPECT_EQ(serials(), (std::vector<std::string>{"serial-u-ann", "three"}));
  ASSERT_TRUE(Ask(RenewMember{0, "u-ann", "three", "four", 7}).ok());
  EXPECT_EQ(serials(), (std::vector<std::string>{"three", "four"}));
  EXPECT_TRUE(absl::IsNotFound(Ask(RenewMember{0, "m-bob", "x", "y", 7})));
  h_.CheckReplay();
}

TEST_F(MembersTest, AnotherAuthorityIsTakenOnlyWhereNobodyTrustsTheOneBefore) {
  ASSERT_TRUE(Ask(ChooseAuthority{0, DigestOf("second")}).ok());
  ASSERT_TRUE(Add(User("ann", farm::v1::ROLE_ADMIN)).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Ask(ChooseAuthority{0, DigestOf("third")})));
  EXPECT_TRUE(Ask(ChooseAuthority{0, DigestOf("second")}).ok());
  ASSERT_TRUE(Ask(RemoveMember{0, farm::v1::MEMBER_USER, "ann"}).ok());
  EXPECT_TRUE(Ask(ChooseAuthority{0, DigestOf("third")}).ok());
  h_.CheckReplay();
}

TEST_F(MembersTest, AreBoundedInNumber) {
  Limits limits;
  limits.members = 1;
  h_.Restart(limits);
  ASSERT_TRUE(Add(Worker("attic", "node-1")).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Add(Worker("cellar", "node-2"))));
  EXPECT_TRUE(Add(Worker("attic", "node-1", "m-new")).ok()) << "its own place is there";
}

}  // namespace
}  // namespace storyfarm::coordinator
