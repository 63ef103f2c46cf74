// The coordinator's blobs, through the store and through BlobService with the project's own client, over a unix socket.
#include "coordinator/blob/blob_store.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/rpc/blob_service.h"
#include "pipeline/base/transfer.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::BlobRef;

std::string Noise(size_t bytes, uint32_t seed) {
  std::string text(bytes, '\0');
  for (char& c : text) {
    seed = seed * 1664525u + 1013904223u;
    c = static_cast<char>(seed >> 24);
  }
  return text;
}

BlobRef RefOf(const std::string& bytes) { return base::MakeBlobRef(base::Digest::Of(bytes), bytes.size()); }

class BlobTest : public testing::Test {
 protected:
  BlobTest() { Start(); }
  ~BlobTest() override { Stop(); }

  void Start() {
    auto store = BlobStore::Open(base::Env::Real(), folder_.File("blobs"));
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    service_ = std::make_unique<BlobServiceImpl>(*store_);
    const std::string address = "unix:" + folder_.File("s");
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = farm::v1::BlobService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  }
  void Stop() {
    stub_.reset();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    server_.reset();
    service_.reset();
    store_.reset();
  }

  std::string WriteFile(const std::string& name, const std::string& bytes) {
    const std::string path = folder_.File(name);
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  absl::Status Upload(const std::string& bytes, const std::string& upload_id = "u-1") {
    return base::UploadFile(*stub_, base::Env::Real(), WriteFile("upload", bytes), RefOf(bytes), upload_id);
  }

  // One message, then the end of the stream: what a client that dies there leaves.
  grpc::Status WriteOne(const farm::v1::WriteRequest& request) {
    grpc::ClientContext context;
    farm::v1::WriteResponse response;
    auto stream = stub_->Write(&context, &response);
    stream->Write(request);
    stream->WritesDone();
    return stream->Finish();
  }

  testing_support::TempFolder folder_;
  std::unique_ptr<BlobStore> store_;
  std::unique_ptr<BlobServiceImpl> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<farm::v1::BlobService::Stub> stub_;
};

TEST_F(BlobTest, WhatWasUploadedComesBackByteForByte) {
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{512 << 10}, size_t{(3 << 20) + 17}}) {
    const std::string blob = Noise(bytes, static_cast<uint32_t>(bytes));
    ASSERT_TRUE(Upload(blob).ok());
    auto back = base::DownloadBytes(*stub_, RefOf(blob), blob.size());
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, blob);
  }
}

