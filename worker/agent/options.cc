#include "worker/agent/options.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/membership.h"
#include "pipeline/plan/hours.h"
#include "pipeline/plan/limits.h"
#include "pipeline/plan/peering.h"

namespace storyfarm::worker {
namespace {

// A configuration is a few lines; a larger file is something else.
constexpr uint64_t kConfigBytes = 64 << 10;
constexpr size_t kMaxNameBytes = 128;
constexpr int kMaxThreads = 1024;

struct Setting {
  const char* name;      // the flag without its dashes, and the key in the file
  const char* variable;  // the data folder's is not the coordinator's; the farm's is storyctl's, too
  const char* value;     // what stands for the value in --help
  const char* standard;  // what holds where nobody says anything; null: found out at the start
  const char* help;
};

constexpr std::array<Setting, 14> kSettings{{
    {"data", "STORYFARM_WORKER_DATA", "DIR", nullptr, "Folder of this worker: its name, blob cache and outbox"},
    {"coordinator", "STORYFARM_FARM", "ADDRESS", nullptr,
     "Coordinator to work for: unix:PATH or HOST:PORT; several with commas between: whichever leads; the farm that was "
     "joined otherwise, or this user's own"},
    {"name", "STORYFARM_NAME", "NAME", nullptr, "Name of this node, for people"},
    {"devices", "STORYFARM_DEVICES", "LIST", "auto",
     "Devices to render on, such as cpu or mps or cuda:0,cuda:1; auto: all, but on a Mac the GPU alone"},
    {"threads", "STORYFARM_THREADS", "N", "0", "CPU threads of each engine; 0: as many as this process may use"},
    {"cache-gb", "STORYFARM_CACHE_GB", "GB", "50", "Room for models and results on disk, in GB of 10^9 bytes"},
    {"limit-memory-gb", "STORYFARM_LIMIT_MEMORY_GB", "GB", "0",
     "What the farm may take of each device's memory, in GB of 10^9 bytes; 0: all of it"},
    {"hours", "STORYFARM_HOURS", "TIMES", "any",
     "When the farm may work here, by the local clock, as in \"mon-fri 20:00-08:00, sat, sun\"; any: always"},
    {"power", "STORYFARM_POWER", "POWER", "any",
     "On which power the farm may work here: any, or mains: not on a battery"},
    {"idle-minutes", "STORYFARM_IDLE_MINUTES", "N", "0",
     "Work only when nobody has used the machine for so many minutes; 0: also while somebody does"},
    {"heat", "STORYFARM_HEAT", "RULE", "yield",
     "What to do while the machine is too hot: yield: finish what runs and take nothing new; ignore"},
    {"peers", "STORYFARM_PEERS", "ADDRESS", "0.0.0.0:0",
     "Where workers of other machines read what this one has cached, where it joined by code: an IP address of this "
     "machine and a port, 0 for any free one; off: they don't"},
    {"advertise", "STORYFARM_WORKER_ADVERTISE", "HOST", "",
     "Name or IP address by which they reach this machine; the one that the coordinator sees otherwise"},
    {"log-format", "STORYFARM_LOG_FORMAT", "FORMAT", "text", "Form of the log on stderr: text or json"},
}};

using Values = std::map<std::string, std::string>;

absl::StatusOr<Values> ReadFileOfValues(base::Env& env, const std::string& path) {
  const absl::StatusOr<std::string> bytes = env.ReadFile(path, kConfigBytes);
  if (!bytes.ok())
    return absl::InvalidArgumentError(absl::StrCat("The configuration file can't be read: ", bytes.status().message()));
  Values values;
  try {
    const YAML::Node root = YAML::Load(*bytes);
    if (root.IsNull()) return values;
    if (!root.IsMap())
      return absl::InvalidArgumentError(absl::StrCat(path, " must hold lines such as \"devices: cpu\"."));
    for (const auto& entry : root) {
      const auto key = entry.first.as<std::string>();
      const std::string where = absl::StrCat(path, ":", entry.first.Mark().line + 1, ": ");
      const bool known = std::any_of(kSettings.begin(), kSettings.end(),
                                     [&key](const Setting& setting) { return key == setting.name; });
      if (!known) {
        return absl::InvalidArgumentError(absl::StrCat(where, "there is no setting \"", key,
                                                       "\"; the names are those of the flags in --help, without --."));
      }
      if (!entry.second.IsScalar())
        return absl::InvalidArgumentError(absl::StrCat(where, "\"", key, "\" must be a single value."));
      values[key] = entry.second.as<std::string>();
    }
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is no YAML: ", error.what()));
  }
  return values;
}

std::string Footer() {
  std::string text = "Each flag may also be set by a variable:\n";
  for (const Setting& setting : kSettings)
    absl::StrAppend(&text, "  ", setting.variable, " for --", setting.name, "\n");
  absl::StrAppend(
      &text,
      "or by a line of the --config file (\"devices: cpu\"). Flags go before variables, variables before the file.\n\n"
      "Where --hours, --power or --idle-minutes forbid it, what runs is stopped within seconds and goes to other\n"
      "machines; its memory is given back, and the worker waits. While the machine is too hot, what runs is finished and\n"
      "nothing new is taken. While there is work, the machine is kept from going to sleep by itself.\n\n"
      "A coordinator that can't be reached is waited for. SIGTERM or Ctrl-C finishes what runs, gives the rest back "
      "and\n"
      "leaves; a second one leaves at once. Finished work that was not delivered is delivered at the next start.\n\n"
      "Exit codes: 0 stopped as asked; 1 something else, or doctor found a problem; 2 wrong usage; 3 data folder not\n"
      "writable, from a newer version or in use; 4 the engine is missing or a device does not work; 5 the coordinator does\n"
      "not take this version, another worker has the same node id, or this one has not joined the farm or was removed.\n");
  return text;
}

absl::StatusOr<uint64_t> Gigabytes(const std::string& flag, const std::string& text) {
  double value = 0;
  if (!absl::SimpleAtod(text, &value) || !(value >= 0) || value > 1e9) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, " must be a number of GB, not \"", text, "\"."));
  }
  return static_cast<uint64_t>(value * 1e9);
}

