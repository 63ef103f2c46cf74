// CharacterPacks over a real socket: taken by later jobs, listed, named, removed, and absent where files are missing.
#include <filesystem>
#include <string>

#include "absl/strings/escaping.h"
#include "farm/v1/problem.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/coordinator/rpc/scripted_worker.h"
#include "tests/coordinator/rpc/test_farm.h"

namespace storyfarm::coordinator {
namespace {

using testing::HasSubstr;

class ClientPacksTest : public testing::Test {
 protected:
  void SetUp() override {
    farm_.MustStart();
    client_ = std::make_unique<Client>(farm_.target());
    client_->AddTinyModel();
    worker_ = std::make_unique<ScriptedWorker>(farm_.target(), "node-a");
  }
  // Submits, waits for the end, and returns the job's last status with its tasks.
  farm::v1::JobStatus Render(const std::string& key, const std::string& story = kStory) {
    const std::string job_id = client_->MustSubmit(key, story);
    client_->WatchToTheEnd(job_id);
    farm::v1::JobStatus status;
    EXPECT_TRUE(client_->GetJob(job_id, &status, true).ok());
    EXPECT_EQ(status.state(), farm::v1::JOB_DONE);
    return status;
  }
  farm::v1::ListPacksResponse List(const std::string& pack = "", grpc::StatusCode expected = grpc::StatusCode::OK) {
    farm::v1::ListPacksRequest request;
    request.set_pack(pack);
    farm::v1::ListPacksResponse response;
    grpc::ClientContext context;
    const grpc::Status status = client_->farm->ListPacks(&context, request, &response);
    EXPECT_EQ(status.error_code(), expected) << status.error_message();
    return response;
  }
  // The key of the pack that a character's identity made, in hex.
  std::string KeyOf(const std::string& character) {
    const farm::v1::ListPacksResponse list = List();
    for (const auto& pack : list.packs()) {
      if (pack.manifest().character() == character) return absl::BytesToHexString(pack.manifest().key());
    }
    ADD_FAILURE() << "no pack of " << character;
    return "";
  }
  grpc::Status Name(const std::string& pack, const std::string& name, farm::v1::PackStatus* named) {
    farm::v1::NamePackRequest request;
    request.set_pack(pack);
    request.set_name(name);
    grpc::ClientContext context;
    return client_->farm->NamePack(&context, request, named);
  }
  grpc::Status Remove(const std::string& pack) {
    farm::v1::RemovePackRequest request;
    request.set_pack(pack);
    farm::v1::RemovePackResponse response;
    grpc::ClientContext context;
    return client_->farm->RemovePack(&context, request, &response);
  }
  void Unlink(const farm::v1::BlobRef& blob) {
    const std::string hex = absl::BytesToHexString(blob.digest());
    ASSERT_TRUE(std::filesystem::remove(farm_.folder() + "/blobs/" + hex.substr(0, 2) + "/" + hex));
  }
  // A story that names a pack for Ann, in line 4.
  static std::string Naming(const std::string& pack, const std::string& settings = "steps: 3") {
    return "title: Named\ncharacters:\n  Bo: a small grey dog\n"
           "  Ann: {description: a girl in a red coat, pack: " +
           pack +
           "}\npanels:\n  - \"[Ann] climbs a tree\"\n  - \"[Ann] falls\"\nsettings: {" + settings + ", seed: 5}\n";
  }
  TestFarm farm_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<ScriptedWorker> worker_;
};

TEST_F(ClientPacksTest, ASecondJobHasNoIdentityToComputeAndItsMetadataSaysWhoseItTook) {
  const farm::v1::JobStatus first = Render("k1");
  const farm::v1::JobStatus second = Render("k2");
  EXPECT_EQ(first.identities_reused(), 0u);
  EXPECT_EQ(second.identities_reused(), 2u);
  EXPECT_EQ(second.identity_ms(), 0u);
  for (const auto& task : second.tasks()) {
    if (task.task().kind() != farm::v1::TASK_IDENTITY) continue;
    EXPECT_EQ(task.pack().job_id(), first.job_id());
    EXPECT_EQ(task.attempts(), 0u);
  }
  farm::v1::ListOutputsRequest request;
  request.set_job_id(second.job_id());
  farm::v1::ListOutputsResponse outputs;
  grpc::ClientContext context;
  ASSERT_TRUE(client_->farm->ListOutputs(&context, request, &outputs).ok());
  const nlohmann::json metadata = nlohmann::json::parse(outputs.metadata_json());
  EXPECT_EQ(metadata["identity_seconds"], 0);
  EXPECT_EQ(metadata["identities"][0]["pack_hit"]["made_by_job"], first.job_id());
  EXPECT_EQ(metadata["identities"][0]["pack_hit"]["key"], KeyOf("Ann"));
}

TEST_F(ClientPacksTest, AreListedShownNamedAndRemoved) {
  Render("k1");
  EXPECT_EQ(List().packs_size(), 2);
  const std::string key = KeyOf("Ann");
  const farm::v1::PackStatus shown = List(key.substr(0, 12)).packs(0);
  EXPECT_EQ(shown.manifest().bank().steps_size(), 3);
  EXPECT_EQ(shown.manifest().frames_size(), 1);
  EXPECT_EQ(shown.manifest().node(), "node-a");
  EXPECT_EQ(shown.manifest().model(), "tiny");
  List("nobody", grpc::StatusCode::NOT_FOUND);
  farm::v1::PackStatus named;
  ASSERT_TRUE(Name(key, "ann-v1", &named).ok());
  EXPECT_EQ(named.name(), "ann-v1");
  EXPECT_EQ(Name(KeyOf("Bo"), "ann-v1", &named).error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(Name(key, "ann v1", &named).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(absl::BytesToHexString(List("ann-v1").packs(0).manifest().key()), key);
  ASSERT_TRUE(Remove("ann-v1").ok());
  EXPECT_EQ(Remove("ann-v1").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(List().packs_size(), 1);
  EXPECT_EQ(Render("k2").identities_reused(), 1u) << "Bo's is still there";
}

TEST_F(ClientPacksTest, AStoryThatNamesAPackReadsItAndComputesNothing) {
  Render("k1");
  farm::v1::PackStatus named;
  ASSERT_TRUE(Name(KeyOf("Ann"), "ann-v1", &named).ok());
  const farm::v1::JobStatus status = Render("k2", Naming("ann-v1"));
  EXPECT_EQ(status.identities_reused(), 1u);
  EXPECT_EQ(status.identity_ms(), 0u);
  EXPECT_EQ(status.frames_attempted(), 2u) << "both panels read it";
}

TEST_F(ClientPacksTest, AnUnknownPackOrOneThatDoesNotFitIsAProblemWithItsLine) {
  Render("k1");
  farm::v1::PackStatus named;
  ASSERT_TRUE(Name(KeyOf("Ann"), "ann-v1", &named).ok());
  const auto problem_of = [this](const std::string& key, const std::string& story) {
    farm::v1::SubmitResponse response;
    const grpc::Status status = client_->Submit(key, story, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    farm::v1::Problems problems;
    EXPECT_TRUE(problems.ParseFromString(status.error_details()));
    for (const farm::v1::Problem& problem : problems.problems()) {
      if (!problem.warning()) return problem;
    }
    return farm::v1::Problem();
  };
  const farm::v1::Problem unknown = problem_of("k2", Naming("ann-v2"));
  EXPECT_EQ(unknown.field(), "characters[1].pack");
  EXPECT_EQ(unknown.line(), 4u);
  EXPECT_EQ(unknown.file(), "story.yaml");
  EXPECT_THAT(unknown.message(), HasSubstr("'ann-v2'"));
  EXPECT_THAT(unknown.message(), HasSubstr("storyctl characters list"));
  EXPECT_THAT(problem_of("k3", Naming("ann-v1", "steps: 4, freeu: off")).message(),
              HasSubstr("it was made with steps 3, not 4; freeu"));
}

TEST_F(ClientPacksTest, WhereAFileIsMissingThePackIsAbsentAndTheIdentityIsComputedAnew) {
  Render("k1");
  const std::string key = KeyOf("Ann");
  farm::v1::PackStatus named;
  ASSERT_TRUE(Name(key, "ann-v1", &named).ok());
  const farm::v1::PackStatus pack = List(key).packs(0);
  Unlink(pack.manifest().bank().steps(1));
  farm::v1::SubmitResponse response;
  const grpc::Status refused = client_->Submit("k2", Naming("ann-v1"), &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("missing"));
  const farm::v1::JobStatus again = Render("k3");
  EXPECT_EQ(again.identities_reused(), 1u) << "Bo's alone";
  EXPECT_EQ(List("ann-v1").packs(0).manifest().job_id(), again.job_id()) << "under the name that it had";
  EXPECT_FALSE(List("ann-v1").packs(0).lost());
  EXPECT_EQ(Render("k4").identities_reused(), 2u);
}

TEST_F(ClientPacksTest, TheyAreKnownAfterARestart) {
  Render("k1");
  farm::v1::PackStatus named;
  ASSERT_TRUE(Name(KeyOf("Ann"), "ann-v1", &named).ok());
  worker_->Stop();
  farm_.Kill();
  farm_.MustStart();
  client_ = std::make_unique<Client>(farm_.target());
  worker_ = std::make_unique<ScriptedWorker>(farm_.target(), "node-a");
  EXPECT_EQ(List("ann-v1").packs(0).manifest().character(), "Ann");
  EXPECT_EQ(Render("k2").identities_reused(), 2u);
}

}  // namespace
}  // namespace storyfarm::coordinator
