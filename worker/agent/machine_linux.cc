#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "worker/agent/machine.h"

namespace storyfarm::worker {
namespace {

constexpr absl::Duration kProgramWithin = absl::Seconds(3);
constexpr int kMostTripPoints = 12;         // THERMAL_MAX_TRIPS (include/linux/thermal.h)
constexpr int64_t kShortOfCritical = 5000;  // thousandths of a degree

// Files of /sys and /run are small; a missing one is an empty text.
std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return std::string(absl::StripAsciiWhitespace(text.str()));
}

std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  DIR* opened = opendir(folder.c_str());
  if (opened == nullptr) return names;
  while (const dirent* entry = readdir(opened)) names.emplace_back(entry->d_name);
  closedir(opened);
  return names;
}

// The value of KEY in lines such as "KEY=value".
std::string ValueOf(const std::string& text, const std::string& key) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, key + "=")) return std::string(line.substr(key.size() + 1));
  }
  return "";
}

class Linux final : public Machine {
 public:
  Linux(std::string root, std::function<int64_t()> unix_s, ProgramOutput run)
      : root_(std::move(root)), unix_s_(std::move(unix_s)), run_(std::move(run)) {}

  // A machine without a battery is on mains power, whatever else it lists.
  std::optional<bool> OnMains() override {
    const std::string folder = root_ + "/sys/class/power_supply/";
    bool battery = false, discharging = false;
    for (const std::string& name : NamesIn(folder)) {
      const std::string type = ReadText(folder + name + "/type");
      // Of a mouse or a headset, not of the machine.
      if (ReadText(folder + name + "/scope") == "Device") continue;
      if ((type == "Mains" || type == "USB") && ReadText(folder + name + "/online") == "1") return true;
      if (type != "Battery") continue;
      battery = true;
      discharging |= ReadText(folder + name + "/status") == "Discharging";
    }
    if (!battery) return true;
    return !discharging;
  }

  std::optional<bool> TooHot() override {
    std::optional<bool> hot;
    const std::string folder = root_ + "/sys/class/thermal/";
    for (const std::string& name : NamesIn(folder)) {
      const std::string zone = folder + name + "/";
      int64_t now = 0;
      if (!absl::StartsWith(name, "thermal_zone") || !absl::SimpleAtoi(ReadText(zone + "temp"), &now)) continue;
      for (int i = 0; i < kMostTripPoints; ++i) {
        const std::string trip = absl::StrCat(zone, "trip_point_", i, "_");
        const std::string type = ReadText(trip + "type");
        int64_t limit = 0;
        if (type.empty()) break;
        // Firmware that knows no limit writes 0, or less.
        if (!absl::SimpleAtoi(ReadText(trip + "temp"), &limit) || limit <= 0) continue;
        if (type == "critical") limit -= kShortOfCritical;
        if (type == "hot" || type == "critical") hot = hot.value_or(false) || now >= limit;
      }
    }
    return hot;
  }

  std::optional<int64_t> IdleSeconds() override {
    const std::optional<int64_t> typed = SinceTyped();
    const std::optional<std::optional<int64_t>> graphical = SinceGraphical();
    if (!graphical.has_value()) return typed;
    if (!graphical->has_value() || !typed.has_value()) return std::nullopt;
    return std::min(*typed, **graphical);
  }

 private:
  // A terminal's time of access is when it was last read from: typed at, within 8 s (drivers/tty/tty_io.c).
  std::optional<int64_t> SinceTyped() const {
    int64_t newest = 0;
    bool any_folder = false;
    const auto look = [&](const std::string& path) {
      struct stat info {};
      if (stat(path.c_str(), &info) == 0) newest = std::max<int64_t>(newest, info.st_atime);
    };
    for (const std::string& name : NamesIn(root_ + "/dev/pts")) {
      any_folder = true;
      if (absl::ascii_isdigit(static_cast<unsigned char>(name.front()))) look(root_ + "/dev/pts/" + name);
    }
    for (const std::string& name : NamesIn(root_ + "/dev")) {
      any_folder = true;
      const bool console = absl::StartsWith(name, "tty") && name.size() > 3;
      if (console && absl::ascii_isdigit(static_cast<unsigned char>(name[3]))) look(root_ + "/dev/" + name);
    }
    if (!any_folder) return std::nullopt;
    return std::max<int64_t>(0, unix_s_() - newest);
  }

  // Seconds since the last input of any graphical session; nothing in the inner one where one can't be asked, nothing
  // at all where there is none.
  std::optional<std::optional<int64_t>> SinceGraphical() const {
    std::vector<std::string> arguments = {"show-session"};
    const std::string folder = root_ + "/run/systemd/sessions/";
    for (const std::string& name : NamesIn(folder)) {
      const std::string type = ValueOf(ReadText(folder + name), "TYPE");
      if (type == "x11" || type == "wayland" || type == "mir") arguments.push_back(name);
    }
    if (arguments.size() == 1) return std::nullopt;
    arguments.insert(arguments.end(), {"-p", "IdleHint", "-p", "IdleSinceHint"});
    const absl::StatusOr<std::string> told = run_("loginctl", arguments);
    if (!told.ok()) return std::optional<int64_t>();
    int64_t newest_s = 0;
    bool any = false;
    for (const absl::string_view session : absl::StrSplit(*told, "\n\n")) {
      const std::string text(session);
      const std::string hint = ValueOf(text, "IdleHint");
      if (hint.empty()) continue;
      any = true;
      int64_t since_us = 0;
      if (hint != "yes") return std::optional<int64_t>(0);
      if (!absl::SimpleAtoi(ValueOf(text, "IdleSinceHint"), &since_us)) return std::optional<int64_t>();
      newest_s = std::max(newest_s, since_us / 1'000'000);
    }
    if (!any) return std::optional<int64_t>();
    return std::optional<int64_t>(std::max<int64_t>(0, unix_s_() - newest_s));
  }

  const std::string root_;
  const std::function<int64_t()> unix_s_;
  const ProgramOutput run_;
};

}  // namespace

std::unique_ptr<Machine> LinuxMachine(std::string root, std::function<int64_t()> unix_s, ProgramOutput run) {
  return std::make_unique<Linux>(std::move(root), std::move(unix_s), std::move(run));
}

std::unique_ptr<Machine> Machine::OfSystem() {
  return LinuxMachine("", [] { return static_cast<int64_t>(std::time(nullptr)); },
                      RunWithin(kProgramWithin));
}

}  // namespace storyfarm::worker
