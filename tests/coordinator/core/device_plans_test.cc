// Plans follow what devices report: SDXL, the real planner, the real core, and machines as they come.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/farm.h"
#include "coordinator/core/fleet.h"
#include "tests/pipeline/plan/shapes.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::MemoryPressure;
using ::testing::HasSubstr;

constexpr uint64_t kGigabyte = 1'000'000'000;

// A farm with one story of single panels that no identity binds, and workers that a test plays.
class PlansTest : public ::testing::Test {
 protected:
  PlansTest() : farm_(&planner_) {
    Started started;
    started.incarnation = 1;
    Step(started);
    farm::v1::ModelManifest model = plan::Manifest(plan::SdxlProfile());
    plan::Expansion expansion = plan::ExpandStory(plan::StoryOf(0, std::vector<std::vector<uint32_t>>(30)), model);
    EXPECT_TRUE(expansion.ok());
    expansion.job.set_job_id("j-1");
    expansion.job.set_idempotency_key("k");
    expansion.job.set_request_digest(std::string(32, 'r'));
    SubmitJob submit;
    submit.request = 1;
    submit.spec = std::move(expansion.job);
    EXPECT_TRUE(Step(std::move(submit)).replies.at(0).status.ok());
  }

  Decisions Step(Input input) {
    Decisions out = farm_.Step({now_ms_, 0}, std::move(input));
    for (const auto& message : out.messages) {
      if (message.message.has_grant()) grants_.push_back(message.message.grant());
    }
    return out;
  }

  static farm::v1::DeviceReport Report(farm::v1::Backend backend, uint64_t total_gb, double tflops,
                                       uint32_t index = 0) {
    farm::v1::DeviceReport report = plan::Device(backend, total_gb * kGigabyte, tflops);
    report.set_index(index);
    if (backend == farm::v1::MPS) report.set_recommended_max_bytes(total_gb * kGigabyte * 2 / 3);
    return report;
  }
  void Connect(const std::vector<farm::v1::DeviceReport>& devices) {
    WorkerConnected connected;
    connected.session = 1;
    connected.hello.set_protocol_version(kProtocolVersion);
    connected.hello.set_node_id("node");
    connected.hello.set_node_name("node");
    for (const auto& device : devices) *connected.hello.add_devices() = device;
    Step(std::move(connected));
  }
  // What the device's memory is now; what is granted then comes to grants_. Nothing is held any more.
  void Beat(uint64_t others_gb, uint64_t free_gb, MemoryPressure pressure = farm::v1::PRESSURE_NORMAL) {
    WorkerSaid said;
    said.session = 1;
    farm::v1::DeviceMemory& memory = *said.message.mutable_heartbeat()->add_memory();
    memory.set_others_bytes(others_gb * kGigabyte);
    memory.set_free_bytes(free_gb * kGigabyte);
    memory.set_pressure(pressure);
    Step(std::move(said));
  }
  void Fault(const farm::v1::Grant& grant, farm::v1::FailureKind kind, uint64_t needed_bytes) {
    WorkerSaid said;
    said.session = 1;
    farm::v1::TaskFault& fault = *said.message.mutable_fault();
    *fault.mutable_token() = grant.token();
    *fault.mutable_tasks() = grant.tasks();
    fault.mutable_failure()->set_kind(kind);
    fault.mutable_failure()->set_message("the memory is taken");
    fault.mutable_failure()->set_needed_bytes(needed_bytes);
    Step(std::move(said));
  }
  void GiveAllBack(farm::v1::FailureKind kind) {
    std::vector<farm::v1::Grant> held;
    held.swap(grants_);
    for (const auto& grant : held) Fault(grant, kind, grant.work().frames().plan().predicted_peak_bytes());
  }
  // Time passes until something is granted, for as long as a device is ever left alone; the node is heard of meanwhile
  // with this memory.
  void Wait(uint64_t others_gb, uint64_t free_gb) {
    for (const int64_t until = now_ms_ + Limits().set_aside_ms * 3 / 2; now_ms_ < until && grants_.empty();) {
      Beat(others_gb, free_gb);
      now_ms_ += kTickMs;
      Step(Tick{});
    }
  }
  farm::v1::JobStatus Status() { return *farm_.GetJob({now_ms_, 0}, "j-1", false); }
  std::optional<farm::v1::MemoryPlan> Plan() const {
    if (grants_.empty()) return std::nullopt;
    return grants_.front().work().frames().plan();
  }

