// What storyctl asks for, over a real socket.
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "farm/v1/problem.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/coordinator/rpc/scripted_worker.h"
#include "tests/coordinator/rpc/test_farm.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {
namespace {

using testing::HasSubstr;

class ClientServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    farm_.MustStart();
    client_ = std::make_unique<Client>(farm_.target());
    client_->AddTinyModel();
  }
  grpc::Status Cancel(const std::string& job_id, farm::v1::JobStatus* status) {
    farm::v1::CancelJobRequest request;
    request.set_job_id(job_id);
    grpc::ClientContext context;
    return client_->farm->CancelJob(&context, request, status);
  }
  TestFarm farm_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientServiceTest, AStoryGoesThroughAWorkerToItsOutputs) {
  const std::string job_id = client_->MustSubmit("k1");
  ScriptedWorker worker(farm_.target(), "node-a");
  const std::vector<farm::v1::JobStatus> seen = client_->WatchToTheEnd(job_id);
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back().state(), farm::v1::JOB_DONE);
  EXPECT_EQ(seen.back().frames_done(), 4u);
  EXPECT_EQ(seen.back().chapters_size(), 2);

  farm::v1::ListOutputsRequest request;
  request.set_job_id(job_id);
  farm::v1::ListOutputsResponse outputs;
  grpc::ClientContext context;
  const grpc::Status status = client_->farm->ListOutputs(&context, request, &outputs);
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::map<std::string, farm::v1::BlobRef> by_path;
  for (const farm::v1::Output& output : outputs.outputs()) by_path[output.path()] = output.blob();
  ASSERT_TRUE(by_path.count("story.pdf") == 1 && by_path.count("story.cbz") == 1);
  EXPECT_EQ(client_->Get(by_path["story.pdf"]), "pdf " + job_id);

  const nlohmann::json metadata = nlohmann::json::parse(outputs.metadata_json());
  EXPECT_EQ(metadata["title"], "Two Friends");
  EXPECT_EQ(metadata["settings"]["steps"], 3);
  EXPECT_EQ(metadata["settings"]["scheduler"], "ddim");
  ASSERT_EQ(metadata["panels"].size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    const nlohmann::json& panel = metadata["panels"][i];
    EXPECT_EQ(panel["node"], "node-a");
    EXPECT_EQ(panel["render_ms"], 7);
    EXPECT_EQ(panel["seed"], 5);
    EXPECT_EQ(panel["warnings"][0], "a warning");
    ASSERT_EQ(by_path.count(panel["image"].get<std::string>()), 1u);
    EXPECT_EQ(client_->Get(by_path[panel["image"]]), "image " + job_id + " " + std::to_string(i));
  }
  EXPECT_THAT(metadata["panels"][0]["prompt"].get<std::string>(), HasSubstr("a girl in a red coat"));
  EXPECT_EQ(metadata["panels"][3]["characters"], nlohmann::json({"Ann", "Bo"}));
}

TEST_F(ClientServiceTest, TheSameSubmissionTwiceIsOneJob) {
  farm::v1::SubmitResponse first;
  farm::v1::SubmitResponse second;
  ASSERT_TRUE(client_->Submit("k1", kStory, &first).ok());
  ASSERT_TRUE(client_->Submit("k1", kStory, &second).ok());
  EXPECT_FALSE(first.existed());
  EXPECT_TRUE(second.existed());
  EXPECT_EQ(first.job_id(), second.job_id());
  EXPECT_EQ(first.job_id().size(), 12u);

  farm::v1::ListJobsResponse jobs;
  grpc::ClientContext context;
  ASSERT_TRUE(client_->farm->ListJobs(&context, {}, &jobs).ok());
  ASSERT_EQ(jobs.jobs_size(), 1);
  EXPECT_EQ(jobs.jobs(0).job_id(), first.job_id());
  EXPECT_EQ(jobs.jobs(0).state(), farm::v1::JOB_QUEUED);
}

