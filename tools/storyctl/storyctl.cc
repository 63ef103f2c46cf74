#include "tools/storyctl/storyctl.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "farm/v1/trust.pb.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/completion.h"
#include "tools/storyctl/json.h"

namespace storyfarm::storyctl {
namespace {

constexpr char kDescription[] =
    "storyctl: submit illustrated stories to a farm, watch them, fetch their pages; "
    "or render one on this machine.";
constexpr char kFooter[] =
    "Exit codes: 0 done; 1 the job or some panels failed; 2 bad usage, story, settings or model; 3 no coordinator\n"
    "answers; 4 no such job, model or character; 5 the farm forbids it; 6 not enough memory or disk; 7 internal.";

// The command line and what it fills in.
struct CommandLine {
  CLI::App app{kDescription, "storyctl"};
  std::string farm;
  bool json = false;
  SubmitOptions submit;
  JobsOptions jobs;
  StatusOptions status;
  WatchOptions watch;
  FetchOptions fetch;
  std::string cancel_job;
  std::string steered_job;
  uint32_t priority = 50;
  DrainNodeOptions drain;
  LimitNodeOptions limit;
  InviteOptions invite;
  std::string member;
  std::string member_name;
  JoinOptions join;
  std::string explain_task;
  LogsOptions logs;
  WebLinkOptions web;
  std::string backup_folder;
  RestoreOptions restore;
  AddModelOptions add_model;
  std::string pack;
  std::string pack_name;
  RenderOptions render;
  PlanOptions plan;
  std::string shell;
  std::function<Outcome(const Context&)> run;

  CLI::App* Command(CLI::App* parent, const std::string& name, const std::string& description,
                    std::function<Outcome(const Context&)> body) {
    CLI::App* command = parent->add_subcommand(name, description);
    // Before the command or after it.
    command->add_flag("--json", json, "Print the result as JSON");
    command->add_option("--farm", farm,
                        "Coordinator to ask: unix:PATH or HOST:PORT; several with commas: the one that leads");
    command->callback([this, body = std::move(body)] { run = body; });
    return command;
  }

  void AddFarmCommands();
  void AddSteering();
  void AddWorkerCommands();
  void AddPeopleCommands();
  CLI::App* AddInvitation(CLI::App* parent, int kind, const std::string& description);
  void AddRemoval(CLI::App* parent, int kind, const std::string& description);
  void AddModelCommands();
  void AddCharacterCommands();
  void AddRender();
  void AddPlan();
  std::vector<CommandWords> Words() const;
};

void CommandLine::AddFarmCommands() {
  CLI::App* c = Command(&app, "submit", "Send a story to the farm; prints the job",
                        [this](const Context& context) { return Submit(context, submit); });
  c->add_option("story", submit.story, "Story file: YAML, or StoryDiffusion's lines")->required();
  c->add_option("--model", submit.model, "Model to draw with; the story's own otherwise");
  c->add_option("--settings", submit.settings, "JSON or YAML whose keys replace the story's settings");
  c->add_option("--key", submit.key, "Idempotency key: sent twice, it makes one job; drawn otherwise");
  c->add_option("--priority", submit.priority, "1 to 100: jobs of a higher one go first")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));
  c->add_flag("--wait", submit.wait, "Watch the job until it ends");

  c = Command(&app, "jobs", "List jobs, newest first", [this](const Context& context) { return Jobs(context, jobs); });
  c->add_option("--limit", jobs.limit, "Most jobs to list")->capture_default_str()->check(CLI::Range(1, 100000));

  c = Command(&app, "status", "Show one job", [this](const Context& context) { return Status(context, status); });
  c->add_option("job", status.job, "Job, such as j-0123456789")->required();
  c->add_flag("--tasks", status.tasks, "With every task");

  c = Command(&app, "watch", "Follow a job until it ends",
              [this](const Context& context) { return Watch(context, watch); });
  c->add_option("job", watch.job, "Job")->required();

  c = Command(&app, "fetch", "Bring panels, pages, PDF, CBZ and metadata of a job",
              [this](const Context& context) { return Fetch(context, fetch); });
  c->add_option("job", fetch.job, "Job")->required();
  c->add_option("--out", fetch.out, "Folder to write into")->required();
  c->add_flag("--latents", fetch.latents, "The final latents, too");

