#include "coordinator/rpc/config.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "coordinator/core/limits.h"
#include "coordinator/rpc/disk_watch.h"
#include "coordinator/rpc/listen.h"
#include "pipeline/base/log.h"
#include "pipeline/base/places.h"

namespace storyfarm::coordinator {
namespace {

// A configuration is a few lines; a larger file is something else.
constexpr uint64_t kConfigBytes = 64 << 10;
// A century: more is a mistake.
constexpr uint64_t kMostKeptDays = 36'500;
// A pebibyte.
constexpr uint64_t kMostQuotaGib = 1 << 20;
constexpr int kMostPort = 65535;

// kLowDiskMib as text.
constexpr char kLowDisk[] = "512";
static_assert(kLowDiskMib == 512);

// Where browsers and Prometheus find the farm again after a restart. Not the port of any program that people use to draw.
constexpr char kWeb[] = "127.0.0.1:7851";
constexpr int kWebPort = 7851;

struct Setting {
  const char* name;  // the flag without its dashes, and the key in the file
  std::string Config::*field;
  const char* value;     // what stands for the value in --help
  const char* standard;  // what holds where nobody says anything
  const char* help;
};

constexpr std::array<Setting, 17> kSettings{{
    {"data", &Config::data, "DIR", "", "Folder of the farm's data; holds its socket, too"},
    {"blobs", &Config::blobs, "DIR", "",
     "Folder of models, pictures and pages, where it is not in --data: shared by the coordinators of one --redis"},
    {"listen", &Config::listen, "ADDRESS", "",
     "Also listen on this loopback address, such as 127.0.0.1:7777; port 0: any free one"},
    {"network", &Config::network, "ADDRESS", "",
     "Serve other machines, too, which joined with a code, over mutual TLS on this address, such as 0.0.0.0:7850"},
    {"join-port", &Config::join_port, "PORT", "",
     "Where they join, on the same address; none: the port after --network's"},
    {"advertise", &Config::advertise, "HOSTS", "",
     "Names or addresses, with commas, by which other machines know this one; none: those of its network interfaces"},
    {"port-file", &Config::port_file, "FILE", "", "Write the port of --listen into this file once it serves"},
    {"redis", &Config::redis, "URL", "",
     "Redis to keep the farm's log in, redis://HOST:PORT or unix:///PATH, with appendfsync always; without it a "
     "private one is started in the data folder. A second coordinator on the same one stands by and takes over"},
    {"redis-password-file", &Config::redis_password_file, "FILE", "", "File with the password of --redis"},
    {"keep-days", &Config::keep_days, "DAYS", "",
     "Remove jobs that ended so many days ago, with their pictures and pages; none: keep them"},
    {"keep-jobs", &Config::keep_jobs, "COUNT", "",
     "Keep at most so many jobs that have ended: the one that ended first is removed first; none: keep all"},
    {"blob-quota", &Config::blob_quota, "GIB", "",
     "Refuse uploads with which models, pictures and pages would take more than so many GiB; none: what the disk has"},
    {"pack-budget", &Config::pack_budget, "GIB", "",
     "Keep character packs without a name up to so many GiB, those used longest ago go first; none: 64, or half of "
     "--blob-quota where that is less"},
    {"low-disk", &Config::low_disk, "MIB", kLowDisk,
     "Hand nothing out while fewer MiB are free on the disk of the blobs, until a half more are; 0: never mind"},
    {"webhook", &Config::webhook, "URL", "",
     "Tell this address, http://HOST:PORT/PATH, of each job that ends: JSON with job, state and counts, sent until it "
     "answers 2xx, at most 20 times in about an hour"},
    {"web", &Config::web, "ADDRESS", kWeb,
     "Loopback address of the farm's page for a browser and of its /metrics; the default takes any free port where that "
     "one is taken; off: none"},
    {"log-format", &Config::log_format, "FORMAT", "text", "Form of the log on stderr: text or json"},
}};

std::string VariableOf(const Setting& setting) {
  return absl::StrCat("STORYFARM_", absl::AsciiStrToUpper(absl::StrReplaceAll(setting.name, {{"-", "_"}})));
}

using Values = std::map<std::string, std::string>;

absl::StatusOr<Values> ReadFileOfValues(base::Env& env, const std::string& path) {
  const absl::StatusOr<std::string> bytes = env.ReadFile(path, kConfigBytes);
  if (!bytes.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("The configuration file can't be read: ", bytes.status().message()));
  }
  Values values;
  try {
    const YAML::Node root = YAML::Load(*bytes);
    if (root.IsNull()) return values;
    if (!root.IsMap()) {
      return absl::InvalidArgumentError(absl::StrCat(path, " must hold lines such as \"listen: 127.0.0.1:7777\"."));
    }
    for (const auto& entry : root) {
      const auto key = entry.first.as<std::string>();
      const bool known = std::any_of(kSettings.begin(), kSettings.end(),
                                     [&key](const Setting& setting) { return key == setting.name; });
      const std::string where = absl::StrCat(path, ":", entry.first.Mark().line + 1, ": ");
      if (!known) {
        return absl::InvalidArgumentError(absl::StrCat(where, "there is no setting \"", key,
                                                       "\"; the names are those of the flags in --help, without --."));
      }
      if (!entry.second.IsScalar()) {
        return absl::InvalidArgumentError(absl::StrCat(where, "\"", key, "\" must be a single value."));
      }
      values[key] = entry.second.as<std::string>();
    }
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is no YAML: ", error.what()));
  }
  return values;
}

std::string Footer() {
  std::string text =
      "Each flag may also be set by a variable (STORYFARM_DATA for --data, STORYFARM_PORT_FILE for --port-file, ...) "
      "or\n"
      "by a line of the --config file (\"data: DIR\"). Flags go before variables, variables before the file.\n\n"
      "It listens on a socket in the data folder, and stops on SIGTERM or Ctrl-C when all that it accepted is safe; a\n"
      "second one stops it at once, which loses nothing either.\n\n"
      "Exit codes: 0 stopped as asked; 1 something else; 2 wrong usage; 3 port or socket taken; 4 Redis missing or out "
      "of\n"
      "reach; 5 data folder not writable, from a newer version or in use; 7 the farm's data is damaged;\n"
      "8 it could not join, or the farm's members trust another authority than it has.\n";
  return text;
}

// A count of at least 1; 0 where nothing is said.
absl::Status ReadCount(const char* flag, const std::string& text, uint64_t most, uint64_t* count) {
  if (text.empty()) return absl::OkStatus();
  if (absl::SimpleAtoi(text, count) && *count >= 1 && *count <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " ", text, " makes no sense: say a whole number from 1 to ", most, "."));
}

