// Workers of different machines read each other's caches: who may, who may no longer, and peers that are no good. Over
// real TLS on loopback.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "pipeline/base/certificates.h"
#include "pipeline/base/env.h"
#include "pipeline/base/farm_channel.h"
#include "pipeline/base/membership.h"
#include "pipeline/base/places.h"
#include "pipeline/base/unique_fd.h"
#include "pipeline/plan/peering.h"
#include "tests/support/eventually.h"
#include "tests/support/temp_folder.h"
#include "worker/agent/blob_server.h"
#include "worker/agent/blob_sources.h"

namespace storyfarm::worker {
namespace {

using farm::v1::BlobService;
using grpc::StatusCode;
using testing::HasSubstr;

// Nothing takes so long; a call that hangs fails the test instead.
std::chrono::system_clock::time_point Soon() { return std::chrono::system_clock::now() + std::chrono::seconds(20); }

farm::v1::Member MemberOf(const std::string& id, farm::v1::MemberKind kind) {
  farm::v1::Member member;
  member.set_member_id(id);
  member.set_kind(kind);
  return member;
}

std::string WorkerHost(const std::string& id) { return plan::MemberHost(MemberOf(id, farm::v1::MEMBER_WORKER)); }

farm::v1::ReadersChanged Added(const std::vector<std::string>& serials) {
  farm::v1::ReadersChanged change;
  for (const std::string& serial : serials) change.add_added(serial);
  return change;
}

class PeersTest : public testing::Test {
 protected:
  PeersTest() : authority_(base::NewAuthority(env_.NowUnixMs()).value()) {
    cache_ = OpenCache("cache");
    MakeMember("server", WorkerHost("server"));
  }
  std::unique_ptr<base::FileStore> OpenCache(const std::string& name) {
    auto cache = base::FileStore::Open(env_, folder_.File(name));
    EXPECT_TRUE(cache.ok()) << cache.status();
    return *std::move(cache);
  }
  std::string Trust(const std::string& name) const { return folder_.File("trust-" + name); }
  // A trust folder of this name; the serial of its certificate. `by`: who signs it, where that is not this farm.
  std::string MakeMember(const std::string& name, const std::string& host, const base::Authority* by = nullptr) {
    base::Membership membership;
    membership.farm = "tls:127.0.0.1:1";
    membership.authority_pem = authority_.certificate_pem;
    membership.key_pem = base::NewKey().value();
    base::CertificateTerms terms;
    terms.host = host;
    terms.subject = name;
    terms.now_unix_ms = env_.NowUnixMs();
    const auto certificate = base::IssueCertificate(by == nullptr ? authority_ : *by,
                                                    base::NewSigningRequest(membership.key_pem).value(), terms);
    EXPECT_TRUE(certificate.ok()) << certificate.status();
    membership.certificate_pem = certificate->pem;
    EXPECT_TRUE(base::SaveMembership(env_, Trust(name), membership).ok());
    return certificate->serial;
  }
  void Serve(absl::Duration stall = absl::Seconds(30)) {
    auto server = BlobServer::StartForMembers(*cache_, "127.0.0.1:0", Trust("server"), stall);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::string Address() const { return absl::StrCat("tls:127.0.0.1:", server_->port()); }
  std::shared_ptr<grpc::Channel> As(const std::string& name, const std::string& host = WorkerHost("server")) const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return base::PeerChannel(Address(), host, Trust(name), arguments);
  }
  // What a caller gets who asks for a blob that is there.
  grpc::Status Ask(const std::shared_ptr<grpc::Channel>& channel) {
    if (!here_.has_value()) here_ = *cache_->Put("a bank");
    const auto stub = BlobService::NewStub(channel);
    grpc::ClientContext context;
    context.set_deadline(Soon());
    farm::v1::ReadRequest request;
    request.set_digest(base::Digest::Of("a bank").Bytes());
    const auto stream = stub->Read(&context, request);
    farm::v1::ReadResponse response;
    std::string bytes;
    while (stream->Read(&response)) bytes += response.data();
    const grpc::Status status = stream->Finish();
    EXPECT_EQ(bytes, status.ok() ? "a bank" : "");
    return status;
  }