  c = Command(&app, "cancel", "Stop a job", [this](const Context& context) { return Cancel(context, cancel_job); });
  c->add_option("job", cancel_job, "Job")->required();

  Command(&app, "queue", "List jobs with work left, by chapter, in the order in which they are served",
          [](const Context& context) { return Queue(context); });

  Command(&app, "top", "Show queue and machines on the whole screen; keys pause, drain, explain and retry",
          [](const Context& context) { return Top(context); });

  c = Command(&app, "logs", "Show what the coordinator has logged of a job, a task or a machine",
              [this](const Context& context) { return Logs(context, logs); });
  c->add_option("what", logs.what, "Job, task (j-0123456789/frame/12) or node; everything otherwise");
  c->add_flag("-f,--follow", logs.follow, "Go on with what comes, until it is interrupted");
  c->add_option("--lines", logs.lines, "Most lines of what is there already")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));

  Command(&app, "nodes", "List machines and their devices", [](const Context& context) { return Nodes(context); });

  c = Command(&app, "web",
              "Print a link that opens the farm's page in a browser, once; from another machine, carry the page here",
              [this](const Context& context) { return Web(context, web); });
  c->add_option("--role", web.role, "viewer looks; submitter also steers jobs; admin also steers machines; your own otherwise")
      ->check(CLI::IsMember({"viewer", "submitter", "admin"}));
  c->add_option("--port", web.port, "Port of this machine for a farm on another; the page's own or any free one otherwise")
      ->check(CLI::Range(1, 65535));

  c = Command(&app, "backup", "Copy all that the farm knows, while it works, into a folder",
              [this](const Context& context) { return Backup(context, backup_folder); });
  c->add_option("folder", backup_folder, "New, or with an earlier backup, which is brought up to date")->required();

  c = Command(&app, "restore", "Make a coordinator's data folder from a backup",
              [this](const Context& context) { return Restore(context, restore); });
  c->add_option("backup", restore.backup, "Folder that backup wrote")->required();
  c->add_option("--data", restore.data, "Data folder to make, for storyfarm-coordinator --data")->required();
}

void CommandLine::AddSteering() {
  CLI::App* c = Command(&app, "rm", "Forget a job that has ended; fetch what you want to keep before",
                        [this](const Context& context) { return Remove(context, steered_job); });
  c->add_option("job", steered_job, "Job")->required();
  c = Command(&app, "pause", "Grant nothing more of a job; what is being drawn is finished",
              [this](const Context& context) {
                return ChangeJob(context, {steered_job, true, {}});
              });
  c->add_option("job", steered_job, "Job")->required();
  c = Command(&app, "resume", "Let a paused job go on", [this](const Context& context) {
    return ChangeJob(context, {steered_job, false, {}});
  });
  c->add_option("job", steered_job, "Job")->required();
  c = Command(&app, "priority", "Put a job elsewhere in the queue", [this](const Context& context) {
    return ChangeJob(context, {steered_job, {}, priority});
  });
  c->add_option("job", steered_job, "Job")->required();
  c->add_option("priority", priority, "1 to 100: jobs of a higher one go first, those of one share the farm")
      ->required()
      ->check(CLI::Range(1, 100));

  c = Command(&app, "retry", "Try once more what failed of a job, also of one that has ended",
              [this](const Context& context) { return Retry(context, steered_job); });
  c->add_option("job", steered_job, "Job, or one task of it, such as j-0123456789/frame/12")->required();

  c = Command(&app, "drain", "Take a machine out of the farm; what is being drawn there is finished",
              [this](const Context& context) { return DrainNode(context, drain); });
  c->add_option("node", drain.node, "Name or id, as nodes prints it")->required();
  c->add_flag("--now", drain.at_once, "Stop what is being drawn there, too: others draw it");
  c = Command(&app, "undrain", "Give a machine back to the farm", [this](const Context& context) {
    return DrainNode(context, {drain.node, false, false});
  });
  c->add_option("node", drain.node, "Name or id")->required();

  c = Command(&app, "explain", "Say why a task waits, or why it went where it went",
              [this](const Context& context) { return Explain(context, explain_task); });
  c->add_option("task", explain_task, "Task as status --tasks prints it, such as j-0123456789/frame/12")->required();
}

