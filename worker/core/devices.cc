// Session, the side that speaks with the engines: what runs next on each device, what its engine says, and its end.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/live_memory.h"
#include "worker/core/session_parts.h"

namespace storyfarm::worker {
namespace {

std::string DeviceName(const Device& device) {
  return absl::StrCat("device ", device.report.index(), " (", device.report.name(), ")");
}

double Gigabytes(uint64_t bytes) { return std::floor(static_cast<double>(bytes) / 1e7) / 100; }

farm::v1::Failure MakeFailure(farm::v1::FailureKind kind, std::string message) {
  farm::v1::Failure failure;
  failure.set_kind(kind);
  failure.set_message(std::move(message));
  return failure;
}

// Whether a failure says something of the whole group rather than of the slice that met it.
bool ConcernsGroup(farm::v1::FailureKind kind) {
  return kind == farm::v1::OUT_OF_MEMORY || kind == farm::v1::DISK_FULL || kind == farm::v1::BLOB_UNAVAILABLE;
}

}  // namespace

Group* Session::Parts::FindGroup(const TokenKey& token) {
  const auto found = groups.find(token);
  return found == groups.end() ? nullptr : &found->second;
}

std::vector<size_t> Session::Parts::Unsettled(const Group& group, const std::vector<size_t>& among) const {
  std::vector<size_t> left;
  for (const size_t index : among) {
    if (group.stage(index) != TaskStage::kOver) left.push_back(index);
  }
  return left;
}

bool Session::Parts::Runs(const Group& group) const {
  const Device& device = devices.at(group.device());
  return std::any_of(device.runs.begin(), device.runs.end(),
                     [&](const Running& running) { return running.token == KeyOf(group.token()); });
}

// ---- Time ---------------------------------------------------------------------------------------------------------

void Session::Parts::On(Tick) {
  CloseCacheWhenLeft();
  for (auto& [index, device] : devices) {
    if (device.engine == EngineState::kDown && now_ms >= device.start_at_ms && owner.resting.empty() &&
        Lent(device)) {
      device.engine = EngineState::kStarting;
      actions.push_back(StartEngine{index});
    }
    const Running* drawn_first = nullptr;
    for (const Running& running : device.runs) {
      // One that waits behind another is silent by right.
      const bool waits = !running.page && drawn_first != nullptr && running.phase == Phase::kLoading;
      if (!running.page && drawn_first == nullptr) drawn_first = &running;
      if (waits || !IsHung(running)) continue;
      StopRunning(&device);
      break;
    }
  }
}

bool Session::Parts::IsHung(const Running& running) {
  const int64_t silent_ms = now_ms - running.last_sign_ms;
  const int64_t limit_ms = silence.LimitMs(running.kind, running.phase);
  if (silent_ms <= limit_ms) return false;
  Group* group = FindGroup(running.token);
  // It waits for another machine. Whether that one goes on, the coordinator watches.
  if (group->FollowsWriter()) return false;
  Fault(group, Unsettled(*group, running.slice),
        MakeFailure(farm::v1::HUNG,
                    absl::StrCat("The engine of ", DeviceName(devices.at(group->device())), " was silent for ",
                                 silent_ms / 1000, " s, longer than the ", limit_ms / 1000,
                                 " s that this model ever needed there; it was stopped.")));
  return true;
}

// ---- Before a run -------------------------------------------------------------------------------------------------

void Session::Parts::On(const Prepared& event) {
  if (Group* group = FindGroup(KeyOf(event.token))) group->prepared = true;
}

void Session::Parts::On(const PrepareFailed& event) {
  Group* group = FindGroup(KeyOf(event.token));
  if (group == nullptr || group->prepared) return;
  std::vector<size_t> all(group->task_count());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  Fault(group, Unsettled(*group, all), event.failure);
}

void Session::Parts::On(const FollowFailed& event) {
  Group* group = FindGroup(KeyOf(event.token));
  if (group == nullptr) return;
  std::vector<size_t> all(group->task_count());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  Fault(group, Unsettled(*group, all), event.failure);
}

void Session::Parts::On(MemoryMeasured event) {
  const auto found = devices.find(event.device);
  if (found == devices.end()) return;
  Device& device = found->second;
  device.memory = std::move(event.memory);
  device.memory.set_index(event.device);
  if (!device.measuring.has_value()) return;
  Group* group = FindGroup(*std::exchange(device.measuring, std::nullopt));
  if (group == nullptr || draining || !HasRoom(device, /*page=*/false) || device.engine != EngineState::kReady ||
      heard_limit != last_limit) {
    return;
  }
  if (CheckMemory(device, group)) {
    group->fits = true;
    StartSlice(&device, group);
  }
}

bool Session::Parts::CheckMemory(const Device& device, Group* group) {
  const uint64_t predicted = group->plan()->predicted_peak_bytes();
  const uint64_t available = plan::UsableBytes(device.memory);
  if (available >= predicted) return true;
  farm::v1::Failure failure =
      MakeFailure(farm::v1::OUT_OF_MEMORY,
                  absl::StrCat("The plan for ", DeviceName(device), " needs ", Gigabytes(predicted), " GB and ",
                               Gigabytes(available), " GB are free now (", Gigabytes(device.memory.others_bytes()),
                               " GB are held by other programs); close some of them or let a larger device take it."));
  failure.set_needed_bytes(predicted);
  std::vector<size_t> all(group->task_count());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  Fault(group, Unsettled(*group, all), failure);
  return false;
}

bool Session::Parts::HasRoom(const Device& device, bool page) const {
  const auto pages = std::count_if(device.runs.begin(), device.runs.end(), [](const Running& run) { return run.page; });
  const size_t drawn = device.runs.size() - static_cast<size_t>(pages);
  // Where pages take of the device's own memory, no plan counts them: they take turns.
  if (device.report.unified() && (page ? drawn : static_cast<size_t>(pages)) > 0) return false;
  if (page) return pages == 0;
  if (drawn == 0) return true;
  const auto first = std::find_if(device.runs.begin(), device.runs.end(), [](const Running& run) { return !run.page; });
  return drawn < limits.runs_an_engine && first->phase == Phase::kFinishing && first->last_pass;
}

void Session::Parts::RunNext(Device* device) {
  if (device->engine != EngineState::kReady || heard_limit != last_limit) return;
  for (const TokenKey& key : device->queue) {
    Group* group = FindGroup(key);
    if (!group->prepared || !group->HasWaiting()) continue;
    const bool page = group->plan() == nullptr;
    if (!HasRoom(*device, page)) {
      if (device->report.unified()) return;
      continue;
    }
    if (page || group->fits) {
      if (!page && device->measuring.has_value()) continue;
      StartSlice(device, group);
    } else if (!device->measuring.has_value()) {
      device->measuring = key;
      actions.push_back(Measure{device->report.index()});
    }
  }
}

void Session::Parts::StartSlice(Device* device, Group* group) {
  Running running;
  running.slice = group->NextSlice();
  if (running.slice.empty()) return;
  running.run = next_run++;
  running.token = KeyOf(group->token());
  running.kind = group->KindOf(running.slice);
  running.page = group->plan() == nullptr;
  running.last_sign_ms = now_ms;
  for (const size_t index : running.slice) group->set_stage(index, TaskStage::kRunning);
  actions.push_back(StartRun{running.run, device->report.index(), group->token(), group->task(running.slice.front()),
                             group->WorkOf(running.slice)});
  device->runs.push_back(std::move(running));
}

void Session::Parts::EndRun(Device* device, uint64_t run) {
  const auto ended =
      std::find_if(device->runs.begin(), device->runs.end(), [run](const Running& item) { return item.run == run; });
  if (ended == device->runs.end()) return;
  device->runs.erase(ended);
  for (Running& running : device->runs) {
    if (running.phase == Phase::kLoading) running.last_sign_ms = now_ms;
  }
}

// ---- While a slice runs -------------------------------------------------------------------------------------------

Running* Session::Parts::Alive(uint64_t run, std::optional<Phase> next) {
  for (auto& [index, device] : devices) {
    for (Running& running : device.runs) {
      if (running.run != run) continue;
      const Group* group = FindGroup(running.token);
      if (group == nullptr || !group->FollowsWriter()) {
        silence.Observe(running.kind, running.phase, now_ms - running.last_sign_ms);
      }
      running.phase = next.value_or(running.phase);
      running.last_sign_ms = now_ms;
      return &running;
    }
  }
  return nullptr;
}

void Session::Parts::On(StepReached event) {
  const bool last = event.step >= event.steps;
  Running* alive = Alive(event.run, last ? Phase::kFinishing : Phase::kStepping);
  if (alive == nullptr) return;
  Running& running = *alive;
  Group* group = FindGroup(running.token);
  size_t index = running.slice.front();
  running.last_pass = last;
  if (group->work().has_frames() && !event.panels.empty()) {
    const auto found = group->FindPanel(event.panels.front());
    const auto newest = group->FindPanel(event.panels.back());
    if (!found.has_value() || !newest.has_value()) return;
    index = *found;
    running.last_pass = last && *newest == running.slice.back();
  }
  if (!welcomed || (now_ms - running.last_progress_ms < limits.progress_ms && !last)) return;
  if (group->stage(index) != TaskStage::kRunning) return;
  running.last_progress_ms = now_ms;
  farm::v1::WorkerMessage message;
  farm::v1::Progress* progress = message.mutable_progress();
  *progress->mutable_token() = group->token();
  *progress->mutable_task() = group->task(index);
  progress->set_step(event.step);
  progress->set_steps(event.steps);
  progress->set_device(group->device());
  Post(std::move(message));
}

void Session::Parts::On(FrameStored event) {
  const Running* running = Alive(event.run, Phase::kFinishing);
  if (running == nullptr) return;
  Group* group = FindGroup(running->token);
  if (group->work().has_identity()) {
    if (event.hidden) return;
    for (const farm::v1::BlobRef& blob : {event.result.image(), event.result.latents()}) {
      if (blob.digest().empty()) continue;
      outbox.Hold(blob);
      group->held_digests.push_back(blob.digest());
    }
    *group->identity.add_frames() = std::move(event.result);
    return;
  }
  if (!group->work().has_frames()) return;
  const auto index = group->FindPanel(event.result.panel());
  if (!index.has_value() || group->stage(*index) != TaskStage::kRunning) return;
  LearnSpeed(&devices.at(group->device()), *group, event.result.render_ms());
  farm::v1::Result result;
  *result.mutable_frame() = std::move(event.result);
  Finish(group, *index, std::move(result));
}

void Session::Parts::On(const BankStepStored& event) {
  const Running* running = Alive(event.run, std::nullopt);
  if (running == nullptr) return;
  Group* group = FindGroup(running->token);
  if (!group->work().has_identity()) return;
  farm::v1::Bank* bank = group->identity.mutable_bank();
  while (static_cast<uint32_t>(bank->steps_size()) <= event.step) bank->add_steps();
  *bank->mutable_steps(static_cast<int>(event.step)) = event.blob;
  if (welcomed) TellBankStep(*group, event.step);
  if (event.blob.digest().empty()) return;
  outbox.Hold(event.blob);
  group->held_digests.push_back(event.blob.digest());
}

void Session::Parts::On(TextStored event) {
  const Running* running = Alive(event.run, Phase::kFinishing);
  if (running == nullptr) return;
  Group* group = FindGroup(running->token);
  if (group->work().has_text()) *group->text.mutable_embeddings() = std::move(event.embeddings);
}

void Session::Parts::On(PagesStored event) {
  const Running* running = Alive(event.run, Phase::kFinishing);
  if (running == nullptr) return;
  Group* group = FindGroup(running->token);
  if (!group->work().has_page() || group->stage(0) != TaskStage::kRunning) return;
  farm::v1::Result result;
  *result.mutable_page() = std::move(event.result);
  Finish(group, 0, std::move(result));
}

void Session::Parts::On(RunEnded event) {
  const Running* running = Alive(event.run, Phase::kFinishing);
  if (running == nullptr) return;
  Group* group = FindGroup(running->token);
  Device* device = &devices.at(group->device());
  device->ends_in_a_row = 0;
  if (group->work().has_identity()) LearnSpeed(device, *group, event.render_ms);
  if (group->work().has_identity() && group->stage(0) == TaskStage::kRunning) {
    farm::v1::Result result;
    farm::v1::IdentityResult* identity = result.mutable_identity();
    *identity = group->identity;
    identity->set_render_ms(event.render_ms);
    identity->set_peak_bytes(event.peak_bytes);
    for (const auto& frame : identity->frames()) identity->mutable_warnings()->MergeFrom(frame.warnings());
    Finish(group, 0, std::move(result));
  }
  if (group->text.has_embeddings() && group->stage(0) == TaskStage::kRunning) {
    farm::v1::Result result;
    *result.mutable_text() = group->text;
    result.mutable_text()->set_render_ms(event.render_ms);
    result.mutable_text()->set_peak_bytes(event.peak_bytes);
    Finish(group, 0, std::move(result));
  }
  Fault(group, Unsettled(*group, running->slice),
        MakeFailure(farm::v1::INTERNAL,
                    absl::StrCat("The engine of ", DeviceName(*device), " ended its run without this task's result.")));
  EndRun(device, event.run);
}

void Session::Parts::On(const RunFailed& event) {
  const Running* running = Alive(event.run, Phase::kFinishing);
  if (running == nullptr) return;
  Group* group = FindGroup(running->token);
  std::vector<size_t> tasks = running->slice;
  if (ConcernsGroup(event.failure.kind())) {
    tasks.resize(group->task_count());
    for (size_t i = 0; i < tasks.size(); ++i) tasks[i] = i;
  }
  Fault(group, Unsettled(*group, tasks), event.failure);
  EndRun(&devices.at(group->device()), event.run);
}

// ---- An engine's life ---------------------------------------------------------------------------------------------

void Session::Parts::RestartRuns(Device* device) {
  for (const Running& running : device->runs) FindGroup(running.token)->Restart(running.slice);
  device->runs.clear();
}

void Session::Parts::StopRunning(Device* device) {
  RestartRuns(device);
  device->measuring.reset();
  device->engine = EngineState::kStopping;
  actions.push_back(StopEngine{device->report.index()});
}

void Session::Parts::LearnSpeed(Device* device, const Group& group, uint64_t render_ms) {
  const farm::v1::ModelManifest& model = group.work().has_identity() ? group.work().identity().model()
                                                                     : group.work().frames().model();
  const double predicted_s = group.plan()->predicted_seconds() / static_cast<double>(group.task_count());
  if (!device->speeds.Observe(model.digest(), predicted_s, render_ms)) return;
  actions.push_back(KeepSpeeds{device->report.index(), device->speeds.List()});
}

void Session::Parts::On(EngineReady event) {
  const auto found = devices.find(event.device);
  if (found != devices.end() && found->second.engine == EngineState::kStarting)
    found->second.engine = EngineState::kReady;
}

void Session::Parts::On(const EngineEnded& event) {
  const auto found = devices.find(event.device);
  if (found == devices.end()) return;
  Device& device = found->second;
  const bool wished = device.engine == EngineState::kStopping;
  device.engine = EngineState::kDown;
  device.measuring.reset();
  device.too_large = false;
  // What it held is free again, and nobody measures until the next one is up.
  device.memory.set_free_bytes(device.memory.free_bytes() + device.memory.farm_bytes());
  device.memory.set_farm_bytes(0);
  device.memory.set_tensor_bytes(0);
  device.start_at_ms = now_ms;
  if (wished) return;
  if (device.runs.empty()) {
    Say(true, absl::StrCat("the engine of ", DeviceName(device), " ended: ", event.failure.message()));
  }
  // What it drew, or composed, may have been why; what waited behind that, or was only written to files, was not.
  const auto drawn =
      std::find_if(device.runs.rbegin(), device.runs.rend(), [](const Running& run) { return !run.page && run.begun(); });
  const uint64_t drawn_run = drawn != device.runs.rend() ? drawn->run : device.runs.empty() ? 0 : device.runs.front().run;
  for (const Running& running : device.runs) {
    if (!running.page && running.run != drawn_run) continue;
    Group* group = FindGroup(running.token);
    std::vector<size_t> tasks = running.slice;
    if (ConcernsGroup(event.failure.kind())) {
      tasks.resize(group->task_count());
      for (size_t i = 0; i < tasks.size(); ++i) tasks[i] = i;
    }
    Fault(group, Unsettled(*group, tasks), event.failure);
  }
  RestartRuns(&device);
  ++device.ends_in_a_row;
  const uint32_t doublings = std::min<uint32_t>(device.ends_in_a_row - 1, 20);
  device.start_at_ms = now_ms + std::min(limits.engine_first_ms << doublings, limits.engine_most_ms);
  if (device.ends_in_a_row < limits.engine_ends) return;
  for (const TokenKey& key : device.queue) {
    Group* group = FindGroup(key);
    std::vector<size_t> all(group->task_count());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    Fault(
        group, Unsettled(*group, all),
        MakeFailure(farm::v1::LOST, absl::StrCat("The engine of ", DeviceName(device), " ended ", device.ends_in_a_row,
                                                 " times in a row; the last time: ", event.failure.message())));
  }
}

// ---- After every event --------------------------------------------------------------------------------------------

void Session::Parts::Sweep() {
  for (auto& [index, device] : devices) {
    const auto first =
        std::find_if(device.runs.begin(), device.runs.end(), [](const Running& run) { return !run.page; });
    if (first == device.runs.end() || first->phase == Phase::kFinishing) continue;
    // Revoked while it was drawn. A slice whose tasks all finished ends by itself in a moment, and so does a page.
    if (Unsettled(*FindGroup(first->token), first->slice).empty()) StopRunning(&device);
  }
  for (auto group = groups.begin(); group != groups.end();) {
    if (!group->second.Over() || Runs(group->second)) {
      ++group;
      continue;
    }
    Device& device = devices.at(group->second.device());
    device.queue.erase(std::find(device.queue.begin(), device.queue.end(), group->first));
    if (device.measuring == group->first) device.measuring.reset();
    for (const std::string& digest : group->second.held_digests) outbox.Unhold(digest);
    actions.push_back(Release{group->second.token()});
    group = groups.erase(group);
  }
}

void Session::Parts::Advance() {
  Sweep();
  for (auto& [index, device] : devices) {
    if (!owner.resting.empty() || !Lent(device) || device.too_large) {
      // An engine that is kept warm holds memory, which its owner wants back.
      if (device.engine == EngineState::kReady && device.runs.empty()) StopRunning(&device);
    } else if (!draining) {
      RunNext(&device);
    }
  }
  SendHeartbeatIfDue();
  if (welcomed) outbox.Pump(now_ms, &actions);
  if (!draining || drained) return;
  const bool runs =
      std::any_of(devices.begin(), devices.end(), [](const auto& item) { return !item.second.runs.empty(); });
  if (runs || (welcomed && outbox.size() > 0)) return;
  drained = true;
  actions.push_back(Drained{});
}

}  // namespace storyfarm::worker
