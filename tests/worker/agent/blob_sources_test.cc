// Blobs from the cache, from other workers and from the coordinator, in this order, and files that disks damaged.
#include "worker/agent/blob_sources.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>

#include "pipeline/base/env.h"
#include "tests/support/temp_folder.h"
#include "worker/agent/blob_server.h"

namespace storyfarm::worker {
namespace {

// A BlobService over bytes in memory, which counts what it gave.
class Given final : public farm::v1::BlobService::Service {
 public:
  grpc::Status Read(grpc::ServerContext*, const farm::v1::ReadRequest* request,
                    grpc::ServerWriter<farm::v1::ReadResponse>* writer) override {
    const auto found = blobs.find(request->digest());
    if (found == blobs.end()) return {grpc::StatusCode::NOT_FOUND, "no such blob"};
    farm::v1::ReadResponse response;
    response.set_size_bytes(found->second.size());
    response.set_data(found->second.substr(request->offset_bytes()));
    given_bytes += response.data().size();
    writer->Write(response);
    return grpc::Status::OK;
  }
  std::map<std::string, std::string> blobs;
  uint64_t given_bytes = 0;
};

class Sources : public ::testing::Test {
 protected:
  Sources() {
    mine_ = OpenCache("mine");
    theirs_ = OpenCache("theirs");
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + folder_.File("c"), grpc::InsecureServerCredentials());
    builder.RegisterService(&coordinator_);
    server_ = builder.BuildAndStart();
    stub_ = Connect("unix:" + folder_.File("c"));
    auto peer = BlobServer::Start(*theirs_, folder_.File("theirs-peers"));
    EXPECT_TRUE(peer.ok()) << peer.status();
    peer_server_ = *std::move(peer);
    sources_ = std::make_unique<BlobSources>(*mine_, *stub_,
                                             [](const farm::v1::Peer& peer) { return Connect(peer.address()); });
  }
  ~Sources() override {
    peer_server_.reset();
    server_->Shutdown(std::chrono::system_clock::now());
  }
  static std::shared_ptr<farm::v1::BlobService::StubInterface> Connect(const std::string& address) {
    return farm::v1::BlobService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  }
  std::unique_ptr<base::FileStore> OpenCache(const std::string& name) {
    auto cache = base::FileStore::Open(base::Env::Real(), folder_.File(name));
    EXPECT_TRUE(cache.ok()) << cache.status();
    return *std::move(cache);
  }
  farm::v1::BlobRef Ref(const std::string& bytes) { return base::MakeBlobRef(base::Digest::Of(bytes), bytes.size()); }
  farm::v1::BlobRef AtCoordinator(const std::string& bytes) {
    coordinator_.blobs[base::Digest::Of(bytes).Bytes()] = bytes;
    return Ref(bytes);
  }
  farm::v1::Peer Peer(const farm::v1::BlobRef& blob, const std::string& address = "") {
    farm::v1::Peer peer;
    peer.set_address(address.empty() ? peer_server_->address() : address);
    peer.add_digests(blob.digest());
    return peer;
  }
  // The bytes that came, or the status.
  std::string Fetch(const farm::v1::BlobRef& blob, const std::vector<farm::v1::Peer>& peers) {
    const auto pin = sources_->Fetch(blob, peers, nullptr, &fetched_);
    if (!pin.ok()) return std::string(pin.status().message());
    std::ifstream file(pin->path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void Damage(base::FileStore& cache, const farm::v1::BlobRef& blob) {
    std::fstream(*cache.Path(*base::Digest::FromBytes(blob.digest())), std::ios::in | std::ios::out).put('!');
  }

  testing_support::TempFolder folder_;
  std::unique_ptr<base::FileStore> mine_, theirs_;
  Given coordinator_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<farm::v1::BlobService::StubInterface> stub_;
  std::unique_ptr<BlobServer> peer_server_;
  std::unique_ptr<BlobSources> sources_;
  FetchedBytes fetched_;
};

TEST_F(Sources, WhatAPeerHasDoesNotPassTheCoordinator) {
  const std::string bytes(3 << 20, 'b');  // several chunks
  const farm::v1::BlobRef blob = AtCoordinator(bytes);
  ASSERT_TRUE(theirs_->Put(bytes).ok());
  EXPECT_EQ(Fetch(blob, {Peer(blob)}), bytes);
  EXPECT_EQ(coordinator_.given_bytes, 0u);
  EXPECT_EQ(fetched_.from_peers, bytes.size());
  EXPECT_EQ(Fetch(blob, {Peer(blob)}), bytes) << "from the cache";
  EXPECT_EQ(fetched_.from_peers, bytes.size());
}

TEST_F(Sources, APeerThatIsGoneLacksItOrHasItDamagedLeavesItToTheCoordinator) {
  const farm::v1::BlobRef blob = AtCoordinator("a bank");
  EXPECT_EQ(Fetch(blob, {Peer(blob, "unix:" + folder_.File("nobody")), Peer(blob)}), "a bank");
  EXPECT_EQ(fetched_.from_coordinator, 6u);
  const farm::v1::BlobRef other = AtCoordinator("another bank");
  ASSERT_TRUE(theirs_->Put("another bank").ok());
  Damage(*theirs_, other);
  EXPECT_EQ(Fetch(other, {Peer(other)}), "another bank");
  EXPECT_EQ(fetched_.from_peers, 0u);
}

TEST_F(Sources, AFileThatADiskDamagedWhileNobodyRanIsFetchedAgain) {
  const farm::v1::BlobRef blob = AtCoordinator("weights");
  ASSERT_TRUE(mine_->Put("weights").ok());
  Damage(*mine_, blob);
  EXPECT_EQ(Fetch(blob, {}), "weights");
  EXPECT_EQ(fetched_.from_coordinator, 7u);
}

TEST_F(Sources, AFileThatARunFoundDamagedIsDroppedThoughItIsPinnedAndFetchedAgain) {
  const farm::v1::BlobRef blob = AtCoordinator("a bank"), whole = AtCoordinator("another");
  FetchedBytes fetched;
  const auto pin = sources_->Fetch(blob, {}, nullptr, &fetched);
  ASSERT_TRUE(pin.ok());
  EXPECT_EQ(Fetch(whole, {}), "another");
  Damage(*mine_, blob);
  EXPECT_EQ(sources_->DropDamaged({blob.digest(), whole.digest()}), 1);
  EXPECT_EQ(Fetch(blob, {}), "a bank");
  EXPECT_EQ(sources_->DropDamaged({blob.digest(), whole.digest()}), 0);
}

TEST_F(Sources, AWorkerGivesItsCacheAndTakesNothing) {
  const auto peer = Connect(peer_server_->address());
  grpc::ClientContext context;
  farm::v1::QueryWriteResponse response;
  EXPECT_EQ(peer->QueryWrite(&context, {}, &response).error_code(), grpc::StatusCode::UNIMPLEMENTED);
  const std::filesystem::path socket = peer_server_->address().substr(5);
  std::filesystem::permissions(socket.parent_path(), std::filesystem::perms::others_exec,
                               std::filesystem::perm_options::add);
  peer_server_.reset();
  EXPECT_TRUE(absl::IsFailedPrecondition(BlobServer::Start(*theirs_, socket.parent_path()).status()))
      << "whom others can reach";
  peer_server_ = *BlobServer::Start(*theirs_, folder_.File("theirs-again"));
}

}  // namespace
}  // namespace storyfarm::worker
