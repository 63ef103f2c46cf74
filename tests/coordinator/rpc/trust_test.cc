// Other machines: how they join, what a role may do, and what becomes of those who leave. Over real TLS on loopback.
#include <google/protobuf/descriptor.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/rpc/access.h"
#include "coordinator/rpc/authority.h"
#include "farm/v1/join.grpc.pb.h"
#include "farm/v1/trust.grpc.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/base/farm_channel.h"
#include "pipeline/base/join_client.h"
#include "pipeline/base/join_code.h"
#include "pipeline/base/membership.h"
#include "pipeline/base/places.h"
#include "tests/coordinator/rpc/scripted_worker.h"
#include "tests/coordinator/rpc/test_farm.h"
#include "tests/support/faulty_env.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::MEMBER_USER;
using farm::v1::MEMBER_WORKER;
using farm::v1::ROLE_ADMIN;
using farm::v1::ROLE_SUBMITTER;
using farm::v1::ROLE_UNSPECIFIED;
using farm::v1::ROLE_VIEWER;
using testing::HasSubstr;

constexpr char kNodeId[] = "0123456789abcdef0123456789abcdef";

// Nothing takes so long; a call that hangs fails the test instead.
std::chrono::system_clock::time_point Soon() { return std::chrono::system_clock::now() + std::chrono::seconds(20); }

struct Method {
  std::string path;
  bool joins = false;  // of the server that asks for no certificate
};

// Every method of every service under proto/, by its descriptor: a new one is here by itself.
std::vector<Method> AllMethods() {
  namespace pb = google::protobuf;
  const std::string root = std::string(STORYFARM_SOURCE_DIR) + "/proto";
  std::vector<Method> methods;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.path().extension() != ".proto") continue;
    const auto text = base::Env::Real().ReadFile(entry.path().string());
    EXPECT_TRUE(text.ok()) << text.status();
    if (!absl::StrContains(text.value_or(""), "\nservice ")) continue;
    const pb::FileDescriptor* file =
        pb::DescriptorPool::generated_pool()->FindFileByName(std::filesystem::relative(entry.path(), root).string());
    EXPECT_NE(file, nullptr) << entry.path() << " has a service that this test is not linked with";
    for (int s = 0; file != nullptr && s < file->service_count(); ++s) {
      const pb::ServiceDescriptor& service = *file->service(s);
      for (int m = 0; m < service.method_count(); ++m) {
        methods.push_back({absl::StrCat("/", service.full_name(), "/", service.method(m)->name()),
                           service.full_name() == "farm.v1.JoinService"});
      }
    }
  }
  return methods;
}

// Calls a method with an empty message, whatever it is.
grpc::Status CallEmpty(const std::shared_ptr<grpc::Channel>& channel, const std::string& path) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(Soon());
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, path, &queue);
  const auto wait = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return ok;
  };
  call->StartCall(nullptr);
  if (wait()) {
    grpc::Slice nothing;
    call->WriteLast(grpc::ByteBuffer(&nothing, 1), grpc::WriteOptions(), nullptr);
    wait();
  }
  grpc::ByteBuffer read;
  bool more = true;
  while (more) {
    call->Read(&read, nullptr);
    more = wait();
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  wait();
  return status;
}

class TrustTest : public testing::Test {
 protected:
  TrustTest() {
    ServerOptions options;
    options.network = "127.0.0.1:0";
    const absl::Status started = farm_.Start(options);
    EXPECT_TRUE(started.ok()) << started;
    owner_ = farm::v1::TrustService::NewStub(farm_.Connect().channel);
    target_ = absl::StrCat("tls:127.0.0.1:", farm_.server().ports().network);
  }