absl::Status ConvertOwner(const Values& values, OwnerRules& owner) {
  absl::StatusOr<std::vector<plan::WeekSpan>> hours = plan::ParseHours(values.at("hours"));
  if (!hours.ok()) return absl::InvalidArgumentError(absl::StrCat("--hours: ", hours.status().message()));
  owner.hours = *std::move(hours);
  owner.hours_text = values.at("hours");
  const std::string& power = values.at("power");
  if (power != "any" && power != "mains") {
    return absl::InvalidArgumentError(absl::StrCat("--power must be any or mains, not \"", power, "\"."));
  }
  owner.mains_only = power == "mains";
  const std::string& heat = values.at("heat");
  if (heat != "yield" && heat != "ignore") {
    return absl::InvalidArgumentError(absl::StrCat("--heat must be yield or ignore, not \"", heat, "\"."));
  }
  owner.cool_only = heat == "yield";
  const std::string& idle = values.at("idle-minutes");
  if (!absl::SimpleAtoi(idle, &owner.idle_minutes) || owner.idle_minutes < 0 || owner.idle_minutes > plan::kMinutesADay) {
    return absl::InvalidArgumentError(
        absl::StrCat("--idle-minutes must be a number from 0 to ", plan::kMinutesADay, ", not \"", idle, "\"."));
  }
  return absl::OkStatus();
}

absl::Status ConvertPeers(const Values& values, AgentOptions& agent) {
  agent.peers.clear();
  if (const std::string& peers = values.at("peers"); peers != "off") {
    absl::StatusOr<std::string> address = base::NetworkAddress(peers);
    if (!address.ok()) return absl::InvalidArgumentError(absl::StrCat("--peers: ", address.status().message()));
    agent.peers = *std::move(address);
  }
  agent.advertise = values.at("advertise");
  if (agent.advertise.empty()) return absl::OkStatus();
  const absl::Status host = plan::PeerAddress(agent.advertise, 1).status();
  return host.ok() ? host : absl::InvalidArgumentError(absl::StrCat("--advertise: ", host.message()));
}

absl::StatusOr<ProgramOptions> Convert(const Values& values) {
  ProgramOptions options;
  AgentOptions& agent = options.agent;
  // The engine, which answers with whole paths, is given paths below it.
  std::error_code error;
  agent.data_folder = std::filesystem::absolute(values.at("data"), error).lexically_normal().string();
  if (error) return absl::InvalidArgumentError(absl::StrCat("--data: ", error.message()));
  while (agent.data_folder.size() > 1 && agent.data_folder.back() == '/') agent.data_folder.pop_back();
  agent.link.coordinator = values.at("coordinator");
  agent.link.trust_folder = base::TrustFolder(agent.data_folder);
  if (absl::Status status = base::CheckCoordinatorTarget(agent.link.coordinator); !status.ok()) return status;
  agent.node_name = values.at("name");
  if (agent.node_name.empty() || agent.node_name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("--name must have 1 to ", kMaxNameBytes, " bytes."));
  }
  absl::StatusOr<std::vector<std::string>> devices = plan::ParseDevices(values.at("devices"));
  if (!devices.ok()) return devices.status();
  agent.devices = *std::move(devices);
  if (!absl::SimpleAtoi(values.at("threads"), &agent.threads) || agent.threads < 0 || agent.threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("--threads must be a number from 0 to ", kMaxThreads, ", not \"", values.at("threads"), "\"."));
  }
  const absl::StatusOr<uint64_t> cache = Gigabytes("cache-gb", values.at("cache-gb"));
  if (!cache.ok()) return cache.status();
  if (*cache == 0) return absl::InvalidArgumentError("--cache-gb must leave room for at least one model.");
  agent.cache_bytes = *cache;
  const absl::StatusOr<uint64_t> limit = Gigabytes("limit-memory-gb", values.at("limit-memory-gb"));
  if (!limit.ok()) return limit.status();
  agent.memory_limit_bytes = *limit;
  if (absl::Status peers = ConvertPeers(values, agent); !peers.ok()) return peers;
  if (absl::Status owner = ConvertOwner(values, agent.owner); !owner.ok()) return owner;
  const absl::StatusOr<base::LogFormat> format = base::ParseLogFormat(values.at("log-format"));
  if (!format.ok()) return format.status();
  options.log_format = *format;
  return options;
}

}  // namespace

