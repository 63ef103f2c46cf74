#include "worker/agent/device_engine.h"

#include <errno.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/thread_role.h"
#include "pipeline/base/wake_pipe.h"
#include "pipeline/plan/names.h"
#include "worker/agent/inputs.h"
#include "worker/agent/run_outputs.h"

namespace storyfarm::worker {
namespace {

constexpr int64_t kProbeWithinMs = 180'000;             // as for a start, and its measurements
constexpr uint64_t kMemoryRequest = uint64_t{1} << 63;  // runs are numbered from 1 up and never get here

}  // namespace

void LimitMemory(uint64_t limit_bytes, farm::v1::DeviceMemory* memory) {
  if (limit_bytes == 0) return;
  const uint64_t left = limit_bytes > memory->farm_bytes() ? limit_bytes - memory->farm_bytes() : 0;
  memory->set_free_bytes(std::min(memory->free_bytes(), left));
  // Of what the farm may have, others take what is then missing.
  memory->set_others_bytes(std::min(memory->others_bytes(), left - memory->free_bytes()));
}

struct DeviceEngine::State {
  struct Command {
    enum Kind { kStart, kMeasure, kRun, kBankStep } kind = kStart;
    worker::StartRun run;
    farm::v1::RunRequest request;
    uint64_t step_of_run = 0;
    farm::v1::BankStepHere step;
  };

  State(DeviceEngineOptions options_in, DeviceEngineParts parts_in) : options(std::move(options_in)), parts(parts_in) {}

  DeviceEngineOptions options;
  DeviceEngineParts parts;
  uint32_t device = 0;
  std::atomic<uint64_t> farm_limit_bytes{0};
  base::WakePipe wake;
  std::mutex mutex;
  std::deque<Command> commands;
  bool leaving = false;
  std::shared_ptr<engine::EngineProcess> process;  // changed by the thread (or Probe, before it) under the mutex
  std::thread thread;

  // The thread's own.
  bool ready = false;  // the engine has answered
  bool memory_asked = false;
  int64_t started_ms = 0;
  int64_t memory_asked_ms = 0;
  struct Run {
    RunPlace place;
    std::vector<std::string> files;  // digests of its inputs but for the model's
  };
  std::map<uint64_t, Run> runs;  // that the engine has, by number

  int64_t NowMs() const { return parts.cache->env().MonotonicMs(); }
  void Say(Event event) { parts.events->Push(std::move(event)); }

