#include "worker/agent/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/support/temp_folder.h"
#include "worker/agent/data_folder.h"

namespace storyfarm::worker {
namespace {

using ::testing::Not;
using ::testing::HasSubstr;
using testing_support::TempFolder;

class PlayedMachine final : public Machine {
 public:
  std::optional<bool> OnMains() override { return mains; }
  std::optional<int64_t> IdleSeconds() override { return idle_s; }
  std::optional<bool> TooHot() override { return hot; }
  std::optional<bool> mains = true, hot = false;
  std::optional<int64_t> idle_s = 3600;
};

class PlayedWakefulness final : public Wakefulness {
 public:
  absl::Status Hold() override { return absl::OkStatus(); }
  absl::Status Try() override { return status; }
  void LetGo() override {}
  absl::Status status;
};

farm::v1::DeviceReport Report(farm::v1::Backend backend, const std::string& name, uint64_t free_bytes) {
  farm::v1::DeviceReport report;
  report.set_backend(backend);
  report.set_name(name);
  report.set_free_bytes(free_bytes);
  report.set_total_bytes(16'000'000'000);
  report.set_unified(backend == farm::v1::MPS);
  return report;
}

// A machine on which all is well; each test spoils one thing.
class DoctorTest : public ::testing::Test {
 protected:
  DoctorTest() {
    options_.data_folder = folder_.File("worker");
    options_.link.coordinator = "unix:/tmp/s";
    options_.link.trust_folder = folder_.File("worker/trust");
    options_.owner.cool_only = true;
    parts_.env = &base::Env::Real();
    parts_.variables = [this](const std::string& name) { return variables_[name]; };
    parts_.machine = &machine_;
    parts_.wakefulness = &wakefulness_;
    parts_.minute_of_week = [] { return 12 * 60; };
    parts_.engine_program = "/opt/bin/storyfarm-engine";
    parts_.engine_version = [this] { return version_; };
    parts_.probe = [this](const std::string& device, bool all) -> absl::StatusOr<std::vector<farm::v1::DeviceReport>> {
      if (all || device == "cpu") return reports_;
      return absl::NotFoundError("this machine has no " + device);
    };
    parts_.call_farm = [this] { return farm_; };
  }

  // The worst that is said of a subject.
  Finding Of(const std::string& subject) {
    Finding worst;
    for (const Finding& finding : Examine(options_, parts_)) {
      if (finding.subject == subject && finding.kind >= worst.kind) worst = finding;
    }
    return worst;
  }
  // That this subject has a problem, and says these words of it.
  void ExpectProblem(const std::string& subject, const std::string& words) {
    const Finding finding = Of(subject);
    EXPECT_EQ(finding.kind, Finding::kProblem) << subject << ": " << finding.text;
    EXPECT_THAT(finding.text + " " + finding.advice, HasSubstr(words));
    EXPECT_TRUE(AnyProblem(Examine(options_, parts_)));
  }

  TempFolder folder_;
  AgentOptions options_;
  DoctorParts parts_;
  PlayedMachine machine_;
  PlayedWakefulness wakefulness_;
  std::map<std::string, std::string> variables_;
  absl::StatusOr<std::string> version_ = "storyfarm-engine 0.1.0 with libtorch 2.11.0\n";
  std::vector<farm::v1::DeviceReport> reports_ = {Report(farm::v1::MPS, "Apple M2", 9'000'000'000),
                                                  Report(farm::v1::CPU, "Apple M2", 9'000'000'000)};
  absl::Status farm_;
};

TEST_F(DoctorTest, AHealthyMachineHasNoProblemAndEverySubjectIsSpokenOf) {
  const std::vector<Finding> findings = Examine(options_, parts_);
  EXPECT_FALSE(AnyProblem(findings)) << FindingsText(findings);
  const std::string text = FindingsText(findings);
  for (const char* said : {"data folder", "farm", "libtorch 2.11.0", "mps", "Apple M2, 9.0 GB free", "owner", "sleep"}) {
    EXPECT_THAT(text, HasSubstr(said));
  }
  EXPECT_THAT(text, Not(HasSubstr("\nok       cpu"))) << "on a Mac the GPU works alone";
}

TEST_F(DoctorTest, LeavesTheDataFolderAsAWorkerWouldFindIt) {
  Examine(options_, parts_);
  EXPECT_FALSE(std::filesystem::exists(options_.data_folder + "/doctor"));
  EXPECT_TRUE(OpenDataFolder(base::Env::Real(), options_.data_folder).ok()) << "its lock was let go";
}

TEST_F(DoctorTest, AWorkerThatRunsIsNotDisturbed) {
  const auto running = OpenDataFolder(base::Env::Real(), options_.data_folder);
  ASSERT_TRUE(running.ok());
  EXPECT_EQ(Of("data folder").kind, Finding::kGood);
  EXPECT_THAT(Of("data folder").text, HasSubstr("a worker runs on it now"));
}

TEST_F(DoctorTest, ADataFolderThatIsAFileIsAProblem) {
  options_.data_folder = folder_.File("file");
  ASSERT_TRUE(base::Env::Real().WriteFileDurably(options_.data_folder, "x").ok());
  ExpectProblem("data folder", "--data");
}

TEST_F(DoctorTest, AFarmThatIsFarAndWasNeverJoinedIsAProblemWithTheWayToJoin) {
  options_.link.coordinator = "tls:192.168.1.5:7850";
  ExpectProblem("farm", "storyfarm-worker --join");
}

TEST_F(DoctorTest, AFarmThatDoesNotAnswerOrDoesNotKnowThisMachineIsAProblem) {
  farm_ = absl::UnavailableError("connection refused");
  ExpectProblem("farm", "does not answer: connection refused");
  farm_ = absl::UnauthenticatedError("this member was removed");
  ExpectProblem("farm", "refuses this machine: this member was removed");
  farm_ = absl::UnimplementedError("");
  ExpectProblem("farm", "no storyfarm coordinator");
}

TEST_F(DoctorTest, AnEngineThatIsMissingOrDoesNotStartIsAProblem) {
  parts_.engine_program = absl::NotFoundError("no storyfarm-engine at /opt/bin/storyfarm-engine");
  ExpectProblem("engine", "no storyfarm-engine at");
  parts_.engine_program = "/opt/bin/storyfarm-engine";
  version_ = absl::InternalError("it exited with code 127");
  ExpectProblem("engine", "libtorch is not where it was built against");
  version_ = "storyfarm-engine";
  parts_.probe = [](const std::string&, bool) { return absl::UnavailableError("the engine was killed by signal 6"); };
  ExpectProblem("engine", "killed by signal 6");
}

TEST_F(DoctorTest, AnNvidiaDriverWithoutAUsableCardIsAProblem) {
  parts_.nvidia_driver = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15";
  ExpectProblem("graphics card", "570.86.15");
  EXPECT_THAT(Of("graphics card").text, HasSubstr("this machine has no cuda:0")) << "the engine's own words";
  reports_.insert(reports_.begin(), Report(farm::v1::CUDA, "NVIDIA H100", 80'000'000'000));
  EXPECT_EQ(Of("graphics card").text, "");
}

TEST_F(DoctorTest, ADeviceThatWasNamedAndIsNotThereIsAProblem) {
  options_.devices = {"cuda:3"};
  ExpectProblem("cuda:3", "--devices");
}

TEST_F(DoctorTest, ADeviceWithoutRoomIsWorthANote) {
  reports_[0].set_free_bytes(1'000'000'000);
  EXPECT_EQ(Of("mps").kind, Finding::kNote);
  EXPECT_THAT(Of("mps").text, HasSubstr("2.5 GB"));
}

TEST_F(DoctorTest, WatermarksThatContradictEachOtherAreAProblemAndOthersANote) {
  variables_["PYTORCH_MPS_HIGH_WATERMARK_RATIO"] = "0.7";
  ExpectProblem("memory", "PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.7 would stop every engine");
  variables_["PYTORCH_MPS_LOW_WATERMARK_RATIO"] = "0.5";
  EXPECT_EQ(Of("memory").kind, Finding::kNote);
  variables_["PYTORCH_MPS_HIGH_WATERMARK_RATIO"] = "0.0";
  EXPECT_EQ(Of("memory").kind, Finding::kNote) << "0 is no limit";
  variables_["PYTORCH_MPS_HIGH_WATERMARK_RATIO"] = "2.5";
  ExpectProblem("memory", "2 at most");
  variables_["PYTORCH_MPS_LOW_WATERMARK_RATIO"] = "much";
  ExpectProblem("memory", "LOW_WATERMARK_RATIO=much");
}

TEST_F(DoctorTest, AMemoryLimitUnderTheSmallestPlanIsAProblem) {
  options_.memory_limit_bytes = 2'000'000'000;
  ExpectProblem("memory", "lends the farm 2.0 GB");
  options_.memory_limit_bytes = 4'000'000'000;
  EXPECT_EQ(Of("memory").text, "");
}

TEST_F(DoctorTest, AnOwnersRuleThatRestsItNowIsANoteAndOneThatNeverLetsItWorkAProblem) {
  options_.owner.mains_only = true;
  machine_.mains = false;
  EXPECT_EQ(Of("owner").kind, Finding::kNote);
  EXPECT_THAT(Of("owner").text, HasSubstr("it runs on its battery"));
  machine_.mains = std::nullopt;
  ExpectProblem("owner", "--power");
  options_.owner.mains_only = false;
  machine_.hot = true;
  EXPECT_THAT(Of("owner").text, HasSubstr("it is too hot"));
}

TEST_F(DoctorTest, AMachineThatMayFallAsleepIsWorthANote) {
  wakefulness_.status = absl::UnavailableError("there is no logind");
  EXPECT_EQ(Of("sleep").kind, Finding::kNote);
  EXPECT_THAT(Of("sleep").text, HasSubstr("there is no logind"));
}

TEST_F(DoctorTest, JsonHasTheSameFindings) {
  farm_ = absl::UnavailableError("connection refused");
  const auto json = nlohmann::json::parse(FindingsJson(Examine(options_, parts_)));
  EXPECT_EQ(json["problems"], 1);
  EXPECT_EQ(json["findings"][1]["subject"], "farm");
  EXPECT_EQ(json["findings"][1]["kind"], "problem");
  EXPECT_NE(json["findings"][1]["advice"], "");
}

}  // namespace
}  // namespace storyfarm::worker