  base::Env& env_ = base::Env::Real();
  testing_support::TempFolder folder_;
  base::Authority authority_;
  std::unique_ptr<base::FileStore> cache_;
  std::optional<base::StoredFile> here_;
  std::unique_ptr<BlobServer> server_;
};

TEST_F(PeersTest, OnlyWorkersOfThisFarmThatCountAndItsCoordinatorsReadFromACache) {
  Serve();
  const std::string worker = MakeMember("worker", WorkerHost("worker"));
  MakeMember("removed", WorkerHost("removed"));
  const std::string user = MakeMember("user", plan::MemberHost(MemberOf("user", farm::v1::MEMBER_USER)));
  MakeMember("coordinator", base::kCoordinatorHost);
  const base::Authority other = base::NewAuthority(env_.NowUnixMs()).value();
  const std::string foreign = MakeMember("foreign", WorkerHost("worker"), &other);
  EXPECT_EQ(Ask(As("worker")).error_code(), StatusCode::PERMISSION_DENIED) << "before the coordinator said who may";
  // A user's serial is on no list that a coordinator sends; on one it opens nothing either.
  server_->Admit(true, Added({worker, user, foreign}));
  const struct {
    std::string who;
    StatusCode answer;
  } callers[] = {{"worker", StatusCode::OK},
                 {"coordinator", StatusCode::OK},
                 {"removed", StatusCode::PERMISSION_DENIED},
                 {"user", StatusCode::PERMISSION_DENIED},
                 {"foreign", StatusCode::UNAVAILABLE}};
  for (const auto& caller : callers) {
    const grpc::Status status = Ask(As(caller.who));
    EXPECT_EQ(status.error_code(), caller.answer) << caller.who << ": " << status.error_message();
  }
  const std::string plain = base::AddressesOf(Address());
  EXPECT_EQ(Ask(grpc::CreateChannel(plain, grpc::InsecureChannelCredentials())).error_code(), StatusCode::UNAVAILABLE);
  grpc::SslCredentialsOptions no_certificate;
  no_certificate.pem_root_certs = authority_.certificate_pem;
  grpc::ChannelArguments arguments;
  arguments.SetString(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, WorkerHost("server"));
  EXPECT_EQ(Ask(grpc::CreateCustomChannel(plain, grpc::SslCredentials(no_certificate), arguments)).error_code(),
            StatusCode::UNAVAILABLE);
  EXPECT_EQ(Ask(As("worker", WorkerHost("another"))).error_code(), StatusCode::UNAVAILABLE)
      << "whoever answers must be the one that the coordinator named";
  EXPECT_EQ(server_->given_bytes(), 12u);
}

TEST_F(PeersTest, ACacheIsReadByDigestAndNothingElseIsAnswered) {
  Serve();
  server_->Admit(true, Added({MakeMember("worker", WorkerHost("worker"))}));
  const auto stub = BlobService::NewStub(As("worker"));
  {
    grpc::ClientContext context;
    farm::v1::QueryWriteResponse response;
    EXPECT_EQ(stub->QueryWrite(&context, {}, &response).error_code(), StatusCode::UNIMPLEMENTED);
  }
  {
    grpc::ClientContext context;
    farm::v1::FindMissingResponse response;
    EXPECT_EQ(stub->FindMissing(&context, {}, &response).error_code(), StatusCode::UNIMPLEMENTED);
  }
  for (const std::string& digest : {std::string(), std::string("../../trust/own.key"), std::string(32, 'x'),
                                    std::string(1 << 20, 'x')}) {
    grpc::ClientContext context;
    farm::v1::ReadRequest request;
    request.set_digest(digest);
    const auto stream = stub->Read(&context, request);
    farm::v1::ReadResponse response;
    EXPECT_FALSE(stream->Read(&response));
    const StatusCode code = stream->Finish().error_code();
    EXPECT_EQ(code, digest.size() > 1000 ? StatusCode::RESOURCE_EXHAUSTED : StatusCode::NOT_FOUND);
  }
}

// A read of a large blob, of which one chunk has come.
struct OpenRead {
  OpenRead(const std::shared_ptr<grpc::Channel>& channel, const std::string& digest) : stub(BlobService::NewStub(channel)) {
    context.set_deadline(Soon());
    request.set_digest(digest);
    stream = stub->Read(&context, request);
    began = stream->Read(&response);
  }
  grpc::Status ReadToItsEnd(uint64_t* bytes) {
    while (stream->Read(&response)) *bytes += response.data().size();
    return stream->Finish();
  }
  std::unique_ptr<BlobService::Stub> stub;
  grpc::ClientContext context;
  farm::v1::ReadRequest request;
  farm::v1::ReadResponse response;
  std::unique_ptr<grpc::ClientReader<farm::v1::ReadResponse>> stream;
  bool began = false;
};

// Larger than what gRPC takes ahead of its reader.
constexpr size_t kLargeBytes = size_t{64} << 20;

TEST_F(PeersTest, OneThatIsRemovedReadsNotEvenTheRestOfABlob) {
  Serve();
  server_->Admit(true, Added({MakeMember("worker", WorkerHost("worker")), MakeMember("other", WorkerHost("other"))}));
  const std::string large(kLargeBytes, 'b');
  ASSERT_TRUE(cache_->Put(large).ok());
  OpenRead read(As("worker"), base::Digest::Of(large).Bytes());
  ASSERT_TRUE(read.began);
  farm::v1::ReadersChanged change;
  change.add_removed(base::ReadCertificate(base::LoadMembership(env_, Trust("worker"))->certificate_pem)->serial);
  server_->Admit(false, change);
  uint64_t bytes = 0;
  const grpc::Status status = read.ReadToItsEnd(&bytes);
  EXPECT_EQ(status.error_code(), StatusCode::PERMISSION_DENIED) << status.error_message();
  EXPECT_LT(bytes, kLargeBytes);
  EXPECT_EQ(Ask(As("worker")).error_code(), StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(Ask(As("other")).ok());
  server_->Admit(true, {});  // the coordinator has been away for a lease
  EXPECT_EQ(Ask(As("other")).error_code(), StatusCode::PERMISSION_DENIED);
}

class BusyPeersTest : public PeersTest {
 protected:
  // As many reads as a worker serves, none of which takes what comes.
  void ReadAtMost() {
    server_->Admit(true, Added({MakeMember("worker", WorkerHost("worker"))}));
    const std::string large(kLargeBytes, 'b');
    ASSERT_TRUE(cache_->Put(large).ok());
    const auto channel = As("worker");
    for (int i = 0; i < 8; ++i) {
      reads_.push_back(std::make_unique<OpenRead>(channel, base::Digest::Of(large).Bytes()));
      ASSERT_TRUE(reads_.back()->began);
    }
  }
  std::vector<std::unique_ptr<OpenRead>> reads_;
};

TEST_F(BusyPeersTest, WhoComesWhereManyReadIsToldAtOnce) {
  Serve();
  ReadAtMost();
  const grpc::Status busy = Ask(As("worker"));
  EXPECT_EQ(busy.error_code(), StatusCode::RESOURCE_EXHAUSTED) << busy.error_message();
  for (const auto& read : reads_) read->context.TryCancel();
  EXPECT_TRUE(testing_support::Eventually([this] { return Ask(As("worker")).ok(); }));
}

TEST_F(BusyPeersTest, ThoseWhoAskAndTakeNothingMakeRoom) {
  Serve(absl::Milliseconds(300));
  ReadAtMost();
  EXPECT_TRUE(testing_support::Eventually([this] { return Ask(As("worker")).ok(); }));
  const auto ended = [](const std::unique_ptr<OpenRead>& read) {
    uint64_t bytes = 0;
    return !read->ReadToItsEnd(&bytes).ok();
  };
  EXPECT_TRUE(std::any_of(reads_.begin(), reads_.end(), ended));
}

// ---- Peers that are no good -----------------------------------------------------------------------------------------

// A BlobService that does what a test says with a read.
class Whatever final : public BlobService::Service {
 public:
  using Answer = std::function<grpc::Status(grpc::ServerContext*, grpc::ServerWriter<farm::v1::ReadResponse>*)>;
  grpc::Status Read(grpc::ServerContext* context, const farm::v1::ReadRequest* request,
                    grpc::ServerWriter<farm::v1::ReadResponse>* writer) override {
    ++asked;
    offset_bytes = request->offset_bytes();
    return answer(context, writer);
  }
  Answer answer;
  std::atomic<int> asked = 0;
  std::atomic<uint64_t> offset_bytes = 0;  // of the last one
};

grpc::Status Give(grpc::ServerWriter<farm::v1::ReadResponse>* writer, uint64_t size_bytes, const std::string& data) {
  farm::v1::ReadResponse response;
  response.set_size_bytes(size_bytes);
  response.set_data(data);
  writer->Write(response);
  return grpc::Status::OK;
}

class BadPeersTest : public PeersTest {
 protected:
  BadPeersTest() {
    MakeMember("reader", WorkerHost("reader"));
    coordinator_.answer = [this](grpc::ServerContext*, auto* writer) {
      return Give(writer, bank_.size(), bank_.substr(coordinator_.offset_bytes));
    };
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + folder_.File("c"), grpc::InsecureServerCredentials());
    builder.RegisterService(&coordinator_);
    coordinator_server_ = builder.BuildAndStart();
    stub_ = BlobService::NewStub(grpc::CreateChannel("unix:" + folder_.File("c"), grpc::InsecureChannelCredentials()));
    PeerPatience patience;
    patience.stall = absl::Milliseconds(500);
    patience.left = [this](const farm::v1::Peer&, const absl::Status& why) { left_.push_back(why); };
    sources_ = std::make_unique<BlobSources>(
        *cache_, *stub_,
        [this](const farm::v1::Peer& peer) {
          return BlobService::NewStub(
              base::PeerChannel(peer.address(), peer.certificate_host(), Trust("reader"), grpc::ChannelArguments()));
        },
        patience);
  }
  ~BadPeersTest() override {
    if (peer_server_ != nullptr) peer_server_->Shutdown(std::chrono::system_clock::now());
    coordinator_server_->Shutdown(std::chrono::system_clock::now());
  }
  // A peer with the certificate in Trust(name).
  int ServePeer(const std::string& name, Whatever::Answer answer) {
    peer_.answer = std::move(answer);
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", base::FarmServerCredentials(Trust(name), base::Callers::kMembers), &port);
    builder.RegisterService(&peer_);
    peer_server_ = builder.BuildAndStart();
    return port;
  }
  // Fetches from a peer at the port: "whole", or why it did not come.
  std::string Fetch(int port, const std::string& host = WorkerHost("server")) {
    farm::v1::Peer peer;
    peer.set_address(absl::StrCat("tls:127.0.0.1:", port));
    peer.set_certificate_host(host);
    peer.add_digests(base::Digest::Of(bank_).Bytes());
    const auto pin = sources_->Fetch(base::MakeBlobRef(base::Digest::Of(bank_), bank_.size()), {peer}, nullptr, &fetched_);
    if (!pin.ok()) return std::string(pin.status().message());
    return env_.ReadFile(pin->path()).value() == bank_ ? "whole" : "other bytes";
  }
  // The same once more with an empty cache.
  std::string FetchAnew(int port) {
    cache_->Remove(base::Digest::Of(bank_)).IgnoreError();
    return Fetch(port);
  }

  const std::string bank_ = std::string(3 << 20, 'b');
  Whatever coordinator_, peer_;
  std::unique_ptr<grpc::Server> coordinator_server_, peer_server_;
  std::unique_ptr<BlobService::StubInterface> stub_;
  std::unique_ptr<BlobSources> sources_;
  std::vector<absl::Status> left_;
  FetchedBytes fetched_;
};

TEST_F(BadPeersTest, AGoodOneGivesIt) {
  const int port = ServePeer("server", [this](auto*, auto* writer) { return Give(writer, bank_.size(), bank_); });
  EXPECT_EQ(Fetch(port), "whole");
  EXPECT_EQ(fetched_.from_peers, bank_.size());
  EXPECT_EQ(coordinator_.asked, 0);
}

TEST_F(BadPeersTest, WhateverAPeerAnswersTheCoordinatorGivesTheBlobAtOnceAndThePeerRests) {
  const auto holds_still = [](grpc::ServerContext* context, int pause_ms, const std::function<void()>& then) {
    while (!context->IsCancelled()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
      then();
    }
    return grpc::Status::CANCELLED;
  };
  const auto says = [](StatusCode code) {
    return [code](grpc::ServerContext*, auto*) { return grpc::Status(code, "so"); };
  };
  const struct {
    std::string what;
    Whatever::Answer answer;
    bool rests;  // is not asked the next time
  } answers[] = {
      {"wrong bytes", [this](auto*, auto* writer) { return Give(writer, bank_.size(), std::string(bank_.size(), 'x')); }, true},
      {"another size", [](auto*, auto* writer) { return Give(writer, 1, "b"); }, true},
      {"too many bytes", [this](auto*, auto* writer) { return Give(writer, bank_.size(), bank_ + "b"); }, true},
      {"too few", [this](auto*, auto* writer) { return Give(writer, bank_.size(), "b"); }, true},
      {"a wrong beginning", [this](auto*, auto* writer) { return Give(writer, bank_.size(), "x"); }, true},
      {"nothing", [](auto*, auto*) { return grpc::Status::OK; }, true},
      {"silence", [&](auto* context, auto*) { return holds_still(context, 5, [] {}); }, true},
      {"a trickle",
       [&](auto* context, auto* writer) {
         return holds_still(context, 5, [&] { Give(writer, bank_.size(), "b"); });
       },
       true},
      {"it is broken", says(StatusCode::INTERNAL), true},
      {"it gives this worker nothing", says(StatusCode::PERMISSION_DENIED), true},
      {"it pretends that this was cancelled", says(StatusCode::CANCELLED), true},
      {"it has not got it", says(StatusCode::NOT_FOUND), false},
      {"it is busy", says(StatusCode::RESOURCE_EXHAUSTED), false},
  };
  for (const auto& [what, answer, rests] : answers) {
    if (peer_server_ != nullptr) peer_server_->Shutdown(std::chrono::system_clock::now());
    const int port = ServePeer("server", answer);
    peer_.asked = 0;
    left_.clear();
    fetched_ = {};
    EXPECT_EQ(FetchAnew(port), "whole") << what;
    EXPECT_EQ(fetched_.from_peers, 0u) << what;
    EXPECT_EQ(peer_.asked, 1) << what;
    EXPECT_EQ(FetchAnew(port), "whole") << what;
    EXPECT_EQ(peer_.asked, rests ? 1 : 2) << what;
    EXPECT_EQ(left_.size(), rests ? 1u : 0u) << what;
  }
}

TEST_F(BadPeersTest, OneThatIsNotThereSaysNothingOrIsAnotherCostsNoTask) {
  // Nobody listens there; somebody listens and never says a word.
  const base::UniqueFd silent(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(silent.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(getsockname(silent.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const int port = ntohs(address.sin_port);
  EXPECT_EQ(FetchAnew(port), "whole") << "refused";
  ASSERT_EQ(listen(silent.get(), 4), 0);
  EXPECT_EQ(FetchAnew(port), "whole") << "it rests";
  ASSERT_EQ(left_.size(), 1u);
  cache_->Remove(base::Digest::Of(bank_)).IgnoreError();
  EXPECT_EQ(Fetch(port, WorkerHost("silent")), "whole");
  ASSERT_EQ(left_.size(), 2u);
  EXPECT_THAT(std::string(left_[1].message()), HasSubstr("nothing moved"));

  const auto good = [this](auto*, auto* writer) { return Give(writer, bank_.size(), bank_); };
  const base::Authority other = base::NewAuthority(env_.NowUnixMs()).value();
  MakeMember("foreign", WorkerHost("server"), &other);
  EXPECT_EQ(FetchAnew(ServePeer("foreign", good)), "whole") << "the certificate of another farm";
  EXPECT_EQ(peer_.asked, 0);
  peer_server_->Shutdown(std::chrono::system_clock::now());
  MakeMember("another", WorkerHost("another"));
  EXPECT_EQ(FetchAnew(ServePeer("another", good)), "whole") << "another worker of this farm at its address";
  EXPECT_EQ(peer_.asked, 0);
  EXPECT_EQ(fetched_.from_peers, 0u);
}

}  // namespace
}  // namespace storyfarm::worker
