// One device's engine as the agent drives it: started, fed one run at a time, watched, its outputs taken into the
// cache, and killed when asked. A thread of its own speaks with the child process; the session's thread only leaves
// commands.
#ifndef STORYFARM_WORKER_AGENT_DEVICE_ENGINE_H_
#define STORYFARM_WORKER_AGENT_DEVICE_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "farm/v1/device.pb.h"
#include "farm/v1/engine.pb.h"
#include "pipeline/base/file_store.h"
#include "pipeline/base/log.h"
#include "worker/agent/event_queue.h"
#include "worker/agent/pins.h"
#include "pipeline/base/task_threads.h"
#include "worker/engine/client.h"

namespace storyfarm::worker {

struct DeviceEngineOptions {
  engine::EngineOptions engine;
  std::string runs_folder;  // a folder for each run's outputs is made here, and removed
  // Live memory is asked for at the heartbeat's pace.
  int64_t memory_every_ms = 2000;
  // An engine that does not come up within this (loading libtorch from a slow disk takes tens of seconds) never will.
  int64_t start_within_ms = 120'000;
  uint64_t memory_limit_bytes = 0;  // what the farm may take of this device; 0: all of it
};

struct DeviceEngineParts {
  base::Log* log = nullptr;
  EventQueue* events = nullptr;
  base::FileStore* cache = nullptr;
  Pins* pins = nullptr;
  base::TaskThreads* killer = nullptr;  // kills engines, which may take a moment
  // Drops those of these files of the cache that are damaged, and says how many were: after a run that found one.
  std::function<int(const std::vector<std::string>& digests)> drop_damaged;
};

class DeviceEngine {
 public:
  DeviceEngine(DeviceEngineOptions options, DeviceEngineParts parts);
  // Kills the engine.
  ~DeviceEngine();
  DeviceEngine(const DeviceEngine&) = delete;
  DeviceEngine& operator=(const DeviceEngine&) = delete;

  // Before Attach: starts the engine and asks it for its device's report. Blocks.
  absl::StatusOr<farm::v1::DeviceReport> Probe(bool measure_speed);
  // The same for every device of the machine, its own first.
  absl::StatusOr<std::vector<farm::v1::DeviceReport>> ProbeAll();

  // From here on events carry this number. Pushes EngineReady at once where the engine of Probe lives.
  void Attach(uint32_t device);

  // None of these blocks. Answers come as events.
  void StartEngine();
  void StopEngine();
  // What the farm may take of the device besides DeviceEngineOptions::memory_limit_bytes; 0: nothing more is limited.
  void SetFarmLimit(uint64_t limit_bytes);
  void Measure();
  void StartRun(worker::StartRun run, farm::v1::RunRequest request);
  // After StartRun of the run that reads it.
  void TellBankStep(uint64_t run, farm::v1::BankStepHere step);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Caps live memory at what the farm may take of the device, as plan::LimitMemory does the report. 0: as it is.
void LimitMemory(uint64_t limit_bytes, farm::v1::DeviceMemory* memory);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_DEVICE_ENGINE_H_
