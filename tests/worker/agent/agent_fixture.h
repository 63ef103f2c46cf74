// A worker against a coordinator that the test plays, with engines that render nothing.
#ifndef STORYFARM_TESTS_WORKER_AGENT_AGENT_FIXTURE_H_
#define STORYFARM_TESTS_WORKER_AGENT_AGENT_FIXTURE_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/base/digest.h"
#include "pipeline/base/subprocess.h"
#include "tests/support/eventually.h"
#include "tests/support/temp_folder.h"
#include "tests/worker/agent/fake_coordinator.h"

namespace storyfarm::worker {

inline constexpr char kBin[] = STORYFARM_BIN_DIR;

inline farm::v1::FencingToken Token(uint64_t number) {
  farm::v1::FencingToken token;
  token.set_incarnation(0xabcd);
  token.set_number(number);
  return token;
}

class AgentTest : public ::testing::Test {
 protected:
  AgentTest() : coordinator_(std::make_unique<FakeCoordinator>(Socket())) {
    std::filesystem::create_directory(folder_.File("marks"));
    model_.set_name("m");
    model_.set_digest(base::Digest::Of("model").Bytes());
    Add("unet/weights.safetensors", std::string(2 << 20, 'w'));
    Add("model_index.json", "{}");
  }
  ~AgentTest() override {
    if (HasFailure()) std::cerr << Log();
  }

  std::string Socket() const { return folder_.File("s"); }

  void Add(const std::string& path, const std::string& bytes) {
    farm::v1::ModelFile* file = model_.add_files();
    file->set_path(path);
    *file->mutable_blob() = coordinator_->Put(bytes);
  }

  void StartWorker(std::vector<std::pair<std::string, std::string>> environment = {},
                   std::vector<std::string> more = {}) {
    base::SubprocessOptions options;
    options.program = std::string(kBin) + "/storyfarm-worker";
    options.arguments = {
        "--data", folder_.File("worker"), "--coordinator", "unix:" + Socket(), "--name", "tester", "--devices", "cpu"};
    options.arguments.insert(options.arguments.end(), more.begin(), more.end());
    options.environment = std::move(environment);
    options.environment.emplace_back("STORYFARM_ENGINE", std::string(kBin) + "/fake_engine");
    options.environment.emplace_back("FAKE_ENGINE_MARKS", folder_.File("marks"));
    options.output_file = folder_.File("log");
    auto started = base::Subprocess::Start(options);
    ASSERT_TRUE(started.ok()) << started.status();
    worker_ = *std::move(started);
  }

  // Starts and welcomes it.
  void Join(std::vector<std::pair<std::string, std::string>> environment = {}) {
    StartWorker(std::move(environment));
    const auto hello = coordinator_->WaitHello();
    ASSERT_TRUE(hello.has_value());
    coordinator_->Welcome(*hello);
  }

  farm::v1::CoordinatorMessage FramesGrant(uint64_t token, const std::vector<std::string>& prompts,
                                           uint32_t first = 0) {
    farm::v1::CoordinatorMessage message;
    farm::v1::Grant* grant = message.mutable_grant();
    *grant->mutable_token() = Token(token);
    farm::v1::FramesWork* work = grant->mutable_work()->mutable_frames();
    *work->mutable_model() = model_;
    work->mutable_settings()->set_steps(2);
    work->mutable_plan()->set_batch(1);
    work->mutable_plan()->set_predicted_peak_bytes(1'000'000);
    for (uint32_t i = 0; i < prompts.size(); ++i) {
      farm::v1::TaskId* task = grant->add_tasks();
      task->set_job_id("j-0123456789");
      task->set_kind(farm::v1::TASK_FRAME);
      task->set_number(first + i);
      farm::v1::Frame* frame = work->add_frames();
      frame->set_panel(first + i);
      frame->set_id("p" + std::to_string(first + i));
      frame->set_prompt(prompts[i]);
    }
    return message;
  }

  void Answer(const farm::v1::Result& result, farm::v1::Verdict verdict = farm::v1::ACCEPTED) {
    farm::v1::CoordinatorMessage message;
    *message.mutable_verdict()->mutable_token() = result.token();
    *message.mutable_verdict()->mutable_task() = result.task();
    message.mutable_verdict()->set_verdict(verdict);
    coordinator_->Send(std::move(message));
  }

  std::optional<farm::v1::Result> WaitResult() {
    auto message = coordinator_->Wait(farm::v1::WorkerMessage::kResult);
    if (!message.has_value()) return std::nullopt;
    return message->result();
  }
  std::optional<farm::v1::Failure> WaitFault() {
    auto message = coordinator_->Wait(farm::v1::WorkerMessage::kFault);
    if (!message.has_value()) return std::nullopt;
    return message->fault().failure();
  }

  std::string Log() const {
    std::ostringstream text;
    text << std::ifstream(folder_.File("log")).rdbuf();
    return text.str();
  }

  // Files in the outbox on disk.
  size_t OutboxFiles() const {
    size_t count = 0;
    for (const auto& file : std::filesystem::directory_iterator(folder_.File("worker/outbox")))
      count += file.path().extension() == ".result";
    return count;
  }

  std::set<pid_t> EnginePids() const {
    std::set<pid_t> pids;
    for (const auto& file : std::filesystem::directory_iterator(folder_.File("marks"))) {
      const std::string name = file.path().filename();
      if (name.rfind("pid-", 0) == 0) pids.insert(std::stoi(name.substr(4)));
    }
    return pids;
  }

  testing_support::TempFolder folder_;
  std::unique_ptr<FakeCoordinator> coordinator_;
  farm::v1::ModelManifest model_;
  std::unique_ptr<base::Subprocess> worker_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_TESTS_WORKER_AGENT_AGENT_FIXTURE_H_