TEST_F(BlobTest, AFileThatIsNotWhatItsDigestSaysGoesWhenItIsVerifiedAndCanComeAgain) {
  const std::string bytes = Noise(100'000, 1);
  const std::string digest = RefOf(bytes).digest();
  EXPECT_FALSE(store_->Verify(digest)) << "it is absent";
  EXPECT_FALSE(store_->Verify("no digest"));
  ASSERT_TRUE(Upload(bytes).ok());
  EXPECT_TRUE(store_->Verify(digest));
  {
    const auto pin = store_->Pin(digest);
    ASSERT_TRUE(pin.ok());
    std::ofstream(pin->path(), std::ios::binary) << Noise(100'000, 2);  // of the same size
    EXPECT_TRUE(store_->Verify(digest)) << "somebody reads it";
  }
  EXPECT_TRUE(store_->Has(digest)) << "its size is right";
  EXPECT_FALSE(store_->Verify(digest));
  EXPECT_FALSE(store_->Has(digest));
  ASSERT_TRUE(Upload(bytes).ok());
  EXPECT_TRUE(store_->Verify(digest));
}

TEST_F(BlobTest, OnlyAbsentBlobsAreMissingAndEachOnce) {
  const std::string here = Noise(100, 1), away = Noise(100, 2);
  ASSERT_TRUE(Upload(here).ok());
  auto missing = base::FindMissing(*stub_, {RefOf(away), RefOf(here), RefOf(away)});
  ASSERT_TRUE(missing.ok()) << missing.status();
  ASSERT_EQ(missing->size(), 1u);
  EXPECT_EQ((*missing)[0].digest(), RefOf(away).digest());
}

TEST_F(BlobTest, AnUploadThatBrokeOffGoesOnWhereItStoppedAlsoAfterARestart) {
  const std::string blob = Noise((1 << 20) + 5, 3);
  farm::v1::WriteRequest request;
  *request.mutable_blob() = RefOf(blob);
  request.set_upload_id("resumed");
  request.set_data(blob.substr(0, 300'000));
  EXPECT_EQ(WriteOne(request).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  Stop();
  Start();

  grpc::ClientContext context;
  farm::v1::QueryWriteRequest query;
  *query.mutable_blob() = RefOf(blob);
  query.set_upload_id("resumed");
  farm::v1::QueryWriteResponse kept;
  ASSERT_TRUE(stub_->QueryWrite(&context, query, &kept).ok());
  EXPECT_EQ(kept.kept_bytes(), 300'000u);
  EXPECT_FALSE(kept.complete());
  ASSERT_TRUE(Upload(blob, "resumed").ok());
  EXPECT_TRUE(store_->Has(RefOf(blob).digest()));
}

TEST(BlobStore, OverItsQuotaItRefusesAndKeepsWhatItHas) {
  testing_support::TempFolder folder;
  BlobStoreOptions options;
  options.quota_bytes = 1000;
  auto store = BlobStore::Open(base::Env::Real(), folder.File("blobs"), options);
  ASSERT_TRUE(store.ok()) << store.status();
  const std::string first = Noise(600, 10), second = Noise(600, 11);
  {
    auto writer = (*store)->OpenWriter(RefOf(first), "u");
    ASSERT_TRUE(writer.ok()) << writer.status();
    // What is under way counts.
    EXPECT_TRUE(absl::IsResourceExhausted((*store)->OpenWriter(RefOf(second), "u").status()));
    ASSERT_TRUE((*writer)->Append(first).ok() && (*writer)->Commit().ok());
  }
  EXPECT_TRUE(absl::IsResourceExhausted((*store)->OpenWriter(RefOf(second), "u").status()));
  EXPECT_TRUE((*store)->Has(RefOf(first).digest()));
  EXPECT_TRUE((*store)->OpenWriter(RefOf(Noise(400, 12)), "u").ok());
}

TEST_F(BlobTest, BytesThatDoNotHashToTheDigestAreRefusedAndNothingIsKept) {
  const std::string blob = Noise(1000, 4);
  farm::v1::WriteRequest request;
  *request.mutable_blob() = RefOf(blob);
  request.set_upload_id("bad");
  request.set_data(Noise(1000, 5));
  EXPECT_EQ(WriteOne(request).error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_FALSE(store_->Has(RefOf(blob).digest()));
  EXPECT_EQ(*store_->KeptBytes(RefOf(blob), "bad"), 0u);
}

TEST_F(BlobTest, AChunkAtTheWrongPlaceIsRefusedWithTheRightOne) {
  const std::string blob = Noise(1000, 6);
  farm::v1::WriteRequest request;
  *request.mutable_blob() = RefOf(blob);
  request.set_upload_id("gap");
  request.set_offset_bytes(10);
  request.set_data(blob.substr(10));
  const grpc::Status status = WriteOne(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_NE(status.error_message().find("QueryWrite"), std::string::npos) << status.error_message();
}

TEST_F(BlobTest, BadRequestsAreRefusedInWords) {
  farm::v1::WriteRequest request;
  request.set_data("x");
  EXPECT_EQ(WriteOne(request).error_code(), grpc::StatusCode::INVALID_ARGUMENT);  // no blob named
  request.mutable_blob()->set_digest("short");
  request.mutable_blob()->set_size_bytes(1);
  request.set_upload_id("a");
  EXPECT_EQ(WriteOne(request).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  *request.mutable_blob() = RefOf("x");
  request.set_upload_id("../../etc");
  EXPECT_EQ(WriteOne(request).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  request.set_upload_id("a");
  request.mutable_blob()->set_size_bytes(kMaxBlobBytes + 1);
  EXPECT_EQ(WriteOne(request).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  auto absent = base::DownloadBytes(*stub_, RefOf("nobody has this"), 100);
  EXPECT_TRUE(absl::IsNotFound(absent.status())) << absent.status();
}

TEST_F(BlobTest, TwoWritersOfOneBlobBothSucceed) {
  const std::string blob = Noise(2 << 20, 7);
  const std::string path = WriteFile("two", blob);
  std::vector<absl::Status> ended(4, absl::UnknownError("not run"));
  std::vector<std::thread> writers;
  for (size_t i = 0; i < ended.size(); ++i) {
    writers.emplace_back([&, i] {
      ended[i] = base::UploadFile(*stub_, base::Env::Real(), path, RefOf(blob), "w-" + std::to_string(i));
    });
  }
  for (std::thread& writer : writers) writer.join();
  for (const absl::Status& status : ended) EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(*base::DownloadBytes(*stub_, RefOf(blob), blob.size()), blob);
}

TEST_F(BlobTest, ADownloadIntoACacheIsVerifiedAndResumed) {
  const std::string blob = Noise((1 << 20) + 1, 8);
  ASSERT_TRUE(Upload(blob).ok());
  auto cache = base::FileStore::Open(base::Env::Real(), folder_.File("cache"));
  ASSERT_TRUE(cache.ok());
  {
    auto pin = base::DownloadTo(*stub_, **cache, RefOf(blob));
    ASSERT_TRUE(pin.ok()) << pin.status();
    EXPECT_EQ(*base::Env::Real().ReadFile(pin->path()), blob);
  }
  auto again = base::DownloadTo(*stub_, **cache, RefOf(blob));
  EXPECT_TRUE(again.ok());
}

TEST_F(BlobTest, ACancelledTransferEndsAtOnce) {
  base::TransferCancel cancel;
  cancel.Cancel();
  base::TransferOptions options;
  options.cancel = &cancel;
  const std::string blob = Noise(10, 9);
  const absl::Status status =
      base::UploadFile(*stub_, base::Env::Real(), WriteFile("c", blob), RefOf(blob), "c", options);
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

}  // namespace
}  // namespace storyfarm::coordinator
