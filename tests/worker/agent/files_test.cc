// What the worker keeps on disk, and the small parts of the agent.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "pipeline/base/env.h"
#include "pipeline/base/log.h"
#include "pipeline/plan/plan.h"
#include "tests/support/temp_folder.h"
#include "worker/agent/backoff.h"
#include "worker/agent/data_folder.h"
#include "worker/agent/device_engine.h"
#include "worker/agent/devices.h"
#include "worker/agent/disk_speed.h"
#include "worker/agent/inputs.h"
#include "worker/agent/outbox_files.h"
#include "worker/agent/speed_file.h"
#include "pipeline/base/task_threads.h"

namespace storyfarm::worker {
namespace {

using testing_support::TempFolder;

farm::v1::Result MakeResult(uint64_t token, uint32_t frame) {
  farm::v1::Result result;
  result.mutable_token()->set_incarnation(5);
  result.mutable_token()->set_number(token);
  result.mutable_task()->set_job_id("j-0123456789");
  result.mutable_task()->set_kind(farm::v1::TASK_FRAME);
  result.mutable_task()->set_number(frame);
  result.mutable_frame()->set_panel(frame);
  return result;
}

TEST(OutboxFiles, KeepsResultsAcrossProcessesUntilTheyAreRemoved) {
  TempFolder folder;
  base::Log log(
      base::LogFormat::kText, [](std::string_view) {}, [] { return uint64_t{0}; });
  {
    OutboxFiles files(&base::Env::Real(), &log, folder.File("outbox"));
    ASSERT_TRUE(files.Load()->empty());
    ASSERT_TRUE(files.Write(MakeResult(1, 4)).ok());
    ASSERT_TRUE(files.Write(MakeResult(1, 5)).ok());
    ASSERT_TRUE(files.Remove(MakeResult(1, 4).token(), MakeResult(1, 4).task()).ok());
    ASSERT_TRUE(files.Remove(MakeResult(9, 9).token(), MakeResult(9, 9).task()).ok()) << "absent is fine";
  }
  OutboxFiles files(&base::Env::Real(), &log, folder.File("outbox"));
  const auto loaded = files.Load();
  ASSERT_TRUE(loaded.ok());
  ASSERT_EQ(loaded->size(), 1U);
  EXPECT_EQ((*loaded)[0].SerializeAsString(), MakeResult(1, 5).SerializeAsString());
}

TEST(OutboxFiles, SetsADamagedFileAsideAndSaysSo) {
  TempFolder folder;
  std::string said;
  base::Log log(
      base::LogFormat::kText, [&said](std::string_view line) { said += line; }, [] { return uint64_t{0}; });
  OutboxFiles files(&base::Env::Real(), &log, folder.File("outbox"));
  ASSERT_TRUE(files.Load().ok());
  std::ofstream(folder.File("outbox/x.result")) << "\xff\xff no result";
  const auto loaded = files.Load();
  ASSERT_TRUE(loaded.ok());
  EXPECT_TRUE(loaded->empty());
  EXPECT_TRUE(std::filesystem::exists(folder.File("outbox/x.result.damaged")));
  EXPECT_NE(said.find("damaged"), std::string::npos);
}

TEST(DataFolder, KeepsTheNodesNameForLife) {
  TempFolder folder;
  std::string id;
  {
    const auto opened = OpenDataFolder(base::Env::Real(), folder.File("w"));
    ASSERT_TRUE(opened.ok()) << opened.status();
    id = opened->node_id;
    EXPECT_EQ(id.size(), 32U);
    EXPECT_TRUE(absl::IsAlreadyExists(OpenDataFolder(base::Env::Real(), folder.File("w")).status()));
  }
  EXPECT_EQ(OpenDataFolder(base::Env::Real(), folder.File("w"))->node_id, id);
  EXPECT_NE(OpenDataFolder(base::Env::Real(), folder.File("v"))->node_id, id);
}

TEST(DataFolder, RefusesOneFromANewerVersion) {
  TempFolder folder;
  std::filesystem::create_directory(folder.File("w"));
  std::ofstream(folder.File("w/version")) << kDataVersion + 1 << "\n";
  const auto opened = OpenDataFolder(base::Env::Real(), folder.File("w"));
  EXPECT_TRUE(absl::IsFailedPrecondition(opened.status()));
  EXPECT_NE(opened.status().message().find("newer"), absl::string_view::npos);
}

TEST(Devices, AreTheAcceleratorsOrElseTheCpu) {
  farm::v1::DeviceReport cpu, gpu;
  cpu.set_backend(farm::v1::CPU);
  gpu.set_backend(farm::v1::CUDA);
  gpu.set_ordinal(1);
  EXPECT_EQ(ChooseDevices({cpu}), std::vector<std::string>{"cpu"});
  EXPECT_EQ(ChooseDevices({cpu, gpu}), (std::vector<std::string>{"cuda:1", "cpu"})) << "memory of its own: both work";
  farm::v1::DeviceReport mps;
  mps.set_backend(farm::v1::MPS);
  mps.set_unified(true);
  EXPECT_EQ(ChooseDevices({mps, cpu}), std::vector<std::string>{"mps"}) << "they would share one memory";
  cpu.set_threads(8);
  EXPECT_EQ(CpuThreadsBeside(0, {cpu}), 8);
  EXPECT_EQ(CpuThreadsBeside(1, {gpu, cpu}), 7) << "one feeds the card";
  EXPECT_EQ(CpuThreadsBeside(9, {gpu, cpu}), 1);
}

TEST(Devices, OfferNoMoreMemoryThanTheFarmMayTake) {
  farm::v1::DeviceReport report;
  report.set_total_bytes(100);
  report.set_free_bytes(80);
  plan::LimitMemory(50, &report);
  EXPECT_EQ(report.total_bytes(), 50U);
  EXPECT_EQ(report.free_bytes(), 50U);
  farm::v1::DeviceMemory memory;
  memory.set_farm_bytes(30);
  memory.set_free_bytes(60);
  memory.set_others_bytes(10);
  LimitMemory(50, &memory);
  EXPECT_EQ(memory.free_bytes(), 20U);
  EXPECT_EQ(memory.others_bytes(), 0U) << "they take nothing of the farm's 50";
  memory.set_free_bytes(15);
  memory.set_others_bytes(55);
  LimitMemory(50, &memory);
  EXPECT_EQ(memory.free_bytes(), 15U);
  EXPECT_EQ(memory.others_bytes(), 5U);
}

TEST(Backoff, DoublesWithinBoundsAndSpreads) {
  Backoff backoff(100, 350);
  EXPECT_EQ(backoff.NextMs(0), 50);
  EXPECT_EQ(backoff.NextMs(100), 200);
  EXPECT_LE(backoff.NextMs(~uint64_t{0}), 350);
  EXPECT_LE(backoff.NextMs(~uint64_t{0}), 350);
  backoff.Reset();
  EXPECT_EQ(backoff.NextMs(0), 50);
}

TEST(TaskThreads, OneThreadKeepsTheOrderAndFinishesWhatWaits) {
  base::TaskThreads threads(1);
  std::vector<int> done;
  for (int i = 0; i < 100; ++i) threads.Post([&done, i] { done.push_back(i); });
  threads.Stop(/*finish=*/true);
  ASSERT_EQ(done.size(), 100U);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
}

TEST(Inputs, FullDisksAreNamedAsSuch) {
  EXPECT_EQ(FailureOf(absl::ResourceExhaustedError("full"), farm::v1::BLOB_UNAVAILABLE).kind(), farm::v1::DISK_FULL);
  EXPECT_EQ(FailureOf(absl::NotFoundError("gone"), farm::v1::BLOB_UNAVAILABLE).kind(), farm::v1::BLOB_UNAVAILABLE);
}

// A coordinator's blobs: none, or one that is not what its digest says.
class BadBlobs final : public farm::v1::BlobService::Service {
 public:
  grpc::Status Read(grpc::ServerContext*, const farm::v1::ReadRequest*,
                    grpc::ServerWriter<farm::v1::ReadResponse>* writer) override {
    if (bytes.empty()) return {grpc::StatusCode::NOT_FOUND, "no such blob"};
    farm::v1::ReadResponse response;
    response.set_size_bytes(bytes.size());
    response.set_data(bytes);
    writer->Write(response);
    return grpc::Status::OK;
  }
  std::string bytes;
};

TEST(Inputs, ABlobThatTheCoordinatorHasNotOrNotWholeIsNamed) {
  TempFolder folder;
  auto cache = base::FileStore::Open(base::Env::Real(), folder.File("cache"));
  ASSERT_TRUE(cache.ok());
  BadBlobs blobs;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + folder.File("s"), grpc::InsecureServerCredentials());
  builder.RegisterService(&blobs);
  const auto server = builder.BuildAndStart();
  const auto stub = farm::v1::BlobService::NewStub(
      grpc::CreateChannel("unix:" + folder.File("s"), grpc::InsecureChannelCredentials()));
  farm::v1::Work work;
  farm::v1::BlobRef& step = *work.mutable_frames()->add_banks()->add_steps();
  step = base::MakeBlobRef(base::Digest::Of("a bank"), 6);
  for (const char* served : {"", "damage"}) {
    blobs.bytes = served;
    BlobSources sources(**cache, *stub, nullptr);
    const auto inputs = FetchInputs(sources, **cache, folder.File("models"), work, {}, nullptr);
    ASSERT_FALSE(inputs.ok());
    const farm::v1::Failure failure = FailureOf(inputs.status(), farm::v1::BLOB_UNAVAILABLE);
    EXPECT_EQ(failure.kind(), farm::v1::BLOB_UNAVAILABLE);
    EXPECT_EQ(failure.missing_digest(), step.digest()) << served << ": " << inputs.status();
  }
  EXPECT_EQ(FailureOf(absl::UnavailableError("away"), farm::v1::BLOB_UNAVAILABLE).missing_digest(), "");
  server->Shutdown(std::chrono::system_clock::now());
}

TEST(Inputs, AModelLiesInAFolderOfLinksThatIsTheSameEachTime) {
  TempFolder folder;
  auto cache = base::FileStore::Open(base::Env::Real(), folder.File("cache"));
  ASSERT_TRUE(cache.ok());
  const auto stored = (*cache)->Put("weights");
  ASSERT_TRUE(stored.ok());
  farm::v1::ModelManifest model;
  model.set_digest(base::Digest::Of("m").Bytes());
  model.add_files()->set_path("unet/w.safetensors");
  *model.mutable_files(0)->mutable_blob() = base::MakeBlobRef(*stored);
  const auto first = AssembleModel(**cache, folder.File("models"), model, plan::ModelUse::kBoth);
  ASSERT_TRUE(first.ok()) << first.status();
  std::ifstream file(*first + "/unet/w.safetensors");
  std::string text;
  file >> text;
  EXPECT_EQ(text, "weights");
  EXPECT_EQ(*AssembleModel(**cache, folder.File("models"), model, plan::ModelUse::kBoth), *first);
  for (const char* path : {"../x", "/etc/x", "a//b", "./a", "", "a/.."}) {
    model.mutable_files(0)->set_path(path);
    EXPECT_TRUE(absl::IsInvalidArgument(AssembleModel(**cache, folder.File("models"), model, plan::ModelUse::kBoth).status())) << path;
  }
}

TEST(DiskSpeed, IsMeasuredAndLeavesNothingBehind) {
  TempFolder folder;
  const auto speed = MeasureDisk(folder.path());
  ASSERT_TRUE(speed.ok()) << speed.status();
  EXPECT_GT(speed->read_bytes_per_s, 100'000U);
  EXPECT_GT(speed->write_bytes_per_s, 100'000U);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_EQ(MeasureDisk(folder.File("missing")).status().code(), absl::StatusCode::kNotFound);
}

TEST(SpeedFile, GivesADeviceBackWhatItsFramesTookAndNothingToAnother) {
  TempFolder folder;
  std::string said;
  base::Log log(
      base::LogFormat::kText, [&said](std::string_view line) { said += line; }, [] { return uint64_t{0}; });
  const SpeedFile file(&base::Env::Real(), &log, folder.File("speeds"));
  farm::v1::DeviceReport card;
  card.set_backend(farm::v1::CUDA);
  card.set_name("RTX 3090");
  std::vector<farm::v1::DeviceReport> devices = {card};
  file.Recall(devices);
  EXPECT_EQ(devices[0].speeds_size(), 0);
  devices[0].add_speeds()->set_slowness(1.5);
  ASSERT_TRUE(file.Keep(devices).ok());
  std::vector<farm::v1::DeviceReport> later = {card};
  file.Recall(later);
  ASSERT_EQ(later[0].speeds_size(), 1);
  EXPECT_DOUBLE_EQ(later[0].speeds(0).slowness(), 1.5);
  later[0].clear_speeds();
  later[0].set_name("RTX 4090");
  file.Recall(later);
  EXPECT_EQ(later[0].speeds_size(), 0) << "another card is in its place";
  EXPECT_EQ(said, "");
  std::ofstream(folder.File("speeds")) << "\xff\xff no message";
  file.Recall(later);
  EXPECT_NE(said.find("learned anew"), std::string::npos);
}

}  // namespace
}  // namespace storyfarm::worker