absl::Status ReadRetention(Config& config) {
  uint64_t days = 0, jobs = 0, gib = 0;
  absl::Status status = ReadCount("keep-days", config.keep_days, kMostKeptDays, &days);
  if (status.ok()) status = ReadCount("keep-jobs", config.keep_jobs, Limits().archived_jobs, &jobs);
  if (status.ok()) status = ReadCount("blob-quota", config.blob_quota, kMostQuotaGib, &gib);
  uint64_t packs_gib = 0;
  if (status.ok()) status = ReadCount("pack-budget", config.pack_budget, kMostQuotaGib, &packs_gib);
  if (status.ok() && gib > 0 && packs_gib > gib) {
    status = absl::InvalidArgumentError(
        absl::StrCat("--pack-budget ", packs_gib, " is more than --blob-quota ", gib,
                     ": packs would take the room that pictures and pages need. Say less."));
  }
  config.pack_budget_bytes = packs_gib << 30;
  if (packs_gib == 0) {
    // Packs stay when pictures come: at most half of the room, so that a farm can't fill up with what it might reuse.
    config.pack_budget_bytes = Limits().pack_budget_bytes;
    if (gib > 0) config.pack_budget_bytes = std::min(config.pack_budget_bytes, (gib << 30) / 2);
  }
  uint64_t low_mib = 0;
  if (status.ok() && config.low_disk != "0") {
    status = ReadCount("low-disk", config.low_disk, kMostQuotaGib << 10, &low_mib);
  }
  config.low_disk_bytes = low_mib << 20;
  config.keep_finished_ms = days * 24 * 3600 * 1000;
  config.keep_finished_jobs = static_cast<size_t>(jobs);
  config.blob_quota_bytes = gib << 30;
  return status;
}

