#include "worker/agent/doctor.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/base/membership.h"
#include "pipeline/plan/names.h"
#include "worker/agent/data_folder.h"
#include "worker/agent/devices.h"

namespace storyfarm::worker {
namespace {

// SDXL's weights, and room for banks and pictures beside them.
constexpr uint64_t kRoomBytes = 10'000'000'000;
// The least that a 1024 x 1024 picture of SDXL can be drawn in: int8 weights, partly streamed (the planner's last resort).
constexpr uint64_t kLeastBytes = 2'500'000'000;
// Of torch's allocator for MPS, where nobody sets them (MPSAllocator.mm).
constexpr double kHighStandard = 1.7, kLowStandard = 1.4;
constexpr double kHighMost = 2.0;  // also what bounds the low one where the high one is 0: no limit

std::string Gigabytes(uint64_t bytes) { return absl::StrFormat("%.1f GB", static_cast<double>(bytes) * 1e-9); }

class Examination {
 public:
  Examination(const AgentOptions& options, const DoctorParts& parts) : options_(options), parts_(parts) {}

  std::vector<Finding> Run() {
    DataFolder();
    Farm();
    Engine();
    Watermarks();
    MemoryLimit();
    Owner();
    Sleep();
    return std::move(findings_);
  }

 private:
  void Say(Finding::Kind kind, std::string subject, std::string text, std::string advice = "") {
    findings_.push_back({kind, std::move(subject), std::move(text), std::move(advice)});
  }
  void Good(std::string subject, std::string text) { Say(Finding::kGood, std::move(subject), std::move(text)); }
  void Problem(std::string subject, std::string text, std::string advice) {
    Say(Finding::kProblem, std::move(subject), std::move(text), std::move(advice));
  }

  void DataFolder() {
    const std::string& path = options_.data_folder;
    const absl::StatusOr<worker::DataFolder> opened = OpenDataFolder(*parts_.env, path);
    const bool busy = absl::IsAlreadyExists(opened.status());
    if (!opened.ok() && !busy) {
      return Problem("data folder", std::string(opened.status().message()),
                     "Make the folder this user's own, or name another one with --data.");
    }
    const std::string trial = base::JoinPath(path, "doctor");
    absl::Status written = parts_.env->WriteFileDurably(trial, "written by storyfarm-worker doctor\n");
    parts_.env->Remove(trial).IgnoreError();
    if (!written.ok()) {
      return Problem("data folder", absl::StrCat("Nothing can be written to ", path, ": ", written.message()),
                     "Free some room on its disk or make the folder this user's own, or name another one with --data.");
    }
    const absl::StatusOr<uint64_t> free = parts_.env->FreeBytes(path);
    const std::string room = free.ok() ? absl::StrCat(", ", Gigabytes(*free), " free on its disk") : "";
    if (free.ok() && *free < kRoomBytes) {
      return Say(Finding::kNote, "data folder", absl::StrCat(path, " can be written to", room, "."),
                 absl::StrCat("A model that is not here yet takes about 7 GB: free some room, or name a folder on "
                              "another disk with --data."));
    }
    Good("data folder",
         absl::StrCat(path, " can be written to", room, busy ? "; a worker runs on it now." : "."));
  }

  void Farm() {
    const std::string& farm = options_.link.coordinator;
    const absl::Status may =
        base::CheckFarmAccess(*parts_.env, farm, options_.link.trust_folder, "storyfarm-worker --join");
    // Its sentence says what to do.
    if (!may.ok()) return Problem("farm", std::string(may.message()), "");
    const absl::Status called = parts_.call_farm();
    if (called.ok()) return Good("farm", absl::StrCat("The coordinator at ", farm, " answers and knows this machine."));
    if (absl::IsUnauthenticated(called) || absl::IsPermissionDenied(called)) {
      return Problem("farm", absl::StrCat("The coordinator at ", farm, " refuses this machine: ", called.message()),
                     "Run storyfarm-worker --join here with a new code from the farm's machine.");
    }
    if (absl::IsUnimplemented(called)) {
      return Problem("farm", absl::StrCat("What listens at ", farm, " is no storyfarm coordinator."),
                     "Check --coordinator.");
    }
    Problem("farm", absl::StrCat("The coordinator at ", farm, " does not answer: ", called.message()),
            base::NeedsCertificate(farm)
                ? "See that storyfarm-coordinator runs there and that no firewall is between; a worker waits for it."
                : "Start storyfarm-coordinator, or say with --coordinator where the farm is; a worker waits for it.");
  }