absl::StatusOr<ProgramOptions> ReadOptions(const std::vector<std::string>& arguments, const base::Variables& variables,
                                           base::Env& env, const std::string& host_name, const std::string& version) {
  const absl::StatusOr<std::string> data = base::DefaultDataFolder(variables, "worker");
  const absl::StatusOr<std::string> coordinator = base::DefaultCoordinatorTarget(variables);
  Values standards = {{"data", data.value_or("")}, {"coordinator", ""}, {"name", host_name}};
  CLI::App app("Renders for a storyfarm: takes frames from the coordinator and gives pictures back.",
               "storyfarm-worker");
  app.footer(Footer());
  Values flags;
  for (const Setting& setting : kSettings) {
    if (setting.standard != nullptr) standards[setting.name] = setting.standard;
    CLI::Option* option = app.add_option(absl::StrCat("--", setting.name), flags[setting.name], setting.help);
    option->type_name(setting.value);
    std::string shown = standards[setting.name];
    if (shown.empty()) shown = std::string(setting.name) == "coordinator" ? coordinator.value_or("none") : "none";
    option->default_str(shown);
  }
  std::string config_file;
  app.add_option("--config", config_file, "YAML file with any of these")->type_name("FILE")->default_str("none");
  bool join = false;
  CLI::Option* asks =
      app.add_flag("--join", join, "First join a farm: asks for the code that storyctl worker add printed");
  std::string join_with;
  app.add_option("--join-with", join_with,
                 "The same with the code in this file, and only where this worker has not joined yet: for services and "
                 "containers")
      ->type_name("FILE")
      ->default_str("none")
      ->excludes(asks);
  app.fallthrough();  // flags may stand behind "doctor", too
  CLI::App* doctor = app.add_subcommand("doctor", "Says what is wrong with this machine or its farm, in plain words, and leaves");
  bool doctor_json = false;
  doctor->add_flag("--json", doctor_json, "As JSON");
  app.set_version_flag("--version", absl::StrCat("storyfarm-worker ", version));
  ProgramOptions said;
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants it
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    said.text = app.help();
    return said;
  } catch (const CLI::CallForVersion&) {
    said.text = absl::StrCat("storyfarm-worker ", version, "\n");
    return said;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(absl::StrCat(error.what(), ". See storyfarm-worker --help."));
  }
  if (config_file.empty()) config_file = variables("STORYFARM_WORKER_CONFIG");
  Values from_file;
  if (!config_file.empty()) {
    absl::StatusOr<Values> read = ReadFileOfValues(env, config_file);
    if (!read.ok()) return read.status();
    from_file = *std::move(read);
  }
  Values values = standards;
  for (const Setting& setting : kSettings) {
    std::string& value = values[setting.name];
    if (const auto found = from_file.find(setting.name); found != from_file.end()) value = found->second;
    if (const std::string variable = variables(setting.variable); !variable.empty()) value = variable;
    if (app.count(absl::StrCat("--", setting.name)) > 0) value = flags[setting.name];
  }
  if (values["coordinator"].empty()) {
    if (!values["data"].empty()) values["coordinator"] = base::JoinedFarm(env, base::TrustFolder(values["data"]));
    if (values["coordinator"].empty()) values["coordinator"] = coordinator.value_or("");
  }
  if (values["data"].empty())
    return data.ok() ? absl::InvalidArgumentError("--data must not be empty.") : data.status();
  if (values["coordinator"].empty()) {
    return coordinator.ok() ? absl::InvalidArgumentError("--coordinator must not be empty.") : coordinator.status();
  }
  absl::StatusOr<ProgramOptions> options = Convert(values);
  if (options.ok()) {
    options->join = join;
    options->join_with = join_with;
    options->doctor = doctor->parsed();
    options->doctor_json = doctor_json;
  }
  return options;
}

}  // namespace storyfarm::worker