  void Post(Command command) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      commands.push_back(std::move(command));
    }
    wake.Wake();
  }

  void SetProcess(std::shared_ptr<engine::EngineProcess> fresh) {
    const std::lock_guard<std::mutex> lock(mutex);
    process = std::move(fresh);
  }

  // Starts the engine and asks it.
  absl::StatusOr<std::vector<farm::v1::DeviceReport>> Ask(const farm::v1::ProbeRequest& probe);

  void Main() {
    base::TakeRole(base::ThreadRole::kLease);  // what it hears of steps is what leases are renewed for
    while (true) {
      pollfd fds[2] = {{wake.fd(), POLLIN, 0}, {process == nullptr ? -1 : process->event_fd(), POLLIN, 0}};
      if (::poll(fds, 2, 250) < 0 && errno != EINTR) {
        parts.log->Error("a device's thread can't wait", {{"device", device}, {"why", absl::StrCat("errno ", errno)}});
        return End(FailureOf(absl::InternalError("poll failed"), farm::v1::ENGINE_ABORTED));
      }
      wake.Drain();
      std::deque<Command> todo;
      {
        const std::lock_guard<std::mutex> lock(mutex);
        if (leaving) return;
        todo.swap(commands);
      }
      for (Command& command : todo) Carry(std::move(command));
      Hear();
      Watch();
    }
  }

  void Carry(Command command) {
    switch (command.kind) {
      case Command::kStart:
        return Start();
      case Command::kMeasure:
        return AskMemory();
      case Command::kRun:
        return StartRun(command.run, std::move(command.request));
      case Command::kBankStep:
        return TellBankStep(command.step_of_run, std::move(command.step));
    }
  }

  void Start() {
    if (process != nullptr) return;
    absl::StatusOr<std::unique_ptr<engine::EngineProcess>> started = engine::EngineProcess::Start(options.engine);
    if (!started.ok()) return End(FailureOf(started.status(), farm::v1::ENGINE_ABORTED));
    SetProcess(*std::move(started));
    ready = false;
    started_ms = NowMs();
    AskMemory();  // its answer says that it is up
  }

  // The engine is gone: everything about it is forgotten and told.
  void End(farm::v1::Failure failure) {
    SetProcess(nullptr);
    ready = false;
    memory_asked = false;
    while (!runs.empty()) CloseRun(runs.begin()->first);
    Say(EngineEnded{device, std::move(failure)});
  }
  void EndByItself() { End(process->Ending()); }

  void CloseRun(uint64_t number) {
    const auto run = runs.find(number);
    if (run == runs.end()) return;
    const std::string& folder = run->second.place.folder;
    const absl::Status removed = parts.cache->env().RemoveTree(folder);
    if (!removed.ok()) {
      parts.log->Warning("a run's folder could not be removed", {{"folder", folder}, {"why", std::string(removed.message())}});
    }
    runs.erase(run);
  }

  bool SendTo(const farm::v1::EngineRequest& request) {
    if (process == nullptr) return false;
    if (process->Send(request).ok()) return true;
    EndByItself();
    return false;
  }

  void AskMemory() {
    farm::v1::EngineRequest request;
    request.set_request_id(kMemoryRequest);
    request.mutable_memory();
    memory_asked = true;
    memory_asked_ms = NowMs();
    SendTo(request);
  }

  void StartRun(const worker::StartRun& start, farm::v1::RunRequest body) {
    if (process == nullptr) return;  // its end is already told
    Run run;
    RunPlace& place = run.place;
    place.run = start.run;
    place.folder = base::JoinPath(options.runs_folder, absl::StrCat(device, "-", start.run));
    place.owner = plan::TokenName(start.token);
    if (const absl::Status made = parts.cache->env().CreateFolders(place.folder); !made.ok()) {
      return Say(RunFailed{start.run, FailureOf(made, farm::v1::INTERNAL)});
    }
    for (const farm::v1::LocalFile& file : body.files()) run.files.push_back(file.digest());
    farm::v1::EngineRequest request;
    request.set_request_id(start.run);
    body.set_output_folder(place.folder);
    *request.mutable_run() = std::move(body);
    runs.emplace(start.run, std::move(run));
    SendTo(request);
  }

  void TellBankStep(uint64_t of_run, farm::v1::BankStepHere step) {
    if (runs.count(of_run) == 0) return;
    farm::v1::EngineRequest request;
    request.set_request_id(of_run);
    *request.mutable_bank_step() = std::move(step);
    SendTo(request);
  }

  void Hear() {
    while (process != nullptr) {
      absl::StatusOr<farm::v1::EngineEvent> event = process->NextEvent(0);
      if (event.ok()) {
        Take(*std::move(event));
        continue;
      }
      if (!absl::IsDeadlineExceeded(event.status())) EndByItself();
      return;
    }
  }

  void Take(farm::v1::EngineEvent event) {
    if (event.has_memory()) {
      memory_asked = false;
      LimitMemory(options.memory_limit_bytes, event.mutable_memory()->mutable_memory());
      LimitMemory(farm_limit_bytes, event.mutable_memory()->mutable_memory());
      if (!std::exchange(ready, true)) Say(EngineReady{device});
      return Say(MemoryMeasured{device, event.memory().memory()});
    }
    const auto run = runs.find(event.request_id());
    if (run == runs.end()) return;
    const bool over = event.has_run() || event.has_failed();
    absl::StatusOr<std::optional<Event>> out = TakeOutputs(std::move(event), run->second.place, *parts.cache, *parts.pins);
    if (!out.ok()) {
      // Its outputs can't be kept, so the run is worth nothing: end it with the engine, the only way to stop one.
      process->Kill();
      return End(FailureOf(out.status(), farm::v1::INTERNAL));
    }
    if (out->has_value()) DropWhatItFoundDamaged(**out, run->second.files);
    if (over) CloseRun(run->first);
    if (out->has_value()) Say(*std::move(*out));
  }

  // An input that is not whole any more must not be met again: it is fetched anew for the next try.
  void DropWhatItFoundDamaged(const Event& event, const std::vector<std::string>& files) {
    const auto* failed = std::get_if<RunFailed>(&event);
    if (failed == nullptr || failed->failure.kind() != farm::v1::BLOB_UNAVAILABLE) return;
    const int dropped = parts.drop_damaged(files);
    parts.log->Warning("a run could not read its inputs", {{"device", device},
                                                           {"why", failed->failure.message()},
                                                           {"damaged_files_dropped", dropped}});
  }

  void Watch() {
    if (process == nullptr) return;
    const int64_t now_ms = NowMs();
    if (!ready && now_ms - started_ms > options.start_within_ms) {
      process->Kill();
      farm::v1::Failure failure;
      failure.set_kind(farm::v1::ENGINE_ABORTED);
      failure.set_message(absl::StrCat("the engine for ", options.engine.device, " did not answer within ",
                                       options.start_within_ms / 1000, " s of its start"));
      return End(std::move(failure));
    }
    if (ready && !memory_asked && now_ms - memory_asked_ms >= options.memory_every_ms) AskMemory();
  }
};