  PipelinePlanner planner_;
  Farm farm_;
  int64_t now_ms_ = 0;
  std::vector<farm::v1::Grant> grants_;
};

TEST_F(PlansTest, AFullCardFallsBackToTheNextPlanAndNotToFailure) {
  Connect({Report(farm::v1::CUDA, 24, 35)});
  ASSERT_TRUE(Plan().has_value());
  const farm::v1::MemoryPlan roomy = *Plan();
  // Something else took the card between the plan and the run, again and again: never the frames' fault.
  for (int i = 0; i < 4; ++i) {
    GiveAllBack(farm::v1::OUT_OF_MEMORY);
    Wait(/*others_gb=*/16, /*free_gb=*/8);
    ASSERT_TRUE(Plan().has_value()) << "round " << i;
    EXPECT_LE(Plan()->predicted_peak_bytes(), 8 * kGigabyte);
  }
  EXPECT_LT(Plan()->predicted_peak_bytes(), roomy.predicted_peak_bytes());
  EXPECT_NE(Plan()->SerializeAsString(), roomy.SerializeAsString());
  EXPECT_EQ(Status().frames_failed(), 0u);
  GiveAllBack(farm::v1::OUT_OF_MEMORY);
  Wait(/*others_gb=*/23, /*free_gb=*/1);
  EXPECT_FALSE(Plan().has_value());
  EXPECT_EQ(Status().frames_failed(), 0u) << "it waits";
  ASSERT_EQ(Status().waiting_size(), 1);
  EXPECT_THAT(Status().waiting(0).reason(), HasSubstr("node"));
  EXPECT_GT(Status().waiting(0).needed_bytes(), kGigabyte) << "and says how much would do";
  Wait(/*others_gb=*/0, /*free_gb=*/24);
  ASSERT_TRUE(Plan().has_value());
  EXPECT_GT(Plan()->predicted_peak_bytes(), 8 * kGigabyte) << "the card is free again";
}

TEST_F(PlansTest, AMacUnderPressureGetsASmallerPlan) {
  Connect({Report(farm::v1::MPS, 32, 5)});
  std::vector<uint64_t> peaks;
  for (const auto pressure : {farm::v1::PRESSURE_NORMAL, farm::v1::PRESSURE_WARNING}) {
    GiveAllBack(farm::v1::FAILURE_KIND_UNSPECIFIED);
    grants_.clear();
    now_ms_ += 600'000;
    Beat(10, 17, pressure);
    Step(Tick{});
    ASSERT_TRUE(Plan().has_value()) << farm::v1::MemoryPressure_Name(pressure);
    peaks.push_back(Plan()->predicted_peak_bytes());
  }
  EXPECT_LE(peaks[1], 17 * kGigabyte / 2) << "half of what is free";
  EXPECT_LT(peaks[1], peaks[0]);
}

TEST_F(PlansTest, ANodeWithACardAndACpuUsesBoth) {
  Connect({Report(farm::v1::CUDA, 24, 10, 0), Report(farm::v1::CPU, 64, 2, 1)});
  for (int i = 0; i < 40; ++i) {
    now_ms_ += kTickMs;
    Step(Tick{});
  }
  std::vector<uint32_t> devices;
  for (const auto& grant : grants_) {
    devices.push_back(grant.device());
    EXPECT_EQ(grant.work().frames().plan().backend(), grant.device() == 0 ? farm::v1::CUDA : farm::v1::CPU);
  }
  EXPECT_THAT(devices, ::testing::IsSupersetOf({0u, 1u}));
}