  grpc::Status Invite(farm::v1::MemberKind kind, const std::string& name, farm::v1::Role role, std::string* code) {
    farm::v1::InviteRequest request;
    request.set_kind(kind);
    request.set_name(name);
    request.set_role(role);
    farm::v1::InviteResponse response;
    grpc::ClientContext context;
    const grpc::Status status = owner_->Invite(&context, request, &response);
    *code = response.code();
    return status;
  }
  std::string Code(farm::v1::MemberKind kind, const std::string& name, farm::v1::Role role = ROLE_UNSPECIFIED) {
    std::string code;
    const grpc::Status status = Invite(kind, name, role, &code);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return code;
  }
  std::string Folder(const std::string& name) const { return members_.File(name); }
  absl::StatusOr<base::Joined> JoinWith(const std::string& code, const std::string& name, farm::v1::MemberKind kind,
                                        const std::string& node_id = kNodeId) {
    base::JoinOptions options;
    options.code = code;
    options.kind = kind;
    options.name = name;
    if (kind == MEMBER_WORKER) options.node_id = node_id;
    options.trust_folder = Folder(name);
    return base::JoinFarm(env_, options);
  }
  void MustJoin(const std::string& name, farm::v1::MemberKind kind, farm::v1::Role role = ROLE_UNSPECIFIED) {
    const auto joined = JoinWith(Code(kind, name, role), name, kind);
    ASSERT_TRUE(joined.ok()) << joined.status();
    EXPECT_EQ(joined->member.name(), name);
    EXPECT_EQ(joined->farm, target_);
  }
  std::shared_ptr<grpc::Channel> As(const std::string& name) const {
    return base::FarmChannel(target_, Folder(name), Client::Arguments());
  }
  void Remove(farm::v1::MemberKind kind, const std::string& name) {
    farm::v1::RemoveMemberRequest request;
    request.set_kind(kind);
    request.set_member(name);
    farm::v1::Member response;
    grpc::ClientContext context;
    const grpc::Status status = owner_->RemoveMember(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  std::vector<farm::v1::Member> Members() {
    farm::v1::ListMembersResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(owner_->ListMembers(&context, {}, &response).ok());
    return {response.members().begin(), response.members().end()};
  }
  static std::string Said(const absl::Status& status) { return std::string(status.message()); }

  testing_support::TempFolder members_;
  testing_support::FaultyEnv env_{base::Env::Real()};
  TestFarm farm_;
  std::unique_ptr<farm::v1::TrustService::Stub> owner_;
  std::string target_;
};

// ---- Who may call what --------------------------------------------------------------------------------------------

TEST(Access, EveryMethodOfEveryServiceHasARowAndEveryRowAMethod) {
  std::vector<std::string> wanted = {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"};
  for (const Method& method : AllMethods()) {
    if (!method.joins) wanted.push_back(method.path);
  }
  std::sort(wanted.begin(), wanted.end());
  std::vector<std::string> rows;
  for (const AccessRow& row : AccessTable()) rows.emplace_back(row.method);
  EXPECT_EQ(rows, wanted);
}

TEST_F(TrustTest, NobodyWithoutACertificateOfTheFarmGetsAnAnswerFromAnyMethod) {
  // The same farm's authority in the folder, and a certificate of another one: as somebody would who knows the farm.
  const base::Authority foreign = base::NewAuthority(env_.NowUnixMs()).value();
  base::Membership stranger;
  stranger.authority_pem =
      FarmAuthority::Open(env_, base::TrustFolder(farm_.folder())).value().certificate_pem();
  stranger.key_pem = base::NewKey().value();
  base::CertificateTerms terms;
  terms.host = base::kCoordinatorHost;
  terms.subject = "stranger";
  terms.now_unix_ms = env_.NowUnixMs();
  stranger.certificate_pem =
      base::IssueCertificate(foreign, base::NewSigningRequest(stranger.key_pem).value(), terms).value().pem;
  ASSERT_TRUE(base::SaveMembership(env_, Folder("stranger"), stranger).ok());

  const auto plain = grpc::CreateCustomChannel(base::AddressesOf(target_), grpc::InsecureChannelCredentials(),
                                               Client::Arguments());
  grpc::SslCredentialsOptions no_certificate;
  no_certificate.pem_root_certs = stranger.authority_pem;
  grpc::ChannelArguments arguments = Client::Arguments();
  arguments.SetString(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, base::kCoordinatorHost);
  const auto without =
      grpc::CreateCustomChannel(base::AddressesOf(target_), grpc::SslCredentials(no_certificate), arguments);
  for (const Method& method : AllMethods()) {
    for (const auto& channel : {plain, without, As("stranger")}) {
      const grpc::Status status = CallEmpty(channel, method.path);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << method.path << ": " << status.error_message();
    }
  }
}

TEST_F(TrustTest, EachMethodAnswersThoseOnlyThatItsRowNames) {
  MustJoin("viewer", MEMBER_USER, ROLE_VIEWER);
  MustJoin("submitter", MEMBER_USER, ROLE_SUBMITTER);
  MustJoin("admin", MEMBER_USER, ROLE_ADMIN);
  MustJoin("worker", MEMBER_WORKER);
  const struct {
    std::string name;
    farm::v1::Role role;
  } callers[] = {
      {"viewer", ROLE_VIEWER}, {"submitter", ROLE_SUBMITTER}, {"admin", ROLE_ADMIN}, {"worker", ROLE_UNSPECIFIED}};
  const uint64_t before = farm_.disk().log_bytes();
  for (const auto& caller : callers) {
    const auto channel = As(caller.name);
    for (const AccessRow& row : AccessTable()) {
      const std::string path = row.method;
      // What would wait, or change the caller's own certificate.
      if (path.find("Health/Watch") != std::string::npos) continue;
      const bool may = caller.role == ROLE_UNSPECIFIED ? row.workers
                                                       : row.least != ROLE_UNSPECIFIED && caller.role >= row.least;
      const grpc::Status status = CallEmpty(channel, path);
      EXPECT_EQ(status.error_code() != grpc::StatusCode::PERMISSION_DENIED, may)
          << caller.name << " " << path << ": " << status.error_message();
      EXPECT_NE(status.error_code(), grpc::StatusCode::UNAVAILABLE)
          << caller.name << " " << path << ": " << status.error_message();
    }
    if (caller.role == ROLE_VIEWER) {
      EXPECT_EQ(farm_.disk().log_bytes(), before) << "a viewer changed something";
    }
  }
  const grpc::Status joins = CallEmpty(As("admin"), "/farm.v1.JoinService/Join");
  EXPECT_EQ(joins.error_code(), grpc::StatusCode::UNIMPLEMENTED) << "joining is on a server of its own";
}

TEST_F(TrustTest, ARoleThatIsTooSmallIsToldWhatItTakes) {
  MustJoin("ann", MEMBER_USER, ROLE_VIEWER);
  const grpc::Status status = CallEmpty(As("ann"), "/farm.v1.ClientService/CancelJob");
  EXPECT_THAT(status.error_message(), HasSubstr("ann is a viewer of this farm, and this takes the role submitter"));
}

TEST_F(TrustTest, OnTheFarmsOwnMachineNothingIsInTheWay) {
  for (const Method& method : AllMethods()) {
    if (method.path == "/farm.v1.ClientService/WatchJob" || method.joins) continue;
    const grpc::Status status = CallEmpty(farm_.Connect().channel, method.path);
    EXPECT_NE(status.error_code(), grpc::StatusCode::PERMISSION_DENIED) << method.path;
    EXPECT_NE(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << method.path;
  }
}

// ---- Joining ------------------------------------------------------------------------------------------------------

TEST_F(TrustTest, AMachineThatJoinedDrawsForTheFarmOverMutualTls) {
  MustJoin("attic", MEMBER_WORKER);
  Client owner = farm_.Connect();
  owner.AddTinyModel();
  const std::string job = owner.MustSubmit("k1");
  ScriptedWorker worker(Client(As("attic")), kNodeId);
  EXPECT_EQ(owner.WatchToTheEnd(job).back().state(), farm::v1::JOB_DONE);
  farm::v1::ListNodesResponse nodes;
  grpc::ClientContext context;
  ASSERT_TRUE(owner.farm->ListNodes(&context, {}, &nodes).ok());
  ASSERT_EQ(nodes.nodes_size(), 1);
  EXPECT_EQ(nodes.nodes(0).name(), "attic") << "as the roster calls it";
}

TEST_F(TrustTest, KeysAreTheirOwnersAlone) {
  MustJoin("attic", MEMBER_WORKER);
  const std::string trust = base::TrustFolder(farm_.folder());
  for (const std::string& key :
       {base::AuthorityKeyFile(trust), base::OwnKeyFile(trust), base::OwnKeyFile(Folder("attic"))}) {
    struct stat info {};
    ASSERT_EQ(stat(key.c_str(), &info), 0) << key;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << key;
  }
}

TEST_F(TrustTest, ACodeThatIsUsedWrongOrForSomethingElseSaysWhatToDo) {
  const std::string code = Code(MEMBER_WORKER, "attic");
  EXPECT_THAT(Said(JoinWith(code, "ann", MEMBER_USER).status()), HasSubstr("run storyfarm-worker --join with it"));
  ASSERT_TRUE(JoinWith(code, "attic", MEMBER_WORKER).ok());
  EXPECT_THAT(Said(JoinWith(code, "attic", MEMBER_WORKER).status()), HasSubstr("This code has been used; each is good once. Ask for a new one: storyctl worker add"));
  farm::v1::JoinCode wrong = base::ReadJoinCode(code).value();
  wrong.set_secret(std::string(base::kJoinSecretBytes, 'w'));
  EXPECT_THAT(Said(JoinWith(base::WriteJoinCode(wrong), "attic", MEMBER_WORKER).status()),
              HasSubstr("This code is none of this farm's"));
  EXPECT_THAT(Said(JoinWith(code.substr(0, 50), "attic", MEMBER_WORKER).status()), HasSubstr("or not all of it"));
}

TEST_F(TrustTest, ACodeOfAnotherFarmTellsNothingToThisOne) {
  farm::v1::JoinCode code = base::ReadJoinCode(Code(MEMBER_WORKER, "attic")).value();
  code.set_authority_digest(std::string(32, 'x'));
  const absl::Status status = JoinWith(base::WriteJoinCode(code), "attic", MEMBER_WORKER).status();
  EXPECT_THAT(Said(status), HasSubstr("is not the farm that made this code"));
  EXPECT_THAT(Said(status), HasSubstr("nothing was sent to it"));
  code = base::ReadJoinCode(Code(MEMBER_WORKER, "cellar")).value();
  code.clear_addresses();
  code.add_addresses("127.0.0.1:1");
  EXPECT_THAT(Said(JoinWith(base::WriteJoinCode(code), "cellar", MEMBER_WORKER).status()),
              HasSubstr("No farm answers at 127.0.0.1:1"));
}

TEST_F(TrustTest, TheNextAddressOfACodeIsTriedWhereOneDoesNotAnswer) {
  farm::v1::JoinCode code = base::ReadJoinCode(Code(MEMBER_WORKER, "attic")).value();
  const std::string good = code.addresses(0);
  code.clear_addresses();
  code.add_addresses("127.0.0.1:1");
  code.add_addresses(good);
  EXPECT_TRUE(JoinWith(base::WriteJoinCode(code), "attic", MEMBER_WORKER).ok());
}

TEST_F(TrustTest, AMachineWhoseClockIsDaysOffIsToldBeforeTheCodeIsUsedUp) {
  const std::string code = Code(MEMBER_WORKER, "attic");
  const int64_t truth_ms = base::Env::Real().NowUnixMs();
  env_.clock_ms = truth_ms - int64_t{3} * 24 * 3600 * 1000;
  EXPECT_THAT(Said(JoinWith(code, "attic", MEMBER_WORKER).status()), HasSubstr("Set the clock that is wrong"));
  env_.clock_ms = truth_ms - int64_t{20} * 3600 * 1000;
  EXPECT_TRUE(JoinWith(code, "attic", MEMBER_WORKER).ok());
  EXPECT_TRUE(base::CheckFarmAccess(env_, target_, Folder("attic"), "").ok()) << "certificates begin two days back";
}

TEST_F(TrustTest, ANameThatIsTakenIsToldAndTheCodeStaysGood) {
  MustJoin("attic", MEMBER_WORKER);
  std::string code;
  const grpc::Status taken = Invite(MEMBER_WORKER, "attic", ROLE_UNSPECIFIED, &code);
  EXPECT_EQ(taken.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_THAT(taken.error_message(), HasSubstr("the name attic is taken by another worker"));
  code = Code(MEMBER_WORKER, "");
  const std::string other_node(32, 'e');
  EXPECT_TRUE(absl::IsAlreadyExists(JoinWith(code, "attic", MEMBER_WORKER, other_node).status()));
  EXPECT_TRUE(JoinWith(code, "cellar", MEMBER_WORKER, other_node).ok());
}

TEST_F(TrustTest, ACertificateOfAnotherFarmIsTold) {
  MustJoin("attic", MEMBER_WORKER);
  TestFarm other;
  ServerOptions options;
  options.network = "127.0.0.1:0";
  ASSERT_TRUE(other.Start(options).ok());
  const std::string target = absl::StrCat("tls:127.0.0.1:", other.server().ports().network);
  const grpc::Status status =
      CallEmpty(base::FarmChannel(target, Folder("attic"), Client::Arguments()), "/farm.v1.ClientService/ListJobs");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(base::IsForeignFarm(status.error_message())) << status.error_message();
  EXPECT_THAT(base::ForeignFarm(target), HasSubstr("join again with a new code"));
}

TEST(Trust, ACoordinatorThatServesItsOwnMachineOnlySaysHowToInviteOthers) {
  TestFarm farm;
  farm.MustStart();
  const auto owner = farm::v1::TrustService::NewStub(farm.Connect().channel);
  farm::v1::InviteRequest request;
  request.set_kind(MEMBER_WORKER);
  farm::v1::InviteResponse response;
  grpc::ClientContext context;
  const grpc::Status status = owner->Invite(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("start it with --network"));
}

// ---- Staying and leaving ------------------------------------------------------------------------------------------

TEST_F(TrustTest, ARemovedMembersCallsEndAtOnceAndLaterOnesAreRefused) {
  MustJoin("ann", MEMBER_USER, ROLE_VIEWER);
  Client owner = farm_.Connect();
  owner.AddTinyModel();
  Client ann(As("ann"));
  farm::v1::GetJobRequest request;
  request.set_job_id(owner.MustSubmit("k1"));
  grpc::ClientContext context;
  context.set_deadline(Soon());
  const auto stream = ann.farm->WatchJob(&context, request);
  farm::v1::JobStatus status;
  ASSERT_TRUE(stream->Read(&status));
  Remove(MEMBER_USER, "ann");
  while (stream->Read(&status)) {
  }
  const grpc::Status ended = stream->Finish();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::UNAUTHENTICATED) << ended.error_message();
  for (const Method& method : AllMethods()) {
    const grpc::Status refused = CallEmpty(ann.channel, method.path);
    EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAUTHENTICATED) << method.path;
    EXPECT_EQ(refused.error_message(), kRemovedFromFarm);
  }
}

TEST_F(TrustTest, ARemovedMachinesStreamEndsAndItsWorkGoesElsewhereAtOnce) {
  MustJoin("attic", MEMBER_WORKER);
  Client owner = farm_.Connect();
  owner.AddTinyModel();
  const std::string job = owner.MustSubmit("k1");
  ScriptedWorker attic(Client(As("attic")), kNodeId, 1);  // then it goes silent with what it holds
  ASSERT_TRUE(attic.WaitForAccepted(1));
  ScriptedWorker other(farm_.target(), "node-b");
  const auto began = std::chrono::steady_clock::now();
  Remove(MEMBER_WORKER, "attic");
  EXPECT_EQ(owner.WatchToTheEnd(job).back().state(), farm::v1::JOB_DONE);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(10)) << "a lease was waited for";
  const grpc::Status ended = attic.WaitForEnd();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::UNAUTHENTICATED) << ended.error_message();
  EXPECT_EQ(ended.error_message(), kRemovedFromFarm);
}

TEST_F(TrustTest, TheRosterIsThereAfterARestartAndTheRemovedStayRemoved) {
  MustJoin("ann", MEMBER_USER, ROLE_VIEWER);
  MustJoin("bob", MEMBER_USER, ROLE_VIEWER);
  Remove(MEMBER_USER, "bob");
  const int port = farm_.server().ports().network;
  farm_.Kill();
  ServerOptions options;
  options.network = absl::StrCat("127.0.0.1:", port);
  const absl::Status started = farm_.Start(options);
  ASSERT_TRUE(started.ok()) << started;
  EXPECT_TRUE(CallEmpty(As("ann"), "/farm.v1.ClientService/ListJobs").ok());
  EXPECT_EQ(CallEmpty(As("bob"), "/farm.v1.ClientService/ListJobs").error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(TrustTest, ACertificateIsRenewedByItselfWhenItsTimeHasCome) {
  MustJoin("ann", MEMBER_USER, ROLE_VIEWER);
  const std::string before = base::LoadMembership(env_, Folder("ann")).value().certificate_pem;
  const auto soon = base::RenewIfDue(env_, Folder("ann"), As("ann"));
  ASSERT_TRUE(soon.ok()) << soon.status();
  EXPECT_FALSE(*soon);
  env_.clock_ms = base::Env::Real().NowUnixMs() + base::kCertificateMs / 2;
  const auto later = base::RenewIfDue(env_, Folder("ann"), As("ann"));
  ASSERT_TRUE(later.ok()) << later.status();
  EXPECT_TRUE(*later);
  const std::string after = base::LoadMembership(env_, Folder("ann")).value().certificate_pem;
  EXPECT_NE(base::SerialOf(after).value(), base::SerialOf(before).value());
  EXPECT_TRUE(CallEmpty(As("ann"), "/farm.v1.ClientService/ListJobs").ok());
  ASSERT_EQ(Members().size(), 1U);
  EXPECT_EQ(Members()[0].serials_size(), 2) << "the one that asked counts until the new one asks";
}

TEST_F(TrustTest, TheCoordinatorRenewsItsOwnCertificateAndKeepsItsKey) {
  const std::string trust = base::TrustFolder(farm_.folder());
  const FarmAuthority authority = FarmAuthority::Open(env_, trust).value();
  const base::Membership before = base::LoadMembership(env_, trust).value();
  EXPECT_FALSE(authority.RenewOwn(env_).value());
  env_.clock_ms = base::Env::Real().NowUnixMs() + base::kCertificateMs / 2;
  EXPECT_TRUE(authority.RenewOwn(env_).value());
  const base::Membership after = base::LoadMembership(env_, trust).value();
  EXPECT_EQ(after.key_pem, before.key_pem);
  EXPECT_GT(base::ReadCertificate(after.certificate_pem)->expires_unix_ms,
            base::ReadCertificate(before.certificate_pem)->expires_unix_ms);
}

TEST_F(TrustTest, ACoordinatorWithoutTheKeyThatItsMembersTrustSaysSo) {
  MustJoin("ann", MEMBER_USER, ROLE_VIEWER);
  farm_.Kill();
  std::filesystem::remove_all(base::TrustFolder(farm_.folder()));
  ServerOptions options;
  options.network = "127.0.0.1:0";
  const absl::Status status = farm_.Start(options);
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
  EXPECT_THAT(Said(status), HasSubstr("storyctl coordinator add"));
  farm_.Kill();
  // For its own machine it still serves, so that the owner can mend it.
  farm_.MustStart();
}

TEST_F(TrustTest, AStandbyGetsTheAuthoritysKeyByTheSameDoor) {
  const auto joined = JoinWith(Code(farm::v1::MEMBER_COORDINATOR, "second"), "second", farm::v1::MEMBER_COORDINATOR);
  ASSERT_TRUE(joined.ok()) << joined.status();
  const auto here = FarmAuthority::Open(env_, base::TrustFolder(farm_.folder()));
  const auto there = FarmAuthority::Open(env_, Folder("second"));
  ASSERT_TRUE(there.ok()) << there.status();
  EXPECT_EQ(there->digest(), here->digest());
  EXPECT_TRUE(there->RenewOwn(env_).value()) << "a certificate that names it a coordinator";
  // A machine or a person never gets it.
  MustJoin("attic", MEMBER_WORKER);
  EXPECT_TRUE(absl::IsNotFound(FarmAuthority::Open(env_, Folder("attic")).status()));
}

}  // namespace
}  // namespace storyfarm::coordinator