DeviceEngine::DeviceEngine(DeviceEngineOptions options, DeviceEngineParts parts)
    : state_(std::make_unique<State>(std::move(options), parts)) {}

DeviceEngine::~DeviceEngine() {
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->leaving = true;
    if (state_->process != nullptr) state_->process->Kill();
  }
  if (state_->thread.joinable()) {
    state_->wake.Wake();
    state_->thread.join();
  }
  while (!state_->runs.empty()) state_->CloseRun(state_->runs.begin()->first);
}

absl::StatusOr<farm::v1::DeviceReport> DeviceEngine::Probe(bool measure_speed) {
  farm::v1::ProbeRequest request;
  request.set_measure_speed(measure_speed);
  request.set_own_only(true);
  absl::StatusOr<std::vector<farm::v1::DeviceReport>> devices = state_->Ask(request);
  if (!devices.ok()) return devices.status();
  return std::move(devices->front());
}

absl::StatusOr<std::vector<farm::v1::DeviceReport>> DeviceEngine::ProbeAll() { return state_->Ask({}); }

absl::StatusOr<std::vector<farm::v1::DeviceReport>> DeviceEngine::State::Ask(const farm::v1::ProbeRequest& probe) {
  absl::StatusOr<std::unique_ptr<engine::EngineProcess>> started = engine::EngineProcess::Start(options.engine);
  if (!started.ok()) return started.status();
  const std::shared_ptr<engine::EngineProcess> process = *std::move(started);
  farm::v1::EngineRequest request;
  *request.mutable_probe() = probe;
  absl::Status sent = process->Send(request);
  absl::StatusOr<farm::v1::EngineEvent> event = sent.ok() ? process->NextEvent(kProbeWithinMs) : sent;
  if (absl::IsUnavailable(event.status())) return absl::UnavailableError(process->Ending().message());
  if (!event.ok()) return event.status();
  if (event->has_failed()) return absl::InternalError(event->failed().failure().message());
  if (event->probed().devices_size() == 0) return absl::InternalError("the engine answered the probe without a device");
  SetProcess(process);
  return std::vector<farm::v1::DeviceReport>(event->probed().devices().begin(), event->probed().devices().end());
}

void DeviceEngine::Attach(uint32_t device) {
  state_->device = device;
  absl::StatusOr<base::WakePipe> wake = base::WakePipe::Open();
  if (!wake.ok()) {
    state_->Say(EngineEnded{device, FailureOf(wake.status(), farm::v1::ENGINE_ABORTED)});
    return;
  }
  state_->wake = *std::move(wake);
  state_->started_ms = state_->NowMs();
  if (state_->process != nullptr) {
    state_->AskMemory();
  } else {
    state_->Post({});
  }
  state_->thread = std::thread([state = state_.get()] { state->Main(); });
}

void DeviceEngine::StartEngine() { state_->Post({}); }

void DeviceEngine::StopEngine() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  if (state_->process == nullptr) return;
  state_->parts.killer->Post([process = state_->process] { process->Kill(); });
}

void DeviceEngine::SetFarmLimit(uint64_t limit_bytes) { state_->farm_limit_bytes = limit_bytes; }

void DeviceEngine::Measure() {
  State::Command command;
  command.kind = State::Command::kMeasure;
  state_->Post(std::move(command));
}

void DeviceEngine::StartRun(worker::StartRun run, farm::v1::RunRequest request) {
  State::Command command;
  command.kind = State::Command::kRun;
  command.run = std::move(run);
  command.request = std::move(request);
  state_->Post(std::move(command));
}

void DeviceEngine::TellBankStep(uint64_t run, farm::v1::BankStepHere step) {
  State::Command command;
  command.kind = State::Command::kBankStep;
  command.step_of_run = run;
  command.step = std::move(step);
  state_->Post(std::move(command));
}

}  // namespace storyfarm::worker
