// `storyfarm-worker doctor`: looks at this machine and its farm as a worker would, and says in plain words what is wrong
// and what to do about it. Makes the data folder where there is none, changes nothing else, and disturbs no worker that
// runs here.
#ifndef STORYFARM_WORKER_AGENT_DOCTOR_H_
#define STORYFARM_WORKER_AGENT_DOCTOR_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/device.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/base/places.h"
#include "worker/agent/agent.h"
#include "worker/agent/machine.h"
#include "worker/agent/owner_watch.h"
#include "worker/agent/wakefulness.h"

namespace storyfarm::worker {

struct Finding {
  enum Kind {
    kGood,
    kNote,     // worth knowing, and as somebody may want it
    kProblem,  // nothing is drawn here, or less than could be, until it is mended
  };
  Kind kind = kGood;
  std::string subject;  // "data folder", "farm", "engine"
  std::string text;     // what was found: a sentence
  std::string advice;   // what to do; empty: nothing
};

// Everything that the examination touches; what is pointed to outlives it.
struct DoctorParts {
  base::Env* env = nullptr;
  base::Variables variables;
  Machine* machine = nullptr;
  Wakefulness* wakefulness = nullptr;
  std::function<int()> minute_of_week = LocalMinuteOfWeek;
  absl::StatusOr<std::string> engine_program = absl::NotFoundError("no engine was looked for");
  // What the engine program says of itself: "storyfarm-engine 0.1.0 with libtorch 2.11.0".
  std::function<absl::StatusOr<std::string>()> engine_version;
  // Starts an engine on a device; its own report first, then, with `all`, those of the machine's others.
  std::function<absl::StatusOr<std::vector<farm::v1::DeviceReport>>(const std::string& device, bool all)> probe;
  // One small call to the farm, which answers quickly or fails with a sentence.
  std::function<absl::Status()> call_farm;
  // Of NVIDIA's kernel module; empty: there is none.
  std::string nvidia_driver;
};

// In the order in which a person would mend things.
std::vector<Finding> Examine(const AgentOptions& options, const DoctorParts& parts);

bool AnyProblem(const std::vector<Finding>& findings);
// A line for each, and one below where there is something to do.
std::string FindingsText(const std::vector<Finding>& findings);
// {"problems": 1, "findings": [{"kind": "problem", "subject": "farm", "text": "...", "advice": "..."}]}
std::string FindingsJson(const std::vector<Finding>& findings);

// Examines this machine and prints what was found. The program's exit code: kExitOk, or kExitFailure for a problem.
int RunDoctor(const AgentOptions& options, bool json);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_DOCTOR_H_
