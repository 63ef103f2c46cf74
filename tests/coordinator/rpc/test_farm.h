// A coordinator inside the test's process, over a store whose disk survives it, and a client on its unix socket.
#ifndef STORYFARM_TESTS_COORDINATOR_RPC_TEST_FARM_H_
#define STORYFARM_TESTS_COORDINATOR_RPC_TEST_FARM_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/rpc/server.h"
#include "coordinator/rpc/webhooks.h"
#include "coordinator/store/memory_store.h"
#include "farm/v1/blob.grpc.pb.h"
#include "farm/v1/client.grpc.pb.h"
#include "farm/v1/session.grpc.pb.h"
#include "gtest/gtest.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"
#include "coordinator/rpc/log_book.h"
#include "pipeline/base/log.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {

// Chapters "one" and "two": two panels of Ann, one of nobody, one of Ann and Bo.
inline constexpr char kStory[] =
    "title: Two Friends\n"
    "characters:\n"
    "  Ann: a girl in a red coat\n"
    "  Bo: a small grey dog\n"
    "chapters:\n"
    "  - title: one\n"
    "    panels:\n"
    "      - \"[Ann] walks #Ann walks.\"\n"
    "      - \"[Ann] sits down\"\n"
    "  - title: two\n"
    "    panels:\n"
    "      - \"[NC] a tree\"\n"
    "      - \"[Ann] and [Bo] play\"\n"
    "settings:\n"
    "  steps: 3\n"
    "  seed: 5\n";

struct Client {
  explicit Client(const std::string& target)
      : Client(grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), Arguments())) {}
  explicit Client(std::shared_ptr<grpc::Channel> to)
      : channel(std::move(to)),
        farm(farm::v1::ClientService::NewStub(channel)),
        workers(farm::v1::WorkerService::NewStub(channel)),
        blobs(farm::v1::BlobService::NewStub(channel)) {}

  // Uploads bytes under their digest.
  farm::v1::BlobRef Put(const std::string& bytes) { return PutAs(bytes, base::Digest::Of(bytes), nullptr); }
  farm::v1::BlobRef PutAs(const std::string& bytes, const base::Digest& digest, grpc::Status* status);
  std::string Get(const farm::v1::BlobRef& blob);

  // Uploads a model's folder and returns its manifest.
  farm::v1::ModelManifest UploadModel(const std::string& name, const std::string& folder);
  // The tiny SDXL of tests/data, uploaded and registered as "tiny".
  void AddTinyModel();

  grpc::Status Submit(const std::string& key, const std::string& story, farm::v1::SubmitResponse* response,
                      const std::string& settings = "");
  // The id of an accepted story.
  std::string MustSubmit(const std::string& key, const std::string& story = kStory);
  grpc::Status GetJob(const std::string& job_id, farm::v1::JobStatus* status, bool tasks = false);
  // Watches until the job has ended; returns all that was seen.
  std::vector<farm::v1::JobStatus> WatchToTheEnd(const std::string& job_id);

  static grpc::ChannelArguments Arguments() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
    arguments.SetMaxReceiveMessageSize(-1);
    return arguments;
  }

  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<farm::v1::ClientService::Stub> farm;
  std::unique_ptr<farm::v1::WorkerService::Stub> workers;
  std::unique_ptr<farm::v1::BlobService::Stub> blobs;
};

class TestFarm {
 public:
  TestFarm()
      : disk_(std::make_shared<MemoryDisk>()),
        log_(
            base::LogFormat::kText, [](std::string_view) {}, [] { return uint64_t{0}; },
            [this](const base::LogLine& line) { log_book_.Add(line); }) {}

  // With the disk that an earlier start left. `store`: another one than the disk's.
  absl::Status Start(ServerOptions options = {}, std::unique_ptr<Store> store = nullptr);
  void MustStart(std::unique_ptr<Store> store = nullptr) {
    const absl::Status status = Start({}, std::move(store));
    ASSERT_TRUE(status.ok()) << status;
  }
  // As if the process had died.
  void Kill() {
    server_.reset();
    store_.reset();
  }

  // Of the servers that are started from now on.
  std::function<std::unique_ptr<WebhookSender>()> webhook;
  std::function<absl::StatusOr<farm::v1::OpenWebResponse>(const farm::v1::OpenWebRequest&)> open_web;
  std::function<std::string(farm::v1::Role)> visitor_socket;

  Server& server() { return *server_; }
  MemoryDisk& disk() { return *disk_; }
  std::shared_ptr<MemoryDisk> shared_disk() { return disk_; }
  base::Log& log() { return log_; }
  std::string folder() const { return folder_.path(); }
  std::string target() const { return "unix:" + folder_.path() + "/coordinator.sock"; }
  Client Connect() const { return Client(target()); }

 private:
  testing_support::TempFolder folder_;
  std::shared_ptr<MemoryDisk> disk_;
  LogBook log_book_{77};
  base::Log log_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Server> server_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_TESTS_COORDINATOR_RPC_TEST_FARM_H_