  void Engine() {
    if (!parts_.engine_program.ok()) {
      return Problem("engine", std::string(parts_.engine_program.status().message()), "Run tools/setup and build again.");
    }
    const absl::StatusOr<std::string> version = parts_.engine_version();
    if (!version.ok()) {
      return Problem("engine",
                     absl::StrCat(*parts_.engine_program, " does not start: ", version.status().message(),
                                  ". Most likely libtorch is not where it was built against."),
                     absl::StrCat("Run ", *parts_.engine_program, " --version to see what it misses, then tools/setup."));
    }
    Good("engine", absl::StrCat(absl::StripAsciiWhitespace(*version), "."));
    const absl::StatusOr<std::vector<farm::v1::DeviceReport>> all = parts_.probe("cpu", /*all=*/true);
    if (!all.ok()) {
      return Problem("engine", absl::StrCat("The engine does not come up: ", all.status().message()),
                     "Its own words, above, say what it lacks.");
    }
    const auto has = [&all](farm::v1::Backend backend) {
      return std::any_of(all->begin(), all->end(), [backend](const auto& one) { return one.backend() == backend; });
    };
    if (!parts_.nvidia_driver.empty() && !has(farm::v1::CUDA)) {
      const absl::Status why = parts_.probe("cuda:0", /*all=*/false).status();
      Problem("graphics card",
              absl::StrCat("There is an NVIDIA driver (", parts_.nvidia_driver, "), but no card can be used: ",
                           why.message()),
              "Run nvidia-smi: where it fails, too, install the driver anew; else run tools/setup, which adds CUDA's "
              "libraries where it finds a driver.");
    }
    const std::vector<std::string> chosen = options_.devices.empty() ? ChooseDevices(*all) : options_.devices;
    for (const std::string& name : chosen) Device(name, *all);
  }

  void Device(const std::string& name, const std::vector<farm::v1::DeviceReport>& all) {
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&name](const auto& report) { return plan::DeviceName(report) == name; });
    if (found == all.end()) {
      const absl::Status why = parts_.probe(name, /*all=*/false).status();
      return Problem(name, absl::StrCat("--devices names it, and it can't be used: ", why.message()),
                     "Name devices that this machine has, or say --devices auto.");
    }
    Good(name, absl::StrCat(found->name(), ", ", Gigabytes(found->free_bytes()), " free of ",
                            Gigabytes(found->total_bytes()), "."));
    const uint64_t most = options_.memory_limit_bytes > 0 ? options_.memory_limit_bytes : UINT64_MAX;
    if (most >= kLeastBytes && found->free_bytes() < kLeastBytes) {
      Say(Finding::kNote, name,
          absl::StrCat("Less than ", Gigabytes(kLeastBytes), " is free now, too little for a 1024 x 1024 picture of SDXL."),
          "Close programs that take much memory; frames wait until there is room.");
    }
  }

  // Torch reads both when Metal's allocator starts, and throws where they contradict each other.
  void Watermarks() {
    double high = kHighStandard, low = kLowStandard;
    std::string said;
    for (const auto& [name, value] : {std::pair("PYTORCH_MPS_HIGH_WATERMARK_RATIO", &high),
                                      std::pair("PYTORCH_MPS_LOW_WATERMARK_RATIO", &low)}) {
      const std::string text = parts_.variables(name);
      if (text.empty()) continue;
      absl::StrAppend(&said, said.empty() ? "" : " and ", name, "=", text);
      if (!absl::SimpleAtod(text, value)) *value = -1;
    }
    if (said.empty()) return;
    const bool contradict = high < 0 || low < 0 || high > kHighMost || low > (high > 0 ? high : kHighMost);
    if (contradict) {
      return Problem("memory", absl::StrCat(said, " would stop every engine on a Mac's GPU as it starts: the high one may be 2 "
                                            "at most, and the low one not above it (", kHighStandard, " and ",
                                            kLowStandard, " where they are not set)."),
                     "Take them out of the environment: the engine sets both itself.");
    }
    Say(Finding::kNote, "memory", absl::StrCat(said, " is set, and means nothing: the engine sets both itself."),
        "Say how much the farm may take with --limit-memory-gb.");
  }