CLI::App* CommandLine::AddInvitation(CLI::App* parent, int kind, const std::string& description) {
  return Command(parent, "add", description, [this, kind](const Context& context) {
    invite.kind = kind;
    return Invite(context, invite);
  });
}

void CommandLine::AddRemoval(CLI::App* parent, int kind, const std::string& description) {
  CLI::App* c = Command(parent, "remove", description,
                        [this, kind](const Context& context) { return RemoveMember(context, kind, member); });
  c->add_option("name", member, "Name or id, as list prints it")->required();
}

void CommandLine::AddWorkerCommands() {
  constexpr char kName[] = "Name or id, as list prints it";
  constexpr int kKind = farm::v1::MEMBER_WORKER;
  CLI::App* worker = app.add_subcommand("worker", "Machines that draw: add them, name them, take them out");
  worker->require_subcommand(1);
  CLI::App* c = AddInvitation(worker, kKind, "Let a machine join: prints what to run there, and a code");
  c->add_option("--name", invite.name, "Its name in the farm; its host name otherwise");
  Command(worker, "list", "List them, with what they have and whether they are there",
          [](const Context& context) { return ListWorkers(context); });
  c = Command(worker, "rename", "Give one that joined another name", [this](const Context& context) {
    return RenameMember(context, kKind, member, member_name);
  });
  c->add_option("name", member, kName)->required();
  c->add_option("new_name", member_name, "Its name from now on")->required();
  c = Command(worker, "pause", "Hand it nothing more; what it draws is finished (the same as drain)",
              [this](const Context& context) {
                return DrainNode(context, {member, true, false});
              });
  c->add_option("name", member, kName)->required();
  c = Command(worker, "resume", "Let it draw again (the same as undrain)", [this](const Context& context) {
    return DrainNode(context, {member, false, false});
  });
  c->add_option("name", member, kName)->required();
  c = Command(worker, "drain", "Hand it nothing more", [this](const Context& context) {
    return DrainNode(context, {member, true, drain.at_once});
  });
  c->add_option("name", member, kName)->required();
  c->add_flag("--now", drain.at_once, "Stop what is being drawn there, too: others draw it");
  c = Command(worker, "limit",
              "Say what the farm may take of it, on top of what it was started with; without options, tell it",
              [this](const Context& context) { return LimitNode(context, limit); });
  c->add_option("name", limit.node, kName)->required();
  c->add_option("--memory-gb", limit.memory_gb, "At most so much of each device's memory, in GB of 10^9 bytes; 0: all")
      ->check(CLI::Range(0.0, 1e6));
  c->add_option("--hours", limit.hours, "When, by its own clock, as in \"mon-fri 20:00-08:00, sat, sun\"; any: always");
  c->add_option("--power", limit.power, "any, or mains: not on a battery")->check(CLI::IsMember({"any", "mains"}));
  c->add_option("--idle-minutes", limit.idle_minutes,
                "Only when nobody has used it for so many minutes; 0: also while somebody does");
  c->add_option("--devices", limit.devices, "These of its devices alone, such as cpu or cuda:0,cuda:1; auto: all");
  c->add_flag("--none", limit.none, "Take all limits away first");
  AddRemoval(worker, kKind, "Trust it no more: it is cut off at once, and others draw what it was drawing");
}

void CommandLine::AddPeopleCommands() {
  constexpr int kUser = farm::v1::MEMBER_USER;
  CLI::App* user = app.add_subcommand("user", "People who use the farm from other machines");
  user->require_subcommand(1);
  CLI::App* c = AddInvitation(user, kUser, "Let somebody join: prints what to run there, and a code");
  c->add_option("name", invite.name, "Their name in the farm; USER@HOST otherwise");
  c->add_option("--role", invite.role,
                "viewer: look and fetch; submitter: submit, steer jobs, add models, keep characters; admin: everything")
      ->required();
  Command(user, "list", "List them", [](const Context& context) { return ListMembers(context, kUser); });
  AddRemoval(user, kUser, "Trust somebody no more: their calls are cut off at once");

  constexpr int kCoordinator = farm::v1::MEMBER_COORDINATOR;
  CLI::App* coordinator =
      app.add_subcommand("coordinator", "Further coordinators that may lead the farm for other machines, too");
  coordinator->require_subcommand(1);
  c = AddInvitation(coordinator, kCoordinator,
                    "Let one join, with the key of the farm's authority: prints what to run there, and a code");
  c->add_option("--name", invite.name, "Its name in the farm");
  Command(coordinator, "list", "List them", [](const Context& context) { return ListMembers(context, kCoordinator); });
  AddRemoval(coordinator, kCoordinator, "Take one off the list; it keeps the key that it was given");

  c = Command(&app, "join", "Join a farm on another machine: asks for the code that storyctl user add printed",
              [this](const Context& context) { return Join(context, join); });
  c->add_option("--name", join.name, "Your name in the farm, where the code names none; USER@HOST otherwise");
}

