// A job rendered on this machine, without a farm: the same expansion, plans and work, through one engine.
//
//   JobSpec --> identity tasks --> frames of each set --> pages --> LocalResult
//                   |  banks as files  ^
//                   +------------------+
#ifndef STORYFARM_TOOLS_STORYCTL_LOCAL_JOB_H_
#define STORYFARM_TOOLS_STORYCTL_LOCAL_JOB_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "farm/v1/device.pb.h"
#include "farm/v1/engine.pb.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/plan.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/plan/plan.h"
#include "worker/engine/client.h"

namespace storyfarm::storyctl {

// Frames in one request. Bounds the request's size; an engine stays warm between requests.
inline constexpr size_t kFramesARequest = 64;

struct LocalOptions {
  std::string engine;  // program
  std::string device;  // "cpu", "mps", "cuda:0"; empty: the best of this machine
  int threads = 0;     // CPU threads; 0: all
  uint64_t memory_limit_bytes = 0;  // of the device; 0: all of it
  bool lift_cap = false;            // runs may take more than their plans say
  std::string model_folder;
  std::string work_folder;         // exists, empty; on the disk of `out`
  std::string out;                 // "panels/NNN.png", "pages/NN.png", "story.pdf" and "story.cbz" go here
  std::string draws;               // to replay; empty: own draws
  std::string save_draws;          // empty: not kept
  std::vector<std::string> fonts;  // paths; empty: no pages
};

struct PanelResult {
  std::string image_path;    // empty: it failed
  std::string latents_path;  // in the work folder
  std::string failure;       // a sentence
  bool refused = false;      // the failure is that no memory would do
  uint64_t render_ms = 0;
  std::vector<std::string> warnings;
};

// One request to the engine: what its plan promised and what it took.
struct DrawnRun {
  farm::v1::MemoryPlan plan;
  farm::v1::RunDone done;  // unset where it failed
};

struct LocalResult {
  farm::v1::DeviceReport device;
  std::vector<PanelResult> panels;          // by number
  std::vector<DrawnRun> runs;               // of the groups, in order
  std::vector<std::string> pages;           // paths in `out`, with the book's files
  std::string pages_failure;                // empty: every page is there
  uint64_t peak_bytes = 0;
  uint64_t load_ms = 0;
  uint64_t render_ms = 0;  // of all runs, loading excluded
};

// Told as it goes, on the calling thread.
struct LocalProgress {
  std::function<void(const std::string& what, uint32_t step, uint32_t steps)> step;
  std::function<void(uint32_t panel, const PanelResult& result)> panel;
  std::function<void(const std::string& message)> note;
};

class LocalJob {
 public:
  // `job` is complete but for fonts; `env` and `job` outlive this.
  LocalJob(base::Env& env, const farm::v1::JobSpec& job, LocalOptions options, LocalProgress progress);
  ~LocalJob();

  // Errors: the engine cannot be started. What a panel or page lacks is in the result.
  absl::StatusOr<LocalResult> Run();

 private:
  struct RunEnd {
    bool ok = false;
    farm::v1::RunDone done;
    farm::v1::Failure failure;
  };

  absl::Status StartEngine(const std::string& device);
  absl::StatusOr<std::vector<farm::v1::DeviceReport>> Probe(bool measure_speed);
  absl::Status ChooseDevice();

  void RunIdentity(uint32_t number);
  void RunFrameSet(const farm::v1::FrameSet& set);
  // Renders what it can of a group and returns what is left and why.
  std::vector<uint32_t> RunGroup(const std::vector<uint32_t>& panels, RunEnd* end);
  void RunPages();
  absl::Status RunPage(uint32_t number);

  // Plans tasks; a refusal becomes a failure.
  bool Plan(farm::v1::TaskKind kind, const std::vector<uint32_t>& numbers, farm::v1::MemoryPlan* plan, RunEnd* end);
  // Sends one work and hears its events to the end. An engine that died is started again.
  RunEnd RunWork(const farm::v1::Work& work, const std::function<absl::Status(const farm::v1::EngineEvent&)>& on_event);
  absl::Status HearEvents(uint64_t request_id, RunEnd* end,
                          const std::function<absl::Status(const farm::v1::EngineEvent&)>& on_event);
  void Learn(const farm::v1::Failure& failure, const farm::v1::MemoryPlan& plan);

  absl::Status TakeFrame(const farm::v1::FrameDone& done);
  void FailPanel(uint32_t panel, const RunEnd& end);
  farm::v1::BlobRef Register(const std::string& path);

  base::Env& env_;
  farm::v1::JobSpec job_;
  const LocalOptions options_;
  const LocalProgress progress_;
  std::unique_ptr<engine::EngineProcess> engine_;
  std::string device_name_;
  uint64_t next_request_ = 1;
  plan::LearnedNeed learned_;
  plan::WorkInputs results_;                           // of finished tasks
  std::map<uint32_t, std::string> identity_failures_;  // by identity task
  std::map<std::string, std::string> files_;           // digest -> path
  LocalResult result_;
};

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_LOCAL_JOB_H_