TEST_F(ClientServiceTest, OtherContentUnderOneKeyIsRefusedAndTheFirstJobStays) {
  const std::string job_id = client_->MustSubmit("k1");
  farm::v1::SubmitResponse response;
  const grpc::Status other = client_->Submit("k1", kStory, &response, "{\"steps\": 4}");
  EXPECT_EQ(other.error_code(), grpc::StatusCode::ALREADY_EXISTS) << other.error_message();
  EXPECT_THAT(other.error_message(), HasSubstr(job_id));
  farm::v1::JobStatus status;
  EXPECT_TRUE(client_->GetJob(job_id, &status).ok());
}

TEST_F(ClientServiceTest, ABadStoryComesBackWithAllItsProblems) {
  farm::v1::SubmitResponse response;
  const grpc::Status status =
      client_->Submit("k1", "title: x\npanels:\n  - \"[Nobody] walks\"\nsettings:\n  steps: many\n", &response);
  ASSERT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  farm::v1::Problems problems;
  ASSERT_TRUE(problems.ParseFromString(status.error_details()));
  std::set<uint32_t> lines;
  for (const farm::v1::Problem& problem : problems.problems()) lines.insert(problem.line());
  EXPECT_EQ(lines.count(3), 1u) << status.error_message();
  EXPECT_EQ(lines.count(5), 1u) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("story.yaml:3"));
}

TEST_F(ClientServiceTest, SettingsThatDoNotSuitTheModelAreProblemsToo) {
  farm::v1::SubmitResponse response;
  const grpc::Status status = client_->Submit("k1", kStory, &response, "width: 9");
  ASSERT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  farm::v1::Problems problems;
  ASSERT_TRUE(problems.ParseFromString(status.error_details()));
  ASSERT_GE(problems.problems_size(), 1);
  EXPECT_EQ(problems.problems(0).field(), "settings.width") << status.error_message();
}

TEST_F(ClientServiceTest, AnUnknownModelIsAProblemThatNamesTheKnownOnes) {
  farm::v1::SubmitRequest request;
  request.set_idempotency_key("k1");
  request.set_story(kStory);
  request.set_file_name("story.yaml");
  request.set_model("huge");
  farm::v1::SubmitResponse response;
  grpc::ClientContext context;
  const grpc::Status status = client_->farm->Submit(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), testing::AllOf(HasSubstr("huge"), HasSubstr("tiny")));
}