void CommandLine::AddModelCommands() {
  CLI::App* models = app.add_subcommand("models", "Models that the farm can draw with");
  models->require_subcommand(1);
  CLI::App* c = Command(models, "add", "Upload a model: a folder in the diffusers layout",
                        [this](const Context& context) { return AddModel(context, add_model); });
  c->add_option("name", add_model.name, "Name for stories to use")->required();
  c->add_option("folder", add_model.folder, "Folder with model_index.json")->required();
  c->add_flag("--fp16", add_model.fp16, "Take the fp16 variant of the weights where there are both");
  Command(models, "list", "List models", [](const Context& context) { return ListModels(context); });
}

void CommandLine::AddCharacterCommands() {
  constexpr char kPack[] = "Name, or the beginning of a key as list prints it";
  CLI::App* characters =
      app.add_subcommand("characters", "Characters that the farm has drawn, kept for later chapters and stories");
  characters->require_subcommand(1);
  Command(characters, "list", "List them, those used last first",
          [](const Context& context) { return ListCharacters(context); });
  CLI::App* c = Command(characters, "show", "Show one: how it was made, and from which pictures",
                        [this](const Context& context) { return ShowCharacter(context, pack); });
  c->add_option("pack", pack, kPack)->required();
  c = Command(characters, "name", "Give one the name by which stories ask for it (pack: NAME); it stays until removed",
              [this](const Context& context) { return NameCharacter(context, pack, pack_name); });
  c->add_option("pack", pack, kPack)->required();
  c->add_option("name", pack_name, "1 to 64 letters, digits, dots, underscores and hyphens")->required();
  c = Command(characters, "remove", "Remove one that no job needs",
              [this](const Context& context) { return RemoveCharacter(context, pack); });
  c->add_option("pack", pack, kPack)->required();
}

void CommandLine::AddRender() {
  CLI::App* c = Command(&app, "render", "Render a story on this machine, without a farm",
                        [this](const Context& context) { return Render(context, render); });
  c->add_option("story", render.story, "Story file: YAML, or StoryDiffusion's lines")->required();
  c->add_option("--model", render.model, "Folder of an SDXL model in the diffusers layout")->required();
  c->add_option("--out", render.out, "Folder for panels, pages, PDF, CBZ and metadata")->required();
  c->add_option("--settings", render.settings, "JSON or YAML whose keys replace the story's settings");
  c->add_option("--draws", render.draws, "Replay the random draws of this file");
  c->add_option("--save-draws", render.save_draws, "Write the random draws of this run");
  c->add_option("--latents", render.latents, "Write the panels' final latents (safetensors, float32)");
  c->add_option("--device", render.device, "cpu, mps or cuda:N; the best there is otherwise");
  c->add_option("--threads", render.threads, "CPU threads; 0: all that there are")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  c->add_option("--limit-memory-gb", render.limit_memory_gb,
                "What to take of the device's memory, in GB of 10^9 bytes; 0: all of it")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  c->add_flag("--lift-cap", render.lift_cap,
              "Let a GPU give more than a plan predicts, to measure; otherwise that is running out of memory");
  c->add_option("--engine", render.engine, "Path of storyfarm-engine; the one beside storyctl otherwise");
  c->add_flag("--fp16", render.fp16, "Take the fp16 variant of the weights where there are both");
}

