// Node, the side of its engines: what they render, how they end, what memory they find.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/node.h"

namespace storyfarm::sim {

using coordinator::FromMessage;
using farm::v1::BlobRef;
using farm::v1::FencingToken;
using farm::v1::FrameResult;
using worker::KeyOf;
using worker::StartRun;

namespace {

constexpr int64_t kLoadMs = 300;     // a cold model
constexpr int64_t kComposeMs = 200;  // a page
constexpr uint32_t kBankSteps = 2;
constexpr int64_t kDecodeMs = 3;  // between a run's last step and its end

const farm::v1::MemoryPlan* PlanOf(const farm::v1::Work& work) {
  if (work.has_identity()) return &work.identity().plan();
  if (work.has_text()) return &work.text().plan();
  return work.has_frames() ? &work.frames().plan() : nullptr;
}

// What the run truly takes: the planner's arithmetic and the backend's surprise.
uint64_t TrueBytes(const farm::v1::Work& work) {
  const auto percent = static_cast<uint64_t>(TrueNeedPercent(PlanOf(work)->backend()));
  const uint64_t each = SimPlanner::kFrameBytes * percent / 100;
  if (work.has_frames()) return each * std::min<uint64_t>(work.frames().plan().batch(), work.frames().frames_size());
  if (work.has_text()) return each;
  return each + each * (static_cast<uint64_t>(work.identity().frames_size()) - 1) / 2;
}

int FramesOf(const farm::v1::Work& work) {
  if (work.has_text()) return 1;  // takes as long as one
  return work.has_frames() ? work.frames().frames_size() : work.has_identity() ? work.identity().frames_size() : 0;
}

}  // namespace

double Node::tflops() const {
  double sum = 0;
  for (const SimDevice& device : devices_) sum += device.report.speed_tflops();
  return sum;
}

void Node::AfterInEngine(uint32_t device, int64_t ms, std::function<void()> what) {
  After(ms, [this, device, life = devices_[device].engine_life, what = std::move(what)] {
    if (life == devices_[device].engine_life) what();
  });
}

// ---- Memory -------------------------------------------------------------------------------------------------------

farm::v1::DeviceMemory Node::MeasureMemory(uint32_t index) {
  SimDevice& device = devices_[index];
  farm::v1::DeviceMemory memory;
  memory.set_index(index);
  device.measured_bytes = device.report.total_bytes() - device.others_bytes;
  const bool lie = world_.Is(Mutant::kMemoryNotMeasured);
  memory.set_others_bytes(lie ? 0 : device.others_bytes);
  memory.set_free_bytes(device.report.total_bytes() - memory.others_bytes());
  return memory;
}

void Node::TakeMemory(uint32_t index, int64_t ms) {
  SimDevice& device = devices_[index];
  device.others_bytes = device.report.total_bytes() - SimPlanner::kFrameBytes / 2;
  world_.time.After(ms, [this, index] {
    devices_[index].others_bytes = 0;
    NoticeMemory(index);
  });
  NoticeMemory(index);
}

// The agent measures at the heartbeat's pace.
void Node::NoticeMemory(uint32_t index) {
  Deliver([this, index] {
    if (session_ != nullptr) Do(worker::MemoryMeasured{index, MeasureMemory(index)});
  });
}

void Node::Take(worker::Measure& action) {
  AfterInEngine(action.device, 2, [this, index = action.device] {
    Do(worker::MemoryMeasured{index, MeasureMemory(index)});
  });
}

// ---- Runs ---------------------------------------------------------------------------------------------------------

void Node::NoteBegun(const StartRun& run) {
  const auto note = [&](uint32_t number) {
    farm::v1::TaskId task = run.task;
    task.set_number(number);
    begun_.insert({KeyOf(run.token), KeyOf(task)});
  };
  if (!run.work.has_frames()) return note(run.task.number());
  for (const auto& frame : run.work.frames().frames()) note(frame.panel());
}

void Node::Take(StartRun& run) {
  const uint32_t index = run.device;
  SimDevice& device = devices_[index];
  const farm::v1::MemoryPlan* plan = PlanOf(run.work);
  // Memory is measured before a group's first run.
  const bool first = !std::exchange(groups_.at(KeyOf(run.token)).ran, true);
  const bool page = plan == nullptr;
  world_.judge.WorkerRuns(disk_.node_id, page ? device.composing : device.waiting.has_value(),
                          page || !first ? 0 : plan->predicted_peak_bytes(), device.measured_bytes);
  NoteBegun(run);
  if (!page && device.running) {
    device.waiting = std::move(run);
  } else {
    Begin(std::move(run));
  }
}

void Node::GoOn(uint32_t index, bool page) {
  SimDevice& device = devices_[index];
  (page ? device.composing : device.running) = false;
  if (!page && device.waiting.has_value()) Begin(*std::exchange(device.waiting, std::nullopt));
}

void Node::ForgetRuns(uint32_t index) {
  devices_[index].running = devices_[index].composing = false;
  devices_[index].waiting.reset();
}

void Node::Begin(StartRun run) {
  const uint32_t index = run.device;
  SimDevice& device = devices_[index];
  const farm::v1::MemoryPlan* plan = PlanOf(run.work);
  (plan == nullptr ? device.composing : device.running) = true;
  const RunFate fate = std::exchange(device.fate, RunFate::kEnds);
  if (fate == RunFate::kHangs) return;
  int64_t ms = device.warm || plan == nullptr ? 5 : kLoadMs;
  device.warm |= plan != nullptr;
  const auto fail = [this, index, number = run.run, page = plan == nullptr](farm::v1::FailureKind kind, uint64_t needed_bytes) {
    GoOn(index, page);
    worker::RunFailed failed;
    failed.run = number;
    failed.failure.set_kind(kind);
    failed.failure.set_message("simulated");
    failed.failure.set_needed_bytes(needed_bytes);
    Do(std::move(failed));
  };
  if (plan != nullptr && (fate == RunFate::kStarves || TrueBytes(run.work) > plan->predicted_peak_bytes())) {
    // Where others took the memory, the run itself needed no more than was planned.
    const uint64_t needed = fate == RunFate::kStarves ? plan->predicted_peak_bytes() : TrueBytes(run.work);
    return AfterInEngine(index, ms, [fail, needed] { fail(farm::v1::OUT_OF_MEMORY, needed); });
  }
  if (fate == RunFate::kSpoils) return AfterInEngine(index, ms, [fail] { fail(farm::v1::INVALID_OUTPUT, 0); });
  if (fate == RunFate::kAborts) {
    return AfterInEngine(index, ms, [this, index] { EngineEnds(index, farm::v1::ENGINE_ABORTED, "simulated abort"); });
  }
  const double seconds = FramesOf(run.work) * SimPlanner::kFrameWork / device.report.speed_tflops();
  ms += plan == nullptr ? kComposeMs : static_cast<int64_t>(seconds * 1000);
  if (plan != nullptr) {
    AfterInEngine(index, ms / 2, [this, number = run.run, work = run.work] {
      worker::StepReached step{number, {}, 1, kSteps};
      if (work.has_frames()) step.panels.push_back(work.frames().frames(0).panel());
      Do(std::move(step));
    });
    AfterInEngine(index, ms - kDecodeMs, [this, number = run.run, work = run.work] {
      worker::StepReached step{number, {}, kSteps, kSteps};
      for (const auto& frame : work.frames().frames()) step.panels.push_back(frame.panel());
      Do(std::move(step));
    });
  }
  if (run.work.has_identity()) {  // others may follow it from here on
    AfterInEngine(index, ms / 2, [this, number = run.run, token = run.token] {
      Do(worker::BankStepStored{number, 0, NewBlob(token)});
    });
  }
  AfterInEngine(index, ms, [this, run = std::move(run)] { FinishRun(run); });
}

BlobRef Node::NewBlob(const FencingToken& token) {
  BlobRef blob = MakeBlob(FromMessage(token), (uint64_t{index_} << 48) + ++serial_);
  disk_.cache.insert(blob.digest());
  return blob;
}

FrameResult Node::NewFrame(const StartRun& run, uint32_t panel, int64_t render_ms) {
  FrameResult result;
  result.set_panel(panel);
  *result.mutable_image() = NewBlob(run.token);
  result.set_render_ms(static_cast<uint64_t>(render_ms));
  return result;
}

void Node::FinishRun(const StartRun& run) {
  const SimDevice& device = devices_[run.device];
  const auto each_ms = static_cast<int64_t>(SimPlanner::kFrameWork * 1000 / device.report.speed_tflops());
  const auto store = [&](const farm::v1::Frame& frame) {
    worker::FrameStored stored;
    stored.run = run.run;
    stored.hidden = frame.hidden();
    if (!frame.hidden()) stored.result = NewFrame(run, frame.panel(), each_ms);
    Do(std::move(stored));
  };
  if (run.work.has_page()) {
    worker::PagesStored pages;
    pages.run = run.run;
    if (run.work.page().book()) {
      *pages.result.mutable_pdf() = NewBlob(run.token);
      *pages.result.mutable_cbz() = NewBlob(run.token);
    } else {
      *pages.result.mutable_png() = NewBlob(run.token);
    }
    Do(std::move(pages));
  }
  if (run.work.has_text()) Do(worker::TextStored{run.run, NewBlob(run.token)});
  for (uint32_t step = 1; run.work.has_identity() && step < kBankSteps; ++step)
    Do(worker::BankStepStored{run.run, step, NewBlob(run.token)});
  for (const auto& frame : run.work.identity().frames()) store(frame);
  for (const auto& frame : run.work.frames().frames()) store(frame);
  GoOn(run.device, run.work.has_page());
  Do(worker::RunEnded{run.run, static_cast<uint64_t>(each_ms * FramesOf(run.work)), 0});
}

// ---- An engine's life ---------------------------------------------------------------------------------------------

void Node::EngineEnds(uint32_t index, farm::v1::FailureKind kind, const std::string& why) {
  SimDevice& device = devices_[index];
  if (!device.engine_up) return;
  device.engine_up = device.warm = false;
  ForgetRuns(index);
  ++device.engine_life;
  worker::EngineEnded ended;
  ended.device = index;
  ended.failure.set_kind(kind);
  ended.failure.set_message(why);
  Do(std::move(ended));
}

void Node::Take(worker::StopEngine& action) {
  // Its last words no longer count; its end is told in a moment.
  ++devices_[action.device].engine_life;
  ForgetRuns(action.device);
  AfterInEngine(action.device, dice_.Between(5, 50),
                [this, index = action.device] { EngineEnds(index, farm::v1::ENGINE_ABORTED, "killed"); });
}

void Node::Take(worker::StartEngine& action) {
  SimDevice& device = devices_[action.device];
  device.engine_up = true;
  ++device.engine_life;
  AfterInEngine(action.device, dice_.Between(100, 400),
                [this, index = action.device] { Do(worker::EngineReady{index}); });
}

void Node::Doom(uint32_t device, RunFate fate) { devices_[device].fate = fate; }

void Node::KillEngine(uint32_t device) {
  Deliver([this, device] {
    if (session_ != nullptr) EngineEnds(device, farm::v1::ENGINE_ABORTED, "killed from outside");
  });
}

}  // namespace storyfarm::sim
