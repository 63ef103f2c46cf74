#include "tests/worker/core/bench.h"

#include <gtest/gtest.h>

#include <utility>

namespace storyfarm::worker {
namespace {

constexpr char kJob[] = "j-0123456789";
constexpr uint64_t kPlannedBytes = 1'000'000'000;

Self MakeSelf(uint32_t devices, bool unified) {
  Self self;
  self.software_version = "test";
  self.node_id = "00112233445566778899aabbccddeeff";
  self.node_name = "bench";
  for (uint32_t i = 0; i < devices; ++i) {
    farm::v1::DeviceReport report;
    report.set_index(i);
    report.set_unified(unified);
    report.set_name("cpu");
    report.set_free_bytes(8'000'000'000);
    self.devices.push_back(report);
  }
  return self;
}

void FillPlan(farm::v1::MemoryPlan* plan, uint32_t batch, bool phases) {
  plan->set_batch(batch);
  plan->set_text_encoders_in_phases(phases);
  plan->set_predicted_peak_bytes(kPlannedBytes);
}

}  // namespace

farm::v1::FencingToken Token(uint64_t number) {
  farm::v1::FencingToken token;
  token.set_incarnation(77);
  token.set_number(number);
  return token;
}

farm::v1::TaskId FrameTask(uint32_t number) {
  farm::v1::TaskId task;
  task.set_job_id(kJob);
  task.set_kind(farm::v1::TASK_FRAME);
  task.set_number(number);
  return task;
}

farm::v1::BlobRef Blob(const std::string& name) {
  farm::v1::BlobRef blob;
  blob.set_digest(name);
  blob.set_size_bytes(name.size());
  return blob;
}

farm::v1::CoordinatorMessage FramesGrant(uint64_t token, uint32_t device, uint32_t first, uint32_t count,
                                         uint32_t batch, bool phases) {
  farm::v1::CoordinatorMessage message;
  farm::v1::Grant* grant = message.mutable_grant();
  *grant->mutable_token() = Token(token);
  grant->set_device(device);
  farm::v1::FramesWork* work = grant->mutable_work()->mutable_frames();
  work->mutable_model()->set_digest("model");
  FillPlan(work->mutable_plan(), batch, phases);
  for (uint32_t i = first; i < first + count; ++i) {
    *grant->add_tasks() = FrameTask(i);
    farm::v1::Frame* frame = work->add_frames();
    frame->set_panel(i);
    frame->set_width(64);
    frame->set_height(64);
  }
  return message;
}

farm::v1::CoordinatorMessage IdentityGrant(uint64_t token, uint32_t device) {
  farm::v1::CoordinatorMessage message;
  farm::v1::Grant* grant = message.mutable_grant();
  *grant->mutable_token() = Token(token);
  grant->set_device(device);
  farm::v1::TaskId* task = grant->add_tasks();
  task->set_job_id(kJob);
  task->set_kind(farm::v1::TASK_IDENTITY);
  farm::v1::IdentityWork* work = grant->mutable_work()->mutable_identity();
  work->set_character(2);
  work->set_character_key("key");
  FillPlan(work->mutable_plan(), 2, false);
  for (uint32_t i = 0; i < 2; ++i) {
    work->add_frames()->set_panel(i);
    work->mutable_frames(static_cast<int>(i))->set_hidden(i == 1);
  }
  return message;
}

farm::v1::CoordinatorMessage TextGrant(uint64_t token, uint32_t device) {
  farm::v1::CoordinatorMessage message;
  farm::v1::Grant* grant = message.mutable_grant();
  *grant->mutable_token() = Token(token);
  grant->set_device(device);
  farm::v1::TaskId* task = grant->add_tasks();
  task->set_job_id(kJob);
  task->set_kind(farm::v1::TASK_TEXT);
  grant->mutable_work()->mutable_text()->add_texts("a cat");
  FillPlan(grant->mutable_work()->mutable_text()->mutable_plan(), 1, false);
  return message;
}

farm::v1::CoordinatorMessage PageGrant(uint64_t token, uint32_t device) {
  farm::v1::CoordinatorMessage message;
  farm::v1::Grant* grant = message.mutable_grant();
  *grant->mutable_token() = Token(token);
  grant->set_device(device);
  farm::v1::TaskId* task = grant->add_tasks();
  task->set_job_id(kJob);
  task->set_kind(farm::v1::TASK_PAGE);
  grant->mutable_work()->mutable_page()->add_pages();
  return message;
}

farm::v1::CoordinatorMessage Verdict(uint64_t token, const farm::v1::TaskId& task, farm::v1::Verdict verdict,
                                     const std::vector<std::string>& missing) {
  farm::v1::CoordinatorMessage message;
  farm::v1::ResultVerdict* body = message.mutable_verdict();
  *body->mutable_token() = Token(token);
  *body->mutable_task() = task;
  body->set_verdict(verdict);
  for (const std::string& digest : missing) body->add_missing_digests(digest);
  return message;
}

farm::v1::DeviceMemory Memory(uint32_t device, uint64_t free_bytes) {
  farm::v1::DeviceMemory memory;
  memory.set_index(device);
  memory.set_free_bytes(free_bytes);
  return memory;
}

farm::v1::FrameResult Frame(uint32_t panel) {
  farm::v1::FrameResult result;
  result.set_panel(panel);
  *result.mutable_image() = Blob("image" + std::to_string(panel));
  *result.mutable_latents() = Blob("latents" + std::to_string(panel));
  return result;
}

FrameStored Stored(uint64_t run, uint32_t panel) {
  FrameStored stored;
  stored.run = run;
  stored.result = Frame(panel);
  return stored;
}

Bench::Bench(uint32_t devices, std::vector<farm::v1::Result> outbox, const Limits& limits, bool unified)
    : session(MakeSelf(devices, unified), std::move(outbox), limits) {
  for (uint32_t i = 0; i < devices; ++i) Do(EngineReady{i});
}

Actions Bench::Do(Event event) {
  Actions actions = session.Step(now_ms, std::move(event));
  done.insert(done.end(), actions.begin(), actions.end());
  return actions;
}

void Bench::Start() {
  Do(Connected{});
  Welcome({});
}

void Bench::Welcome(const farm::v1::Welcome& welcome) {
  farm::v1::CoordinatorMessage message;
  *message.mutable_welcome() = welcome;
  message.mutable_welcome()->set_heartbeat_ms(2000);
  message.mutable_welcome()->set_lease_ms(kLeaseMs);
  Hear(std::move(message));
}

void Bench::Wait(int64_t ms) {
  for (int64_t passed = 0; passed < ms; passed += kTickMs) {
    now_ms += kTickMs;
    Do(Tick{});
  }
}

StartRun Bench::StartGrant(const farm::v1::CoordinatorMessage& grant) {
  Hear(grant);
  Actions actions = Do(Prepared{grant.grant().token()});
  if (!Of<Measure>(actions).empty())
    actions = Do(MemoryMeasured{grant.grant().device(), Memory(grant.grant().device(), 2 * kPlannedBytes)});
  const std::vector<StartRun> runs = Of<StartRun>(actions);
  EXPECT_EQ(runs.size(), 1U);
  return runs.empty() ? StartRun{} : runs.front();
}

std::vector<farm::v1::WorkerMessage> Bench::Sent(const Actions& actions) {
  std::vector<farm::v1::WorkerMessage> messages;
  for (const Send& send : Of<Send>(actions)) messages.push_back(send.message);
  return messages;
}

std::vector<farm::v1::WorkerMessage> Bench::All(farm::v1::WorkerMessage::KindCase kind) const {
  std::vector<farm::v1::WorkerMessage> messages;
  for (farm::v1::WorkerMessage& message : Sent(done)) {
    if (message.kind_case() == kind) messages.push_back(std::move(message));
  }
  return messages;
}

}  // namespace storyfarm::worker