// What a device reports, and what SDXL at 1024 x 1024 makes of it.
TEST(DevicePlans, FollowTheReportLineByLine) {
  struct Row {
    const char* what;
    farm::v1::Backend backend;
    uint64_t total_gb, farm_gb, others_gb, free_gb;
    MemoryPressure pressure;
    uint64_t most_gb;  // that the plan may take; 0: it waits
  };
  const MemoryPressure kCalm = farm::v1::PRESSURE_NORMAL;
  for (const Row& row : std::vector<Row>{
           {"a card of its own", farm::v1::CUDA, 24, 0, 0, 24, farm::v1::MEMORY_PRESSURE_UNSPECIFIED, 24},
           {"a card that somebody plays on", farm::v1::CUDA, 24, 0, 14, 10, farm::v1::MEMORY_PRESSURE_UNSPECIFIED, 10},
           {"a card that is full", farm::v1::CUDA, 24, 0, 24, 0, farm::v1::MEMORY_PRESSURE_UNSPECIFIED, 0},
           {"a card whose engine is warm", farm::v1::CUDA, 12, 9, 2, 1, farm::v1::MEMORY_PRESSURE_UNSPECIFIED, 10},
           {"a Mac at rest", farm::v1::MPS, 32, 0, 10, 22, kCalm, 21},
           {"a Mac at a warning", farm::v1::MPS, 32, 0, 10, 22, farm::v1::PRESSURE_WARNING, 11},
           {"a Mac in distress", farm::v1::MPS, 32, 0, 10, 22, farm::v1::PRESSURE_CRITICAL, 0},
           {"a Mac in distress with a warm engine", farm::v1::MPS, 32, 12, 10, 10, farm::v1::PRESSURE_CRITICAL, 12},
           {"a processor with room", farm::v1::CPU, 64, 0, 4, 60, kCalm, 60},
       }) {
    Device device;
    device.report = plan::Device(row.backend, row.total_gb * kGigabyte, 10);
    if (row.backend == farm::v1::MPS) device.report.set_recommended_max_bytes(row.total_gb * kGigabyte * 2 / 3);
    device.memory.set_farm_bytes(row.farm_gb * kGigabyte);
    device.memory.set_others_bytes(row.others_gb * kGigabyte);
    device.memory.set_free_bytes(row.free_gb * kGigabyte);
    device.memory.set_pressure(row.pressure);
    device.UpdatePlanKey();
    const plan::PlanOrRefusal answer = plan::PlanGroup(plan::SdxlProfile(), device.report, plan::Group(1024, 4, 0));
    const auto* plan = std::get_if<farm::v1::MemoryPlan>(&answer);
    EXPECT_EQ(plan != nullptr, row.most_gb > 0) << row.what;
    if (plan != nullptr) {
      EXPECT_LE(plan->predicted_peak_bytes(), row.most_gb * kGigabyte) << row.what;
    }
  }
}

// What is free is rounded, so that plans are not asked for again with each heartbeat: on a device that a limit makes
// small, more finely.
TEST(DevicePlans, CountOnAlmostAllThatASmallDeviceHas) {
  Device device;
  device.report = plan::Device(farm::v1::CPU, 1, 0.1);
  for (const uint64_t total_mb : {324, 332, 2000, 16000}) {
    device.report.set_total_bytes(total_mb * 1'000'000);
    device.memory.set_farm_bytes(total_mb * 400'000);
    device.memory.set_free_bytes(total_mb * 600'000 - 1000);
    device.UpdatePlanKey();
    EXPECT_LE(device.report.free_bytes(), total_mb * 1'000'000);
    EXPECT_GT(device.report.free_bytes(), total_mb * 980'000) << total_mb;
  }
}

}  // namespace
}  // namespace storyfarm::coordinator
