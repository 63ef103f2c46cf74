// Whole pictures, as an engine draws them.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/render/request.h"
#include "tools/bench/sdxl_speed/speed.h"

namespace storyfarm::bench {
namespace {

constexpr int kTogether = 4;
constexpr int kOffline = 16;
constexpr int kOfflineSteps = 20;

class Listener final : public render::Observer {
 public:
  absl::Status OnStep(const std::vector<const render::Frame*>&, int, int) override { return absl::OkStatus(); }
  absl::Status OnFrame(render::FinishedFrame) override { return absl::OkStatus(); }
  absl::Status OnBankStep(int step, const std::string& path) override {
    bank.resize(static_cast<size_t>(step) + 1);
    bank[static_cast<size_t>(step)] = path;
    return absl::OkStatus();
  }
  std::vector<std::string> bank;
};

class Pictures {
 public:
  Pictures(const Options& options, render::Renderer& renderer, std::string folder)
      : options_(options), renderer_(renderer), folder_(std::move(folder)) {}

  render::Settings SettingsOf(int steps, bool consistency) const {
    render::Settings settings;
    settings.steps = steps;
    settings.seed = 3;
    settings.token_rate = {0.5};
    settings.consistency = consistency;
    return settings;
  }

  render::Plan PlanOf(int batch) const {
    render::Plan plan;
    plan.dtype = options_.dtype == "fp32"   ? render::Dtype::kFp32
                 : options_.dtype == "bf16" ? render::Dtype::kBf16
                                            : render::Dtype::kFp16;
    plan.vae_dtype = plan.dtype == render::Dtype::kFp16 ? render::Dtype::kBf16 : plan.dtype;
    plan.batch = batch;
    plan.graphs = options_.graphs;
    plan.bank_dtype = plan.dtype == render::Dtype::kFp32 ? render::BankDtype::kAsComputed : render::BankDtype::kInt8;
    return plan;
  }

  std::vector<render::Frame> FramesOf(int count, std::vector<int> characters) const {
    const auto edge = static_cast<int>(options_.edge_pixels);
    std::vector<render::Frame> frames;
    for (int i = 0; i < count; ++i) {
      frames.push_back({.panel = i,
                        .id = absl::StrCat("panel ", i),
                        .prompt = absl::StrCat("a cat walking, ", i),
                        .negative_prompt = std::nullopt,
                        .width = edge,
                        .height = edge,
                        .seed = static_cast<uint64_t>(i),
                        .characters = characters});
    }
    return frames;
  }

  // Seconds of `count` pictures, `batch` at a time; loading apart.
  absl::StatusOr<double> Draw(int count, int batch, int steps,
                              const std::vector<std::vector<std::string>>& banks = {}) {
    render::FramesRequest request;
    request.model_folder = options_.model;
    request.model_name = "speed";
    request.settings = SettingsOf(steps, !banks.empty());
    request.plan = PlanOf(batch);
    std::vector<int> characters;
    for (size_t c = 0; c < banks.size(); ++c) {
      const auto character = static_cast<int>(c);
      characters.push_back(character);
      request.banks.push_back({character, {}, kTogether, banks[c], nullptr});
    }
    request.frames = FramesOf(count, characters);
    Listener listener;
    return SecondsOf(renderer_.RenderFrames(request, listener));
  }

  // Of a character's identity frames, all drawn together, and where their bank lies.
  absl::StatusOr<std::pair<double, std::vector<std::string>>> DrawIdentity(int character, bool keep) {
    render::IdentityRequest request;
    request.model_folder = options_.model;
    request.model_name = "speed";
    request.settings = SettingsOf(options_.steps, true);
    request.plan = PlanOf(kTogether);
    request.plan.ring_layers = 12;  // as a planner with memory has it
    request.character = character;
    request.frames = FramesOf(kTogether, {character});
    request.keep_bank = keep;
    request.scratch = true;
    request.output_folder = absl::StrCat(folder_, "/", character);
    std::filesystem::create_directories(request.output_folder);
    Listener listener;
    const absl::StatusOr<double> seconds = SecondsOf(renderer_.RenderIdentity(request, listener));
    if (!seconds.ok()) return seconds.status();
    return std::pair(*seconds, std::move(listener.bank));
  }

