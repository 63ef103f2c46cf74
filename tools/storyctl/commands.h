// storyctl's commands. Each prints its result to stdout, what happens meanwhile to stderr, and returns what the exit
// code tells; an error that it returns is printed by the caller.
#ifndef STORYFARM_TOOLS_STORYCTL_COMMANDS_H_
#define STORYFARM_TOOLS_STORYCTL_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/base/places.h"
#include "tools/storyctl/console.h"
#include "tools/storyctl/exit_code.h"

namespace storyfarm::storyctl {

// What all commands have in common.
struct Context {
  const Console& console;
  base::Env& env;
  base::Variables variables;  // of the environment
  std::string farm;           // --farm; empty: the environment's or the default
  bool json = false;
};

// A farm as storyctl reaches it.
struct FarmAddress {
  std::string target;        // as base::CheckCoordinatorTarget takes it
  std::string trust_folder;  // what joining it brought; used for a farm on another machine
  base::Env* env = nullptr;
};

using Outcome = absl::StatusOr<ExitCode>;

// Where the coordinator is: --farm, STORYFARM_FARM, the farm that was joined, or the socket of this user's own.
// FAILED_PRECONDITION: it is on another machine, and nothing here has joined it.
absl::StatusOr<FarmAddress> FarmTarget(const Context& context);

struct SubmitOptions {
  std::string story;     // path
  std::string model;     // empty: the story's
  std::string settings;  // path; empty: none
  std::string key;       // empty: drawn
  uint32_t priority = 50;
  bool wait = false;
};
Outcome Submit(const Context& context, const SubmitOptions& options);

struct WatchOptions {
  std::string job;
};
Outcome Watch(const Context& context, const WatchOptions& options);
// The job of the final status: kOk where every panel and page is there.
ExitCode ExitCodeOfJob(int job_state);

struct JobsOptions {
  uint32_t limit = 20;
};
Outcome Jobs(const Context& context, const JobsOptions& options);
// Jobs with work left, with their chapters, in the order in which the farm serves them.
Outcome Queue(const Context& context);
struct StatusOptions {
  std::string job;
  bool tasks = false;
};
Outcome Status(const Context& context, const StatusOptions& options);
Outcome Cancel(const Context& context, const std::string& job);
// Forgets a job that has ended.
Outcome Remove(const Context& context, const std::string& job);
// What is not given stays as it is.
struct ChangeJobOptions {
  std::string job;
  std::optional<bool> paused;
  std::optional<uint32_t> priority;
};
Outcome ChangeJob(const Context& context, const ChangeJobOptions& options);
// Asks once more for what failed of a job, or for one task.
Outcome Retry(const Context& context, const std::string& job_or_task);
struct DrainNodeOptions {
  std::string node;  // name or id
  bool drained = true;
  bool at_once = false;
};
Outcome DrainNode(const Context& context, const DrainNodeOptions& options);
// What is not given stays as it is; without any, it only tells them.
struct LimitNodeOptions {
  std::string node;                  // name or id
  bool none = false;                 // first, all limits are taken away
  std::optional<double> memory_gb;   // of each device, in GB of 10^9 bytes; 0: no limit
  std::optional<std::string> hours;  // "any": no limit
  std::optional<std::string> power;  // "mains", or "any"
  std::optional<uint32_t> idle_minutes;
  std::optional<std::string> devices;  // "auto": no limit
};
// Sets what the farm may take of a machine, on top of what the worker there was started with.
Outcome LimitNode(const Context& context, const LimitNodeOptions& options);
// `task` as `status --tasks` prints it.
Outcome Explain(const Context& context, const std::string& task);
Outcome Nodes(const Context& context);
struct LogsOptions {
  std::string what;     // a job, a task or a node; empty: everything
  uint32_t lines = 100;  // at most, of what is there already
  bool follow = false;   // then what comes, until it is interrupted
};
Outcome Logs(const Context& context, const LogsOptions& options);
// The farm on the whole screen, until somebody leaves it.
Outcome Top(const Context& context);
struct WebLinkOptions {
  std::string role;  // "admin", "submitter", "viewer"; empty: the caller's own
  int port = 0;      // of this machine, where the farm is on another; 0: the page's own, or any
};
Outcome Web(const Context& context, const WebLinkOptions& options);

// Machines and people of other places. `kind`: farm.v1.MemberKind.
struct InviteOptions {
  int kind = 0;
  std::string name;  // empty: who joins says it
  std::string role;  // of a user
};
// Prints what to run on the other machine, and the code that it asks for.
Outcome Invite(const Context& context, const InviteOptions& options);
Outcome ListMembers(const Context& context, int kind);
Outcome RenameMember(const Context& context, int kind, const std::string& member, const std::string& name);
Outcome RemoveMember(const Context& context, int kind, const std::string& member);
// Workers that joined and those of the farm's own machine, with what they do.
Outcome ListWorkers(const Context& context);
struct JoinOptions {
  std::string name;  // empty: USER@HOST
};
// Makes this user's storyctl a member of a farm on another machine, with a code that is asked for.
Outcome Join(const Context& context, const JoinOptions& options);

struct FetchOptions {
  std::string job;
  std::string out;
  bool latents = false;
};
Outcome Fetch(const Context& context, const FetchOptions& options);

struct AddModelOptions {
  std::string name;
  std::string folder;
  bool fp16 = false;  // take the fp16 variant where there are both
};
Outcome AddModel(const Context& context, const AddModelOptions& options);
Outcome ListModels(const Context& context);

// CharacterPacks. `pack`: a name, or at least 8 digits of a key.
Outcome ListCharacters(const Context& context);
Outcome ShowCharacter(const Context& context, const std::string& pack);
Outcome NameCharacter(const Context& context, const std::string& pack, const std::string& name);
Outcome RemoveCharacter(const Context& context, const std::string& pack);

// The folder is made, or brought up to date where it holds an earlier backup.
Outcome Backup(const Context& context, const std::string& folder);
struct RestoreOptions {
  std::string backup;  // a folder
  std::string data;    // a coordinator's data folder: not there yet, or empty
};
Outcome Restore(const Context& context, const RestoreOptions& options);

struct RenderOptions {
  std::string story;
  std::string model;       // a folder
  std::string out;         // a folder, made where it is missing
  std::string settings;    // path; empty: none
  std::string draws;       // to replay; empty: own draws
  std::string save_draws;  // empty: not kept
  std::string latents;     // empty: not kept
  std::string device;      // "cpu", "mps", "cuda:0"; empty: the best there is
  std::string engine;      // path of storyfarm-engine; empty: looked for
  int threads = 0;         // CPU threads; 0: all that this process may use
  double limit_memory_gb = 0;  // of the device's memory, in GB of 10^9 bytes; 0: all of it
  bool lift_cap = false;       // to measure what runs take
  bool fp16 = false;
};
Outcome Render(const Context& context, const RenderOptions& options);

struct PlanOptions {
  std::string story;
  std::string model;                 // a folder, or a name that the farm knows; empty: the story's, asked of the farm
  std::string settings;              // path; empty: none
  std::vector<std::string> devices;  // in words: device_spec.h
  bool fp16 = false;
};
// What the story would take of each device. kNoRoom where none of them can draw all of it.
Outcome Plan(const Context& context, const PlanOptions& options);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_COMMANDS_H_