TEST_F(ClientServiceTest, AFontThatWasNotUploadedIsAskedFor) {
  farm::v1::SubmitRequest request;
  request.set_idempotency_key("k1");
  request.set_story(kStory);
  request.set_file_name("story.yaml");
  request.set_model("tiny");
  farm::v1::FontFile* font = request.add_fonts();
  font->set_file_name("comic.ttf");
  font->mutable_blob()->set_digest(base::Digest::Of("font").Bytes());
  font->mutable_blob()->set_size_bytes(4);
  farm::v1::SubmitResponse response;
  grpc::ClientContext before;
  const grpc::Status missing = client_->farm->Submit(&before, request, &response);
  EXPECT_EQ(missing.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(missing.error_message(), HasSubstr("comic.ttf"));
  client_->Put("font");
  grpc::ClientContext after;
  EXPECT_TRUE(client_->farm->Submit(&after, request, &response).ok());
}

TEST_F(ClientServiceTest, WhatIsOverALimitIsRefusedAndSaysWhich) {
  farm::v1::SubmitResponse response;
  const grpc::Status story = client_->Submit("k1", std::string(5 << 20, 'a'), &response);
  EXPECT_EQ(story.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(story.error_message(), HasSubstr("4 MiB"));
  const grpc::Status message = client_->Submit("k1", std::string(7 << 20, 'a'), &response);
  EXPECT_EQ(message.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(message.error_message(), HasSubstr("larger than max"));
  const grpc::Status key = client_->Submit(std::string(129, 'k'), kStory, &response);
  EXPECT_EQ(key.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ClientServiceTest, ACancelledJobEndsItsWatchesAndCantBeCancelledAgain) {
  const std::string job_id = client_->MustSubmit("k1");
  farm::v1::JobStatus status;
  ASSERT_TRUE(Cancel(job_id, &status).ok());
  EXPECT_EQ(status.state(), farm::v1::JOB_CANCELLED);
  EXPECT_EQ(client_->WatchToTheEnd(job_id).back().state(), farm::v1::JOB_CANCELLED);
  const grpc::Status again = Cancel(job_id, &status);
  EXPECT_EQ(again.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(again.error_message(), HasSubstr("already ended"));
}

TEST_F(ClientServiceTest, AJobIsPausedExplainedMovedAndResumed) {
  const std::string job_id = client_->MustSubmit("k1");
  farm::v1::ChangeJobRequest change;
  change.set_job_id(job_id);
  change.set_paused(true);
  change.set_priority(70);
  farm::v1::JobStatus job;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(client_->farm->ChangeJob(&context, change, &job).ok());
  }
  EXPECT_TRUE(job.paused());
  EXPECT_EQ(job.priority(), 70u);
  farm::v1::ExplainTaskRequest ask;
  ask.mutable_task()->set_job_id(job_id);
  ask.mutable_task()->set_kind(farm::v1::TASK_FRAME);
  ask.mutable_task()->set_number(1000);
  farm::v1::Explanation why;
  {
    grpc::ClientContext context;
    EXPECT_EQ(client_->farm->ExplainTask(&context, ask, &why).error_code(), grpc::StatusCode::NOT_FOUND);
  }
  ask.mutable_task()->set_kind(farm::v1::TASK_TEXT);
  ask.mutable_task()->set_number(0);
  {
    grpc::ClientContext context;
    ASSERT_TRUE(client_->farm->ExplainTask(&context, ask, &why).ok());
  }
  ASSERT_GT(why.sentences_size(), 0);
  EXPECT_THAT(why.sentences(0), HasSubstr("storyctl resume " + job_id));
  ScriptedWorker worker(farm_.target(), "node-a");
  change.set_paused(false);
  {
    grpc::ClientContext context;
    ASSERT_TRUE(client_->farm->ChangeJob(&context, change, &job).ok());
  }
  EXPECT_EQ(client_->WatchToTheEnd(job_id).back().state(), farm::v1::JOB_DONE);
  farm::v1::DrainNodeRequest drain;
  drain.set_node("node-a");
  drain.set_drained(true);
  farm::v1::NodeStatus node;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(client_->farm->DrainNode(&context, drain, &node).ok());
  }
  EXPECT_TRUE(node.drained());
  drain.set_node("nobody");
  grpc::ClientContext context;
  EXPECT_EQ(client_->farm->DrainNode(&context, drain, &node).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ClientServiceTest, AWorkerIsLimitedWhereverItIs) {
  ScriptedWorker worker(farm_.target(), "node-a");
  const auto ask = [this](const farm::v1::LimitNodeRequest& request, farm::v1::LimitNodeResponse* response) {
    grpc::ClientContext context;
    return client_->farm->LimitNode(&context, request, response);
  };
  farm::v1::LimitNodeRequest request;
  request.set_node("node-a");
  request.set_memory_bytes(8'000'000'000);
  request.set_hours("20:00-08:00");
  farm::v1::LimitNodeResponse response;
  while (ask(request, &response).error_code() == grpc::StatusCode::NOT_FOUND) {  // its Hello is on its way
    std::this_thread::yield();
  }
  EXPECT_EQ(response.node().limits().memory_bytes(), 8'000'000'000u);
  EXPECT_EQ(response.node().limits().hours(), "20:00-08:00");
  request.Clear();
  request.set_node("node-a");
  request.set_memory_bytes(100'000'000);
  const grpc::Status none = ask(request, &response);
  EXPECT_EQ(none.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(none.error_message(), HasSubstr("tiny takes at least"));
  request.clear_memory_bytes();
  request.set_none(true);
  EXPECT_TRUE(ask(request, &response).ok());
  EXPECT_FALSE(response.node().has_limits());
}

TEST_F(ClientServiceTest, AnUnknownJobIsNotFoundEverywhere) {
  farm::v1::JobStatus status;
  EXPECT_EQ(client_->GetJob("j-none", &status).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Cancel("j-none", &status).error_code(), grpc::StatusCode::NOT_FOUND);
  farm::v1::GetJobRequest request;
  request.set_job_id("j-none");
  grpc::ClientContext context;
  const auto stream = client_->farm->WatchJob(&context, request);
  EXPECT_FALSE(stream->Read(&status));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ClientServiceTest, AModelIsAddedOnlyWholeAndUnderANameOfItsOwn) {
  const auto add = [this](const farm::v1::ModelManifest& model) {
    farm::v1::AddModelRequest request;
    *request.mutable_model() = model;
    grpc::ClientContext context;
    farm::v1::ModelManifest answer;
    return client_->farm->AddModel(&context, request, &answer);
  };
  farm::v1::ModelManifest model =
      client_->UploadModel("tiny", std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tiny_sdxl");
  EXPECT_TRUE(add(model).ok()) << "the same again";

  farm::v1::ModelManifest damaged = model;
  damaged.set_digest(base::Digest::Of("other").Bytes());
  EXPECT_EQ(add(damaged).error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  farm::v1::ModelManifest missing = model;
  missing.mutable_files(0)->mutable_blob()->set_digest(base::Digest::Of("nowhere").Bytes());
  const grpc::Status absent = add(missing);
  EXPECT_EQ(absent.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(absent.error_message(), HasSubstr(model.files(0).path()));

  const farm::v1::ModelManifest other =
      client_->UploadModel("tiny", std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tiny_options");
  EXPECT_EQ(add(other).error_code(), grpc::StatusCode::ALREADY_EXISTS);

  farm::v1::ListModelsResponse models;
  grpc::ClientContext context;
  ASSERT_TRUE(client_->farm->ListModels(&context, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).digest(), model.digest());
}

TEST_F(ClientServiceTest, WordsThatTheModelWasNotTaughtAreWarningsOfTheSubmission) {
  testing_support::TempFolder folder;
  const std::string model = folder.File("model");
  std::filesystem::copy(std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tiny_sdxl", model,
                        std::filesystem::copy_options::recursive);
  std::ofstream(model + "/words.txt") << "a\nand\ncoat\ndog\ngirl\ngrey\nin\nplay\nred\nsit\nsmall\ntree\nwalk\n";
  farm::v1::AddModelRequest add;
  *add.mutable_model() = client_->UploadModel("taught", model);
  grpc::ClientContext added;
  farm::v1::ModelManifest answer;
  const grpc::Status accepted = client_->farm->AddModel(&added, add, &answer);
  ASSERT_TRUE(accepted.ok()) << accepted.error_message();

  farm::v1::SubmitRequest request;
  request.set_idempotency_key("k1");
  request.set_story(kStory);
  request.set_file_name("story.yaml");
  request.set_model("taught");
  request.set_settings("negative_prompt: trees, fog");
  farm::v1::SubmitResponse response;
  grpc::ClientContext submitted;
  const grpc::Status status = client_->farm->Submit(&submitted, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::vector<std::string> said;
  for (const farm::v1::Problem& warning : response.warnings()) {
    EXPECT_TRUE(warning.warning());
    said.push_back(warning.file() + ":" + std::to_string(warning.line()) + ":" + std::to_string(warning.column()) +
                   ": " + warning.message());
  }
  const std::string why = ", which this model was not taught";
  EXPECT_THAT(said,
              testing::ElementsAre(
                  "story.yaml:8:16: panel 0 says 'walks'" + why + " (did you mean 'walk'?)",
                  "story.yaml:9:16: panel 1 says 'sits'" + why + " (did you mean 'sit'?)",
                  "story.yaml:9:21: panel 1 says 'down'" + why,
                  "the submission's settings:1:18: the negative prompt says 'trees'" + why + " (did you mean 'tree'?)",
                  "the submission's settings:1:25: the negative prompt says 'fog'" + why + " (did you mean 'dog'?)"));
  farm::v1::JobStatus job;
  EXPECT_TRUE(client_->GetJob(response.job_id(), &job).ok()) << "it is a job all the same";

  farm::v1::SubmitResponse all_known;
  ASSERT_TRUE(client_->Submit("k2", kStory, &all_known).ok());
  EXPECT_EQ(all_known.warnings_size(), 0) << "a model without the list knows every word";
}

TEST_F(ClientServiceTest, AModelWhoseWordListIsNoneIsRefused) {
  testing_support::TempFolder folder;
  const std::string model = folder.File("model");
  std::filesystem::copy(std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tiny_sdxl", model,
                        std::filesystem::copy_options::recursive);
  std::ofstream(model + "/words.txt") << "red\nblue\n";
  farm::v1::AddModelRequest request;
  *request.mutable_model() = client_->UploadModel("unsorted", model);
  grpc::ClientContext context;
  farm::v1::ModelManifest answer;
  const grpc::Status status = client_->farm->AddModel(&context, request, &answer);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("words.txt:2: 'blue' comes after red"));
}

TEST_F(ClientServiceTest, ABlobIsKeptOnlyUnderTheDigestOfItsBytes) {
  grpc::Status status;
  const farm::v1::BlobRef blob = client_->PutAs("these bytes", base::Digest::Of("those bytes"), &status);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
  farm::v1::FindMissingRequest request;
  *request.add_blobs() = blob;
  farm::v1::FindMissingResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(client_->blobs->FindMissing(&context, request, &response).ok());
  EXPECT_EQ(response.missing_size(), 1);
}

TEST(ClientService, AFullQueueRefusesWithATimeToTryAgain) {
  TestFarm farm;
  ServerOptions options;
  options.limits.queued_inputs = 0;
  ASSERT_TRUE(farm.Start(options).ok());
  Client client = farm.Connect();
  grpc::ClientContext context;
  farm::v1::ListNodesResponse nodes;
  const grpc::Status status = client.farm->ListNodes(&context, {}, &nodes);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
}

TEST_F(ClientServiceTest, AJobThatHasEndedIsRemovedAndOneThatRunsIsNot) {
  const std::string job_id = client_->MustSubmit("k1");
  const auto remove = [&] {
    farm::v1::RemoveJobRequest request;
    request.set_job_id(job_id);
    farm::v1::RemoveJobResponse response;
    grpc::ClientContext context;
    return client_->farm->RemoveJob(&context, request, &response);
  };
  const grpc::Status refused = remove();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(refused.error_message(), HasSubstr("storyctl cancel"));
  farm::v1::JobStatus status;
  ASSERT_TRUE(Cancel(job_id, &status).ok());
  const grpc::Status removed = remove();
  EXPECT_TRUE(removed.ok()) << removed.error_message();
  EXPECT_EQ(client_->GetJob(job_id, &status).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(remove().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_NE(client_->MustSubmit("k1"), job_id);
}

TEST(ClientService, AnAnswerOverTheLimitSaysSo) {
  TestFarm farm;
  ServerOptions options;
  options.limits.reply_bytes = 100;
  ASSERT_TRUE(farm.Start(options).ok());
  Client client = farm.Connect();
  ScriptedWorker worker(farm.target(), std::string(100, 'n'));
  grpc::Status status;
  do {  // until the worker is known
    grpc::ClientContext context;
    farm::v1::ListNodesResponse nodes;
    status = client.farm->ListNodes(&context, {}, &nodes);
  } while (status.ok());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("at most 100"));
}

}  // namespace
}  // namespace storyfarm::coordinator