 private:
  static absl::StatusOr<double> SecondsOf(const absl::StatusOr<render::RunStats>& stats) {
    if (!stats.ok()) return stats.status();
    return (stats->render_ms) / 1e3;
  }

  const Options& options_;
  render::Renderer& renderer_;
  const std::string folder_;
};

// Pictures that are drawn after a run of their kind that records calls and chooses kernels.
struct Measurement {
  std::string what;
  int count = 0;  // 0: identity frames
  int batch = 1;
  int steps = 0;
  int characters = 0;       // whose banks are read
  bool keeps_bank = false;  // of identity frames
};

absl::Status MeasureAll(Pictures& pictures, const Options& options, json& report) {
  const auto wanted = [&](const std::string& what) {
    return options.only.empty() || what.find(options.only) != std::string::npos;
  };
  const auto add = [&](const std::string& what, int count, double seconds) {
    report["pictures"].push_back({{"what", what}, {"count", count}, {"seconds", seconds}});
  };
  const auto profile = [&](const std::string& what, const std::function<absl::Status()>& draw) {
    if (!options.profile) return absl::OkStatus();
    absl::Status status;
    report["kernels"].push_back({{"what", what}, {"kernels", Kernels([] {}, [&] { status = draw(); })}});
    return status;
  };
  // The first one chooses kernels: its time is a start's.
  if (const auto first = pictures.Draw(1, 1, options.steps); first.ok()) {
    add("first", 1, *first);
  } else {
    return first.status();
  }
  std::vector<std::vector<std::string>> banks;
  const auto identity = [&](int character, bool keep) -> absl::StatusOr<double> {
    auto drawn = pictures.DrawIdentity(character, keep);
    if (!drawn.ok()) return drawn.status();
    if (keep) banks.push_back(std::move(drawn->second));
    return drawn->first;
  };
  for (const Measurement& m :
       {Measurement{"one at a time", 3, 1, options.steps}, Measurement{"together", kTogether, kTogether, options.steps},
        Measurement{"offline, 20 steps", kOffline, kTogether, kOfflineSteps},
        Measurement{"identity frames, no bank kept"}, Measurement{.what = "identity frames", .keeps_bank = true},
        Measurement{"reading one character, together", kTogether, kTogether, options.steps, 1},
        Measurement{"reading one character", 2, 1, options.steps, 1},
        Measurement{"reading two characters", 2, 1, options.steps, 2}}) {
    if (m.count == 0) {
      // Readers need the banks in any case.
      if (!m.keeps_bank && !wanted(m.what)) continue;
      if (const auto warm = identity(0, m.keeps_bank); !warm.ok()) return warm.status();
      const auto seconds = identity(1, m.keeps_bank);
      if (!seconds.ok()) return seconds.status();
      add(m.what, kTogether, *seconds);
      if (!m.keeps_bank) continue;
      if (auto s = profile(m.what, [&] { return pictures.DrawIdentity(2, true).status(); }); !s.ok()) return s;
      continue;
    }
    if (!wanted(m.what)) continue;
    const std::vector<std::vector<std::string>> read(banks.begin(), banks.begin() + m.characters);
    const auto draw = [&](int count, int steps) { return pictures.Draw(count, m.batch, steps, read); };
    // Banks are of all steps.
    if (auto s = draw(m.batch, read.empty() ? 2 : m.steps).status(); !s.ok()) return s;
    const auto seconds = draw(m.count, m.steps);
    if (!seconds.ok()) return seconds.status();
    add(m.what, m.count, *seconds);
    if (auto s = profile(m.what, [&] { return draw(m.batch, m.steps).status(); }); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MeasurePictures(const Options& options, json& report) {
  const auto start = std::chrono::steady_clock::now();
  auto renderer = render::Renderer::Create(options.device, options.threads);
  if (!renderer.ok()) return renderer.status();
  report["device"] = (*renderer)->Report(false).name;
  std::string folder = absl::StrCat(options.scratch, "/sdxl-speed-XXXXXX");
  if (mkdtemp(folder.data()) == nullptr)
    return absl::InternalError(absl::StrCat("no folder can be made in ", options.scratch));
  Pictures pictures(options, **renderer, folder);
  const absl::Status status = MeasureAll(pictures, options, report);
  std::filesystem::remove_all(folder);
  report["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  report["peak_bytes"] = (*renderer)->MemoryNow().peak_bytes;
  return status;
}

}  // namespace storyfarm::bench