void CommandLine::AddPlan() {
  CLI::App* c = Command(&app, "plan", "Predict what a story takes of machines that you only describe",
                        [this](const Context& context) { return Plan(context, plan); });
  c->add_option("story", plan.story, "Story file: YAML, or StoryDiffusion's lines")->required();
  c->add_option("--device", plan.devices,
                "A machine, such as \"mps,16GiB\" or \"cuda,24GB,free=20GB,speed=80tflops\"; may be said again.\n"
                "cuda, mps or cpu, then with commas: its memory, unified, free=SIZE, recommended=SIZE,\n"
                "speed=NUMBERtflops, threads=NUMBER, name=TEXT")
      ->required()
      ->allow_extra_args(false);
  c->add_option("--model", plan.model, "Folder of a model, or the name of one of the farm; the story's own otherwise");
  c->add_option("--settings", plan.settings, "JSON or YAML whose keys replace the story's settings");
  c->add_flag("--fp16", plan.fp16, "Take the fp16 variant of the weights where there are both");
}

std::vector<std::string> OptionWords(const CLI::App* app) {
  std::vector<std::string> words;
  for (const CLI::Option* option : app->get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back(absl::StrCat("--", name));
  }
  return words;
}

std::vector<CommandWords> CommandLine::Words() const {
  std::vector<CommandWords> commands = {{"", "", OptionWords(&app)}};
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    commands.push_back({command->get_name(), command->get_description(), OptionWords(command)});
    for (const CLI::App* below : command->get_subcommands([](const CLI::App*) { return true; })) {
      commands.push_back(
          {absl::StrCat(command->get_name(), " ", below->get_name()), below->get_description(), OptionWords(below)});
    }
  }
  return commands;
}

void PrintError(const Console& console, bool json, const absl::Status& status) {
  console.Error(std::string(status.message()));
  if (!json) return;
  const int code = static_cast<int>(ExitCodeOf(status));
  console.out() << Print({{"error", {{"message", std::string(status.message())}, {"exit_code", code}}}}) << std::endl;
}

absl::Status UsageError(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = app.remaining();
  if (app.get_subcommands().empty() && !unknown.empty() && unknown[0][0] != '-') {
    return absl::InvalidArgumentError(absl::StrCat("there is no command '", unknown[0], "'; see storyctl --help"));
  }
  return absl::InvalidArgumentError(absl::StrCat(error.what(), "; see storyctl --help"));
}

}  // namespace

int Run(const std::vector<std::string>& arguments, const Console& console, base::Env& env,
        const base::Variables& variables) {
  CommandLine line;
  line.app.require_subcommand(1);
  line.app.footer(kFooter);
  line.app.set_version_flag("--version", "storyctl " STORYFARM_VERSION);
  line.app.add_flag("--json", line.json, "Print the result as JSON");
  line.app.add_option("--farm", line.farm,
                      "Coordinator to ask: unix:PATH or HOST:PORT, several with commas: the one that leads; "
                      "STORYFARM_FARM, or this user's own, otherwise");
  line.AddFarmCommands();
  line.AddSteering();
  line.AddWorkerCommands();
  line.AddPeopleCommands();
  line.AddModelCommands();
  line.AddCharacterCommands();
  line.AddRender();
  line.AddPlan();
  CLI::App* completion = line.Command(&line.app, "completion", "Print a completion script for a shell",
                                      [&](const Context& context) -> Outcome {
                                        const auto script = CompletionScript(line.shell, line.Words());
                                        if (!script.ok()) return script.status();
                                        context.console.out() << *script << std::flush;
                                        return ExitCode::kOk;
                                      });
  completion->add_option("shell", line.shell, "bash, zsh or fish")->required();

  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
    line.app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return line.app.exit(error, console.out(), console.err());  // --help, --version
    // The flag may stand behind what could not be read.
    const bool json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
    const absl::Status wrong = UsageError(line.app, error);
    PrintError(console, json, wrong);
    return static_cast<int>(ExitCodeOf(wrong));
  }
  const Context context{console, env, variables, line.farm, line.json};
  const Outcome outcome = line.run(context);
  if (outcome.ok()) return static_cast<int>(*outcome);
  PrintError(console, line.json, outcome.status());
  return static_cast<int>(ExitCodeOf(outcome.status()));
}

}  // namespace storyfarm::storyctl