absl::Status ReadNetwork(Config& config) {
  for (const auto* said : {&config.join_port, &config.advertise}) {
    if (said->empty() || !config.network.empty()) continue;
    return absl::InvalidArgumentError(
        "--join-port and --advertise need --network: without it no other machine is served.");
  }
  if (config.network.empty()) return absl::OkStatus();
  const absl::StatusOr<std::string> address = base::NetworkAddress(config.network);
  if (!address.ok()) return address.status();
  config.network = *address;
  int network_port = 0;
  if (absl::SimpleAtoi(address->substr(address->rfind(':') + 1), &network_port) && network_port > 0) {
    config.join_port_number = network_port + 1;
  }
  if (!config.join_port.empty() && !absl::SimpleAtoi(config.join_port, &config.join_port_number)) {
    config.join_port_number = -1;
  }
  if (config.join_port_number < 0 || config.join_port_number > kMostPort) {
    return absl::InvalidArgumentError(absl::StrCat("--join-port must be a port from 0 to ", kMostPort,
                                                   "; without it, it is the one after --network's."));
  }
  config.advertise_hosts = absl::StrSplit(config.advertise, ',', absl::SkipEmpty());
  // A page whose port nobody named leaves the usual one to those who need it.
  int web_port = kWebPort;
  while (web_port == network_port || web_port == config.join_port_number) ++web_port;
  if (config.web_unsaid && web_port != kWebPort) config.web = absl::StrCat("127.0.0.1:", web_port);
  return absl::OkStatus();
}

absl::Status Check(const Config& config) {
  if (const auto format = base::ParseLogFormat(config.log_format); !format.ok()) return format.status();
  if (!config.port_file.empty() && config.listen.empty()) {
    return absl::InvalidArgumentError("--port-file needs --listen: without it there is no port.");
  }
  if (!config.blobs.empty() && config.redis.empty()) {
    return absl::InvalidArgumentError("--blobs needs --redis: with the private Redis all data lies in --data.");
  }
  if (!config.redis_password_file.empty() && config.redis.empty()) {
    return absl::InvalidArgumentError("--redis-password-file needs --redis: the private Redis has no password.");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ConfigOrText> ReadConfig(const std::vector<std::string>& arguments, const base::Variables& variables,
                                        base::Env& env, const std::string& version) {
  const absl::StatusOr<std::string> default_data = base::DefaultDataFolder(variables, "coordinator");
  CLI::App app("Coordinates a storyfarm: takes stories, hands their frames to workers, keeps the results.",
               "storyfarm-coordinator");
  app.footer(Footer());
  Values flags;
  for (const Setting& setting : kSettings) {
    std::string standard = setting.standard;
    if (setting.field == &Config::data && default_data.ok()) standard = *default_data;
    CLI::Option* option = app.add_option(absl::StrCat("--", setting.name), flags[setting.name], setting.help);
    option->type_name(setting.value);
    option->default_str(standard.empty() ? "none" : standard);
  }
  std::string config_file;
  app.add_option("--config", config_file, "YAML file with any of these")->type_name("FILE")->default_str("none");
  bool join = false;
  CLI::Option* asks = app.add_flag(
      "--join", join,
      "First join a farm that has a coordinator already: asks for the code of storyctl coordinator add");
  std::string join_with;
  app.add_option("--join-with", join_with,
                 "The same with the code in this file, and only where this coordinator has no authority yet: for "
                 "services and containers")
      ->type_name("FILE")
      ->default_str("none")
      ->excludes(asks);
  app.set_version_flag("--version", absl::StrCat("storyfarm-coordinator ", version));
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants it
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    return ConfigOrText{{}, app.help()};
  } catch (const CLI::CallForVersion&) {
    return ConfigOrText{{}, absl::StrCat("storyfarm-coordinator ", version, "\n")};
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(absl::StrCat(error.what(), ". See storyfarm-coordinator --help."));
  }
  if (config_file.empty()) config_file = variables("STORYFARM_CONFIG");
  Values from_file;
  if (!config_file.empty()) {
    absl::StatusOr<Values> values = ReadFileOfValues(env, config_file);
    if (!values.ok()) return values.status();
    from_file = *std::move(values);
  }
  ConfigOrText result;
  result.config.join = join;
  result.config.join_with = join_with;
  for (const Setting& setting : kSettings) {
    std::string& value = result.config.*setting.field;
    if (const auto found = from_file.find(setting.name); found != from_file.end()) value = found->second;
    if (const std::string variable = variables(VariableOf(setting)); !variable.empty()) value = variable;
    if (app.count(absl::StrCat("--", setting.name)) > 0) value = flags[setting.name];
    if (setting.field == &Config::web) result.config.web_unsaid = value.empty();
    if (value.empty()) value = setting.standard;
  }
  if (result.config.data.empty()) {
    if (!default_data.ok()) return default_data.status();
    result.config.data = *default_data;
  }
  if (absl::Status status = ReadRetention(result.config); !status.ok()) return status;
  if (absl::Status status = ReadNetwork(result.config); !status.ok()) return status;
  if (absl::Status status = Check(result.config); !status.ok()) return status;
  return result;
}

}  // namespace storyfarm::coordinator
