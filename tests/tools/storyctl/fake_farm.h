// A coordinator for tests: the real services' interface over memory, on a unix socket of its own.
#ifndef STORYFARM_TESTS_TOOLS_STORYCTL_FAKE_FARM_H_
#define STORYFARM_TESTS_TOOLS_STORYCTL_FAKE_FARM_H_

#include <grpcpp/server.h>

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "farm/v1/blob.grpc.pb.h"
#include "farm/v1/client.grpc.pb.h"
#include "farm/v1/trust.grpc.pb.h"
#include "tests/tools/storyctl/harness.h"

namespace storyfarm::storyctl {

class FakeFarm {
 public:
  explicit FakeFarm(const std::string& socket_path);
  ~FakeFarm();
  std::string target() const { return "unix:" + socket_path_; }

  // Puts a blob there and returns its ref.
  farm::v1::BlobRef Put(const std::string& bytes);
  bool Has(const std::string& digest);

  struct Client;
  struct Blobs;
  struct Trust;

  // What the services answer and have seen. Set before the call that needs it.
  std::mutex mutex;
  std::map<std::string, std::string> blobs;                      // digest -> bytes
  std::map<std::string, std::vector<farm::v1::JobStatus>> jobs;  // a watch sees all, other calls the last
  std::map<std::string, farm::v1::ListOutputsResponse> outputs;
  farm::v1::ListNodesResponse nodes;
  farm::v1::ListMembersResponse members;
  std::vector<farm::v1::InviteRequest> invited;
  std::vector<farm::v1::ModelManifest> models;
  std::vector<farm::v1::PackStatus> packs;
  std::vector<farm::v1::SubmitRequest> submitted;
  std::map<std::string, std::string> job_of_key;
  grpc::Status submit_answer = grpc::Status::OK;
  std::vector<farm::v1::Problem> submit_warnings;
  std::vector<farm::v1::RetryJobRequest> retried;
  std::deque<farm::v1::ReadLogResponse> log;  // each answered once; then NOT_FOUND
  std::vector<farm::v1::ReadLogRequest> log_requests;
  std::vector<farm::v1::LimitNodeRequest> limited;  // each is answered with a warning, too
  int refuse_submits = 0;  // so many answer UNAVAILABLE first
  int broken_watches = 0;  // so many end after their first status
  int reads = 0;           // of blobs

 private:
  const std::string socket_path_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Blobs> blob_service_;
  std::unique_ptr<Trust> trust_;
  std::unique_ptr<grpc::Server> server_;
};

// storyctl beside such a coordinator, in an environment that names no other farm.
class FarmCommandsTest : public StoryctlTest {
 protected:
  void SetUp() override {
    StoryctlTest::SetUp();
    farm_ = std::make_unique<FakeFarm>(Path("farm.sock"));
    variables_["STORYFARM_FARM"] = farm_->target();
    variables_["HOME"] = folder_.string();
  }
  std::unique_ptr<FakeFarm> farm_;
};

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TESTS_TOOLS_STORYCTL_FAKE_FARM_H_
