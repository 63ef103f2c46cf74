// storyctl's commands against a coordinator in memory, through real gRPC.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tests/tools/storyctl/fake_farm.h"
#include "tests/tools/storyctl/harness.h"

namespace storyfarm::storyctl {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kStory[] = "[Bo] a bear with a red hat\n\n[Bo] reading #Bo reads.\n[Bo] sleeping #Night.\n";

farm::v1::JobStatus StatusOf(const std::string& job, farm::v1::JobState state, uint32_t done) {
  farm::v1::JobStatus status;
  status.set_job_id(job);
  status.set_title("A bear");
  status.set_state(state);
  status.set_frames_total(4);
  status.set_frames_done(done);
  status.set_pages_total(2);
  status.set_seconds_left(-1);
  farm::v1::ChapterProgress* chapter = status.add_chapters();
  chapter->set_title("Morning");
  chapter->set_frames_total(4);
  chapter->set_frames_done(done);
  return status;
}

using FarmCommands = FarmCommandsTest;

TEST_F(FarmCommands, SubmitPrintsTheJobAndBringsTheFontsAlong) {
  EXPECT_EQ(Run({"submit", Write("bear.txt", kStory), "--model", "demo", "--key", "k1"}), 0) << err_.str();
  EXPECT_EQ(out_.str(), "j-0\n");
  ASSERT_THAT(farm_->submitted, SizeIs(1));
  const farm::v1::SubmitRequest& request = farm_->submitted[0];
  EXPECT_EQ(request.story(), kStory);
  EXPECT_EQ(request.file_name(), "bear.txt");
  EXPECT_EQ(request.model(), "demo");
  ASSERT_GT(request.fonts_size(), 0);
  EXPECT_TRUE(farm_->Has(request.fonts(0).blob().digest()));
}

TEST_F(FarmCommands, OneKeyMakesOneJobAndKeysAreDrawnOtherwise) {
  const std::string story = Write("bear.txt", kStory);
  EXPECT_EQ(Run({"submit", story, "--key", "k1", "--json"}), 0);
  EXPECT_EQ(Json()["existed"], false);
  const std::string first = Json()["job_id"];
  EXPECT_EQ(Run({"submit", story, "--key", "k1", "--json"}), 0);
  EXPECT_EQ(Json()["existed"], true);
  EXPECT_EQ(Json()["job_id"], first);
  EXPECT_EQ(Run({"submit", story, "--json"}), 0);
  EXPECT_NE(Json()["job_id"], first);
}

TEST_F(FarmCommands, SubmitIsSentAgainWithItsKeyWhileTheCoordinatorIsAway) {
  farm_->refuse_submits = 2;
  EXPECT_EQ(Run({"submit", Write("bear.txt", kStory)}), 0) << err_.str();
  EXPECT_THAT(farm_->submitted, SizeIs(1));
}

TEST_F(FarmCommands, ABadStoryIsToldWithAllItsProblemsAndSendsNothing) {
  const std::string story = Write("bad.yaml", "title: 5\nchapters: nothing\nsettings: {steps: -3}\n");
  EXPECT_EQ(Run({"submit", story}, /*live=*/true), 2);
  EXPECT_THAT(err_.str(), AllOf(HasSubstr("bad.yaml:2:"), HasSubstr("bad.yaml:3:"), HasSubstr("^")));
  EXPECT_THAT(farm_->submitted, SizeIs(0));
  EXPECT_EQ(Run({"submit", story, "--json"}), 2);
  EXPECT_GE(Json()["problems"].size(), 2u);
}

TEST_F(FarmCommands, ProblemsThatOnlyTheCoordinatorKnowsAreShownLikewise) {
  farm::v1::Problems problems;
  problems.add_problems()->set_message("width 100 is not a multiple of 32 pixels");
  problems.mutable_problems(0)->set_field("settings.width");
  farm_->submit_answer = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "bad story", problems.SerializeAsString());
  EXPECT_EQ(Run({"submit", Write("bear.txt", kStory)}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("settings.width: width 100 is not a multiple"));
}

TEST_F(FarmCommands, WarningsOfTheCoordinatorAreShownWithTheirLineAndStopNothing) {
  farm::v1::Problem& warning = farm_->submit_warnings.emplace_back();
  warning.set_file("bear.txt");
  warning.set_line(1);
  warning.set_column(10);
  warning.set_message("panel 0 says 'fluffy', which this model was not taught");
  warning.set_warning(true);
  EXPECT_EQ(Run({"submit", Write("bear.txt", kStory)}, /*live=*/true), 0);
  EXPECT_EQ(out_.str(), "j-0\n");
  EXPECT_THAT(err_.str(), HasSubstr("bear.txt:1:10: warning: panel 0 says 'fluffy', which this model was not taught\n"
                                    "  1 | "));
}

TEST_F(FarmCommands, AKeyUsedForAnotherStoryIsAConflict) {
  farm_->submit_answer = grpc::Status(grpc::StatusCode::ALREADY_EXISTS, "the key stands for another story");
  EXPECT_EQ(Run({"submit", Write("bear.txt", kStory), "--key", "k"}), 5);
  EXPECT_THAT(err_.str(), HasSubstr("another story"));
}

TEST_F(FarmCommands, WatchPrintsALineForEachChangeWhereNobodyLooksOn) {
  farm_->jobs["j-1"] = {StatusOf("j-1", farm::v1::JOB_RUNNING, 1), StatusOf("j-1", farm::v1::JOB_RUNNING, 1),
                        StatusOf("j-1", farm::v1::JOB_RUNNING, 2), StatusOf("j-1", farm::v1::JOB_DONE, 4)};
  EXPECT_EQ(Run({"watch", "j-1"}), 0);
  EXPECT_EQ(out_.str(), "");
  EXPECT_EQ(err_.str(),
            "j-1 running, 1 of 4 panels, 0 of 2 pages\n"
            "j-1 running, 2 of 4 panels, 0 of 2 pages\n"
            "j-1 done, 4 of 4 panels, 0 of 2 pages\n");
}

TEST_F(FarmCommands, WatchDrawsBarsOnATerminal) {
  farm_->jobs["j-1"] = {StatusOf("j-1", farm::v1::JOB_RUNNING, 2), StatusOf("j-1", farm::v1::JOB_DONE, 4)};
  EXPECT_EQ(Run({"watch", "j-1"}, /*live=*/true), 0);
  EXPECT_THAT(err_.str(), AllOf(HasSubstr("Morning"), HasSubstr("█"), HasSubstr("2/4"), HasSubstr("\x1b[3A")));
}

TEST_F(FarmCommands, WatchGoesOnAfterABrokenStream) {
  farm_->jobs["j-1"] = {StatusOf("j-1", farm::v1::JOB_RUNNING, 1), StatusOf("j-1", farm::v1::JOB_DONE, 4)};
  farm_->broken_watches = 2;
  EXPECT_EQ(Run({"watch", "j-1"}), 0);
  EXPECT_THAT(err_.str(), HasSubstr("j-1 done"));
}

TEST_F(FarmCommands, AJobThatEndedBadlyMakesWatchAndStatusFail) {
  farm_->jobs["j-1"] = {StatusOf("j-1", farm::v1::JOB_FAILED, 3)};
  farm_->jobs["j-2"] = {StatusOf("j-2", farm::v1::JOB_RUNNING, 3)};
  EXPECT_EQ(Run({"watch", "j-1"}), 1);
  EXPECT_EQ(Run({"status", "j-1"}), 1);
  EXPECT_EQ(Run({"status", "j-2"}), 0);
}

TEST_F(FarmCommands, AnUnknownJobIsNotFoundWhoeverAsks) {
  EXPECT_EQ(Run({"watch", "j-9"}), 4);
  EXPECT_EQ(Run({"status", "j-9"}), 4);
  EXPECT_EQ(Run({"cancel", "j-9"}), 4);
  EXPECT_EQ(Run({"fetch", "j-9", "--out", Path("out")}), 4);
  EXPECT_THAT(err_.str(), HasSubstr("j-9"));
}

TEST_F(FarmCommands, StatusTellsWhyGroupsWait) {
  farm::v1::JobStatus status = StatusOf("j-1", farm::v1::JOB_QUEUED, 0);
  status.add_waiting()->set_reason("the largest device offers 2.0 GB; 5.8 GB would do");
  farm_->jobs["j-1"] = {status};
  EXPECT_EQ(Run({"status", "j-1"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("5.8 GB would do"));
  EXPECT_EQ(Run({"--json", "status", "j-1"}), 0);
  EXPECT_EQ(Json()["waiting"].size(), 1u);
  EXPECT_TRUE(Json()["seconds_left"].is_null());
}

TEST_F(FarmCommands, JobsAreListedOverAllPagesUpToTheLimit) {
  for (int i = 0; i < 30; ++i) {
    const std::string job = absl::StrCat("j-", 100 + i);
    farm_->jobs[job] = {StatusOf(job, farm::v1::JOB_DONE, 4)};
  }
  EXPECT_EQ(Run({"jobs", "--json", "--limit", "25"}), 0);
  EXPECT_EQ(Json()["jobs"].size(), 25u);
  EXPECT_EQ(Run({"jobs"}), 0);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("JOB"), HasSubstr("j-100"), HasSubstr("4/4")));
}

TEST_F(FarmCommands, CancelOfAnEndedJobIsAConflict) {
  farm_->jobs["j-1"] = {StatusOf("j-1", farm::v1::JOB_DONE, 4)};
  farm_->jobs["j-2"] = {StatusOf("j-2", farm::v1::JOB_RUNNING, 1)};
  EXPECT_EQ(Run({"cancel", "j-1"}), 5);
  EXPECT_EQ(Run({"cancel", "j-2"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("cancelled"));
}

TEST_F(FarmCommands, NodesShowDevicesAndWhatTheyDo) {
  farm::v1::NodeStatus* node = farm_->nodes.add_nodes();
  node->set_name("mini");
  node->set_connected(true);
  farm::v1::DeviceStatus* device = node->add_devices();
  device->mutable_report()->set_backend(farm::v1::MPS);
  device->mutable_report()->set_name("Apple M2");
  device->mutable_report()->set_total_bytes(16'000'000'000);
  device->mutable_memory()->set_free_bytes(9'000'000'000);
  device->set_task("j-1/frame/3");
  device->set_step(5);
  device->set_steps(20);
  EXPECT_EQ(Run({"nodes"}), 0);
  EXPECT_THAT(out_.str(),
              AllOf(HasSubstr("mps Apple M2"), HasSubstr("9.0 GB free of 16.0 GB"), HasSubstr("j-1/frame/3 5/20")));
}

TEST_F(FarmCommands, NobodyAtTheAddressIsToldWithWhatToDo) {
  EXPECT_EQ(Run({"jobs", "--farm", "unix:" + Path("nobody.sock")}), 3);
  EXPECT_THAT(err_.str(), AllOf(HasSubstr("no coordinator answers at unix:"), HasSubstr("storyfarm-coordinator")));
  EXPECT_EQ(Run({"jobs", "--json", "--farm", "unix:" + Path("nobody.sock")}), 3);
  EXPECT_EQ(Json()["error"]["exit_code"], 3);
}

TEST_F(FarmCommands, QueueListsWhatIsLeftByChapterAndWhyItWaits) {
  farm_->jobs["j-1"] = {StatusOf("j-1", farm::v1::JOB_RUNNING, 1)};
  farm::v1::JobStatus& job = farm_->jobs["j-1"].back();
  job.set_priority(70);
  farm::v1::ChapterProgress& evening = *job.add_chapters();
  evening.set_title("晴れ");
  evening.set_frames_total(9);
  evening.set_frames_failed(2);
  job.add_waiting()->set_reason("laptop: it rests: it runs on its battery");
  farm_->jobs["j-2"] = {StatusOf("j-2", farm::v1::JOB_DONE, 4)};
  farm_->jobs["j-2"].back().set_finished_unix_ms(5);
  EXPECT_EQ(Run({"queue"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("j-1  running  70        1/4"), HasSubstr("0/9 (2 failed)"),
                                HasSubstr("晴れ"), HasSubstr("j-1 waits: laptop: it rests"),
                                Not(HasSubstr("j-2"))));
  EXPECT_EQ(Run({"queue", "--json"}), 0);
  EXPECT_EQ(Json()["jobs"][0]["chapters"][1]["frames_failed"], 2);
}

TEST_F(FarmCommands, RetryAsksForAJobOrForOneTask) {
  farm_->jobs["j-1"] = {StatusOf("j-1", farm::v1::JOB_FAILED, 3)};
  farm_->jobs["j-1"].back().set_frames_failed(1);
  EXPECT_EQ(Run({"retry", "j-1/frame/3"}), 0) << err_.str();
  EXPECT_EQ(farm_->retried.at(0).task().number(), 3u);
  EXPECT_EQ(Run({"retry", "j-1"}), 5);
  EXPECT_THAT(err_.str(), HasSubstr("no task of job j-1 has failed"));
  EXPECT_EQ(Run({"retry", "j-1/frame/x"}), 2);
}

farm::v1::ReadLogResponse LogOf(uint64_t first, const std::vector<std::string>& events) {
  farm::v1::ReadLogResponse response;
  response.set_incarnation(7);
  response.set_oldest(first);
  for (const std::string& event : events) {
    farm::v1::LogLine& line = *response.add_lines();
    line.set_number(first++);
    line.set_level("info");
    line.set_event(event);
    farm::v1::LogField& field = *line.add_fields();
    field.set_name("why");
    field.set_value("it said \x1b[2J so");
  }
  response.set_next(first - 1);
  return response;
}

TEST_F(FarmCommands, LogsTellAJobATaskOrAMachineByWhatIsNamed) {
  for (int i = 0; i < 3; ++i) farm_->log.push_back(LogOf(1, {"task returned"}));
  EXPECT_EQ(Run({"logs", "j-0123456789"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("task returned  why=\"it said  [2J so\"\n"), Not(HasSubstr("\x1b"))));
  EXPECT_EQ(Run({"logs", "j-0123456789/frame/3"}), 0);
  EXPECT_EQ(Run({"logs", "attic", "--lines", "5", "--json"}), 0);
  EXPECT_EQ(Json()["fields"]["why"], "it said \x1b[2J so");
  EXPECT_EQ(farm_->log_requests[0].job_id(), "j-0123456789");
  EXPECT_EQ(farm_->log_requests[1].task().number(), 3u);
  EXPECT_EQ(farm_->log_requests[2].node(), "attic");
  EXPECT_EQ(farm_->log_requests[2].most(), 5u);
  EXPECT_EQ(Run({"logs", "cellar"}), 4) << "the farm knows no such node";
}

TEST_F(FarmCommands, FollowedLogsGoOnWhereTheyWereAndTellOfWhatWasLost) {
  farm_->log = {LogOf(4, {"four"}), LogOf(5, {"five"}), LogOf(9, {"nine"})};
  EXPECT_EQ(Run({"logs", "-f"}), 4) << "until the farm refuses";
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("four"), HasSubstr("five"), HasSubstr("nine")));
  EXPECT_THAT(err_.str(), HasSubstr("3 lines came too fast to be kept"));
  EXPECT_EQ(farm_->log_requests.at(1).after(), 4u);
  EXPECT_EQ(farm_->log_requests.at(1).incarnation(), 7u);
}

class FetchCommand : public FarmCommands {
 protected:
  void SetUp() override {
    FarmCommands::SetUp();
    farm_->jobs["j-1"] = {StatusOf("j-1", farm::v1::JOB_DONE, 4)};
    Offer("panels/000.png", "first picture");
    Offer("pages/00.png", "a page");
    Offer("story.pdf", "a book");
    Offer("latents/000.safetensors", "latents");
    farm_->outputs["j-1"].set_metadata_json("{\"title\": \"A bear\"}");
  }
  void Offer(const std::string& path, const std::string& bytes) {
    farm::v1::Output* output = farm_->outputs["j-1"].add_outputs();
    output->set_path(path);
    *output->mutable_blob() = farm_->Put(bytes);
  }
};

TEST_F(FetchCommand, BringsEveryOutputUnderItsNameAndLeavesNothingElse) {
  EXPECT_EQ(Run({"fetch", "j-1", "--out", Path("out")}), 0) << err_.str();
  EXPECT_EQ(Read(Path("out/panels/000.png")), "first picture");
  EXPECT_EQ(Read(Path("out/story.pdf")), "a book");
  EXPECT_EQ(Read(Path("out/metadata.json")), "{\"title\": \"A bear\"}");
  EXPECT_FALSE(std::filesystem::exists(Path("out/latents")));
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(Path("out"))) names.push_back(entry.path().filename());
  EXPECT_THAT(names, ::testing::UnorderedElementsAre("panels", "pages", "story.pdf", "metadata.json"));
  EXPECT_EQ(Run({"fetch", "j-1", "--out", Path("out"), "--latents"}), 0);
  EXPECT_EQ(Read(Path("out/latents/000.safetensors")), "latents");
}

TEST_F(FetchCommand, WhatIsThereAndRightIsNotFetchedAgainAndWhatIsWrongIs) {
  ASSERT_EQ(Run({"fetch", "j-1", "--out", Path("out"), "--json"}), 0);
  EXPECT_EQ(Json()["fetched"], 3);
  const int reads = farm_->reads;
  Write("out/story.pdf", "half a bo");
  ASSERT_EQ(Run({"fetch", "j-1", "--out", Path("out"), "--json"}), 0);
  EXPECT_EQ(Json()["fetched"], 1);
  EXPECT_EQ(Json()["kept"], 2);
  EXPECT_EQ(farm_->reads, reads + 1);
  EXPECT_EQ(Read(Path("out/story.pdf")), "a book");
}

TEST_F(FetchCommand, TellsWhatIsMissingAndWhy) {
  farm::v1::TaskStatus* task = farm_->jobs["j-1"].back().add_tasks();
  task->mutable_task()->set_job_id("j-1");
  task->mutable_task()->set_kind(farm::v1::TASK_FRAME);
  task->mutable_task()->set_number(3);
  task->set_state(farm::v1::TASK_FAILED);
  task->set_message("the picture is not finite");
  EXPECT_EQ(Run({"fetch", "j-1", "--out", Path("out")}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("j-1/frame/3: failed, the picture is not finite"));
  EXPECT_EQ(Read(Path("out/story.pdf")), "a book") << "the rest is fetched all the same";
}

TEST_F(FetchCommand, AnOutputThatWouldLieOutsideIsRefused) {
  Offer("../escaped.txt", "evil");
  EXPECT_NE(Run({"fetch", "j-1", "--out", Path("out")}), 0);
  EXPECT_FALSE(std::filesystem::exists(Path("escaped.txt")));
}

TEST_F(FetchCommand, BytesThatAreNotWhatTheDigestSaysAreNotKept) {
  farm_->blobs[farm_->outputs["j-1"].outputs(0).blob().digest()] = "fIrst picture";
  EXPECT_NE(Run({"fetch", "j-1", "--out", Path("out")}), 0);
  EXPECT_FALSE(std::filesystem::exists(Path("out/panels/000.png")));
}

TEST_F(FarmCommands, ModelsAddUploadsWhatIsMissingAndListShowsIt) {
  const std::string model = STORYFARM_SOURCE_DIR "/tests/data/tiny_sdxl";
  EXPECT_EQ(Run({"models", "add", "tiny", model}), 0) << err_.str();
  ASSERT_THAT(farm_->models, SizeIs(1));
  for (const farm::v1::ModelFile& file : farm_->models[0].files()) EXPECT_TRUE(farm_->Has(file.blob().digest()));
  EXPECT_EQ(farm_->models[0].digest().size(), 32u);
  EXPECT_EQ(Run({"models", "add", "again", model}), 0);
  EXPECT_THAT(err_.str(), HasSubstr("has every file already"));
  EXPECT_EQ(farm_->models[0].digest(), farm_->models[1].digest()) << "the name is no part of it";
  EXPECT_EQ(Run({"models", "list"}), 0);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("tiny"), HasSubstr("again")));
}

TEST_F(FarmCommands, ABrokenModelIsRefusedBeforeAnythingIsSent) {
  std::filesystem::copy(STORYFARM_SOURCE_DIR "/tests/data/tiny_sdxl", Path("model"),
                        std::filesystem::copy_options::recursive);
  const std::string weights = Path("model/unet/diffusion_pytorch_model.safetensors");
  std::filesystem::resize_file(weights, std::filesystem::file_size(weights) / 2);
  EXPECT_EQ(Run({"models", "add", "broken", Path("model")}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("diffusion_pytorch_model.safetensors"));
  EXPECT_EQ(Run({"models", "add", "none", Path("nowhere")}), 2);
  EXPECT_EQ(Run({"models", "add", "a name", Path("model")}), 2);
  EXPECT_THAT(farm_->blobs, SizeIs(0));
}

}  // namespace
}  // namespace storyfarm::storyctl
