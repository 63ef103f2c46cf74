// Starting, stopping and starting again.
#include <future>

#include "coordinator/rpc/loop.h"
#include "coordinator/store/private_redis.h"
#include "coordinator/store/redis_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/rpc/scripted_worker.h"
#include "tests/coordinator/rpc/test_farm.h"

namespace storyfarm::coordinator {
namespace {

using testing::HasSubstr;

// Renders two results, restarts the server with `store` anew, renders the rest.
void GoOnAfterRestart(TestFarm& farm, const std::function<std::unique_ptr<Store>()>& store) {
  farm.MustStart(store());
  std::string job_id;
  std::vector<std::string> before;
  {
    Client client = farm.Connect();
    client.AddTinyModel();
    job_id = client.MustSubmit("k1");
    ScriptedWorker worker(farm.target(), "node-a", 2);
    ASSERT_TRUE(worker.WaitForAccepted(2));
    before = worker.done();
    farm.Kill();
  }
  farm.MustStart(store());
  Client client = farm.Connect();
  farm::v1::JobStatus status;
  ASSERT_TRUE(client.GetJob(job_id, &status, true).ok());
  int done = 0;
  for (const farm::v1::TaskStatus& task : status.tasks()) done += task.state() == farm::v1::TASK_DONE ? 1 : 0;
  EXPECT_GE(done, 2) << "accepted results stay";
  farm::v1::SubmitResponse again;
  ASSERT_TRUE(client.Submit("k1", kStory, &again).ok());
  EXPECT_TRUE(again.existed());
  EXPECT_EQ(again.job_id(), job_id);

  ScriptedWorker worker(farm.target(), "node-a");
  const std::vector<farm::v1::JobStatus> seen = client.WatchToTheEnd(job_id);
  EXPECT_EQ(seen.back().state(), farm::v1::JOB_DONE);
  for (const std::string& task : before) {
    EXPECT_THAT(worker.done(), testing::Not(testing::Contains(task))) << "was rendered twice";
  }
}

TEST(Server, ARestartMidwayGoesOnWhereItStood) {
  TestFarm farm;
  GoOnAfterRestart(farm, [&farm] { return std::make_unique<MemoryStore>(farm.shared_disk()); });
}

TEST(Server, ARestartMidwayGoesOnWhereItStoodInRedis) {
  TestFarm farm;
  PrivateRedisOptions options;
  options.data_folder = farm.folder();
  auto redis = PrivateRedis::Start(&base::Env::Real(), options);
  ASSERT_TRUE(redis.ok()) << redis.status();
  GoOnAfterRestart(farm, [&redis] { return std::make_unique<RedisStore>((*redis)->Options(), "test"); });
  farm.Kill();
}

TEST(Server, ATakeOverByAnotherCoordinatorEndsThisOne) {
  TestFarm farm;
  farm.MustStart();
  Client client = farm.Connect();
  client.AddTinyModel();
  farm::v1::AddModelRequest request;
  *request.mutable_model() = client.UploadModel("tiny", std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tiny_sdxl");
  request.mutable_model()->set_name("another");
  MemoryStore other(farm.shared_disk());
  ASSERT_TRUE(other.TakeOver().ok());
  grpc::Status status;
  std::thread add([&] {
    grpc::ClientContext context;
    farm::v1::ModelManifest answer;
    status = client.farm->AddModel(&context, request, &answer);
  });
  const absl::Status why = farm.server().Wait();
  add.join();
  EXPECT_TRUE(absl::IsAborted(why)) << why;
  EXPECT_THAT(std::string(why.message()), HasSubstr("took this farm's store over"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << "what is not durable is not confirmed";
}

TEST(Server, AStoreThatStumblesLosesNothingAndDoublesNothing) {
  TestFarm farm;
  farm.MustStart();
  Client client = farm.Connect();
  client.AddTinyModel();
  farm.disk().Break(MemoryDisk::Accident::kAnswerLost, 3);
  const std::string first = client.MustSubmit("k1");
  farm.disk().Break(MemoryDisk::Accident::kRefused, 1);
  const std::string second = client.MustSubmit("k2");
  farm.Kill();
  farm.MustStart();
  Client after = farm.Connect();
  farm::v1::ListJobsResponse jobs;
  grpc::ClientContext context;
  ASSERT_TRUE(after.farm->ListJobs(&context, {}, &jobs).ok());
  ASSERT_EQ(jobs.jobs_size(), 2);
  EXPECT_EQ(jobs.jobs(0).job_id(), second);
  EXPECT_EQ(jobs.jobs(1).job_id(), first);
}

TEST(Server, DrainAnswersWhatItTookAndEndsTheStreams) {
  TestFarm farm;
  farm.MustStart();
  Client client = farm.Connect();
  client.AddTinyModel();
  const std::string job_id = client.MustSubmit("k1");
  farm::v1::GetJobRequest request;
  request.set_job_id(job_id);
  grpc::ClientContext context;
  const auto watch = client.farm->WatchJob(&context, request);
  farm::v1::JobStatus status;
  ASSERT_TRUE(watch->Read(&status));
  farm.server().Drain();
  EXPECT_TRUE(farm.server().Wait().ok());
  while (watch->Read(&status)) {
  }
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(client.GetJob(job_id, &status).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(Server, APortOfAnotherProgramIsAnErrorThatNamesIt) {
  TestFarm first;
  ServerOptions options;
  options.listen = "localhost:0";
  ASSERT_TRUE(first.Start(options).ok());
  ASSERT_GT(first.server().port(), 0);
  Client client("127.0.0.1:" + std::to_string(first.server().port()));
  grpc::ClientContext context;
  farm::v1::ListNodesResponse nodes;
  EXPECT_TRUE(client.farm->ListNodes(&context, {}, &nodes).ok());

  TestFarm second;
  options.listen = "127.0.0.1:" + std::to_string(first.server().port());
  const absl::Status status = second.Start(options);
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(options.listen));
}

TEST(Server, AnAddressThatOthersReachIsRefused) {
  for (const std::string listen : {"0.0.0.0:0", "192.168.0.7:0", "[::]:0", "example.org:0", "127.0.0.1", "7777"}) {
    TestFarm farm;
    ServerOptions options;
    options.listen = listen;
    EXPECT_TRUE(absl::IsInvalidArgument(farm.Start(options))) << listen;
  }
}

TEST(Server, ASocketInUseIsNotTakenAway) {
  TestFarm first;
  first.MustStart();
  TestFarm second;
  ServerOptions options;
  options.socket_path = first.folder() + "/coordinator.sock";
  EXPECT_TRUE(absl::IsAlreadyExists(second.Start(options)));
  Client client = first.Connect();
  farm::v1::ListNodesResponse nodes;
  grpc::ClientContext context;
  EXPECT_TRUE(client.farm->ListNodes(&context, {}, &nodes).ok());
}

TEST(Loop, SnapshotsStandForTheLogAndTheNextStartReadsThem) {
  auto disk = std::make_shared<MemoryDisk>();
  MemoryStore store(disk);
  base::Log log(
      base::LogFormat::kText, [](std::string_view) {}, [] { return uint64_t{0}; });
  Loop::Options options;
  options.snapshots.records = 1;
  uint64_t drawn = 0;
  const Loop::Parts parts{&base::Env::Real(), &log, &store, [&drawn] { return ++drawn; }};
  const auto add_model = [](Loop& loop, const std::string& name) {
    std::promise<absl::Status> done;
    loop.Ask(
        [&name](uint64_t request) {
          AddModel input;
          input.request = request;
          input.model.set_name(name);
          input.model.set_digest(std::string(32, name[0]));
          input.model.mutable_profile();
          return Input(std::move(input));
        },
        [&done](const Reply& reply) { done.set_value(reply.status); });
    return done.get_future().get();
  };
  const Loop::Outputs outputs{[](uint64_t, farm::v1::CoordinatorMessage) {}, [](uint64_t, const absl::Status&) {},
                              [](const std::vector<std::string>&) {}, [](const absl::Status&) {}};
  bool snapshot_seen = false;
  size_t models = 0;
  // A snapshot is saved on a thread of its own: each turn adds a record, until one is there.
  while (!snapshot_seen) {
    auto loop = Loop::Load(options, parts);
    ASSERT_TRUE(loop.ok()) << loop.status();
    (*loop)->Run(outputs);
    ASSERT_TRUE(add_model(**loop, std::string(1, static_cast<char>('a' + models % 26)) + std::to_string(models)).ok());
    ++models;
    loop->reset();
    MemoryStore reader(disk);
    ASSERT_TRUE(reader
                    .Load(
                        [&snapshot_seen](const Snapshot&) {
                          snapshot_seen = true;
                          return absl::OkStatus();
                        },
                        [](const farm::v1::RecordBatch&) { return absl::OkStatus(); })
                    .ok());
  }
  auto loop = Loop::Load(options, parts);
  ASSERT_TRUE(loop.ok()) << loop.status();
  (*loop)->Run(outputs);
  std::promise<size_t> counted;
  size_t count = 0;
  (*loop)->Look([&count](const Farm& farm, const Time&) { count = farm.ListModels().size(); },
                [&](const absl::Status&) { counted.set_value(count); });
  EXPECT_EQ(counted.get_future().get(), models);
}

}  // namespace
}  // namespace storyfarm::coordinator