  void MemoryLimit() {
    const uint64_t limit = options_.memory_limit_bytes;
    if (limit == 0 || limit >= kLeastBytes) return;
    Problem("memory", absl::StrCat("--limit-memory-gb lends the farm ", Gigabytes(limit), " of each device, and a 1024 x "
                                   "1024 picture of SDXL takes at least ", Gigabytes(kLeastBytes), "."),
            "Lend more, unless the farm draws with a smaller model.");
  }

  void Owner() {
    const OwnerRules& rules = options_.owner;
    Surroundings now;
    now.minute_of_week = parts_.minute_of_week();
    if (rules.mains_only) now.on_mains = parts_.machine->OnMains();
    if (rules.idle_minutes > 0) now.idle_s = parts_.machine->IdleSeconds();
    if (rules.cool_only) now.too_hot = parts_.machine->TooHot();
    const std::string why = RestBy(rules, now).why;
    if (why.empty()) return Good("owner", "What its owner set lets it work now.");
    const bool never = (rules.mains_only && !now.on_mains.has_value()) ||
                       (rules.idle_minutes > 0 && !now.idle_s.has_value());
    if (never) {
      return Problem("owner", absl::StrCat("It rests: ", why, "."),
                     "Leave --power or --idle-minutes away: this machine can't tell.");
    }
    Say(Finding::kNote, "owner", absl::StrCat("It rests now: ", why, "."),
        "As its owner set it (--hours, --power, --idle-minutes, --heat): it works again by itself.");
  }

  void Sleep() {
    const absl::Status held = parts_.wakefulness->Try();
    if (held.ok()) return Good("sleep", "It is kept from going to sleep while it renders; a closed lid is obeyed.");
    Say(Finding::kNote, "sleep", absl::StrCat("It may go to sleep while it renders: ", held.message()),
        "Turn off sleeping by itself in the system's settings, or live with frames that go elsewhere.");
  }

  const AgentOptions& options_;
  const DoctorParts& parts_;
  std::vector<Finding> findings_;
};

const char* Word(Finding::Kind kind) {
  switch (kind) {
    case Finding::kGood:
      return "ok";
    case Finding::kNote:
      return "note";
    case Finding::kProblem:
      return "problem";
  }
  return "";
}

}  // namespace

std::vector<Finding> Examine(const AgentOptions& options, const DoctorParts& parts) {
  return Examination(options, parts).Run();
}

bool AnyProblem(const std::vector<Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(), [](const Finding& one) { return one.kind == Finding::kProblem; });
}

std::string FindingsText(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    absl::StrAppendFormat(&text, "%-7s  %-13s  %s\n", Word(finding.kind), finding.subject, finding.text);
    if (!finding.advice.empty()) absl::StrAppendFormat(&text, "%24s%s\n", "-> ", finding.advice);
  }
  return text;
}

std::string FindingsJson(const std::vector<Finding>& findings) {
  nlohmann::json all = nlohmann::json::array();
  int problems = 0;
  for (const Finding& finding : findings) {
    problems += finding.kind == Finding::kProblem;
    all.push_back({{"kind", Word(finding.kind)},
                   {"subject", finding.subject},
                   {"text", finding.text},
                   {"advice", finding.advice}});
  }
  return nlohmann::json{{"problems", problems}, {"findings", std::move(all)}}.dump(2) + "\n";
}

}  // namespace storyfarm::worker
