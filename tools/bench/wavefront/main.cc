// Identity frames and as many frames that read them, on two engines of one core each: one after the other, and the
// second one following the first step by step. Both in the same run; prints the ratio, and fails where a byte differs.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "pipeline/render/request.h"
#include "worker/engine/bank_feed.h"

namespace storyfarm::bench {
namespace {

struct Options {
  std::string model;
  int edge_pixels = 128;
  int steps = 20;
  int frames = 3;
  int runs = 3;
};

// The one reader's run, as the feed of an engine numbers them.
constexpr uint64_t kRun = 1;

class Listener final : public render::Observer {
 public:
  explicit Listener(engine::BankFeed* feed) : feed_(feed) {}
  absl::Status OnStep(const std::vector<const render::Frame*>&, int, int) override { return absl::OkStatus(); }
  absl::Status OnFrame(render::FinishedFrame frame) override {
    latents[frame.frame->panel] = std::move(frame.latents.values);
    return absl::OkStatus();
  }
  absl::Status OnBankStep(int step, const std::string& path) override {
    feed_->Put(kRun, 0, static_cast<uint32_t>(step), path);
    return absl::OkStatus();
  }
  std::map<int, std::vector<float>> latents;

 private:
  engine::BankFeed* const feed_;
};

render::Settings SettingsOf(const Options& options) {
  render::Settings settings;
  settings.steps = options.steps;
  settings.seed = 3;
  settings.token_rate = {0.5};
  return settings;
}

std::vector<render::Frame> Frames(const Options& options, int first, bool reading) {
  std::vector<render::Frame> frames;
  for (int i = 0; i < options.frames; ++i) {
    render::Frame& frame = frames.emplace_back();
    frame.panel = first + i;
    frame.id = "panel-" + std::to_string(frame.panel);
    frame.prompt = "a girl with red hair, in the forest " + std::to_string(frame.panel);
    frame.width = frame.height = options.edge_pixels;
    frame.seed = 3;
    if (reading) frame.characters = {0};
  }
  return frames;
}

absl::Status Write(const Options& options, const std::string& folder, render::Renderer& renderer, engine::BankFeed* feed) {
  render::IdentityRequest request;
  request.model_folder = options.model;
  request.model_name = "bench";
  request.settings = SettingsOf(options);
  request.plan.threads = 1;
  request.plan.batch = options.frames;
  request.frames = Frames(options, 0, false);
  request.keep_bank = true;
  request.output_folder = folder;
  Listener listener(feed);
  return renderer.RenderIdentity(request, listener).status();
}

absl::Status Read(const Options& options, render::Renderer& renderer, engine::BankFeed* feed,
                  std::map<int, std::vector<float>>* latents) {
  render::FramesRequest request;
  request.model_folder = options.model;
  request.model_name = "bench";
  request.settings = SettingsOf(options);
  request.plan.threads = 1;
  request.plan.batch = options.frames;  // stepped together
  request.frames = Frames(options, options.frames, true);
  render::BankFiles& bank = request.banks.emplace_back();
  bank.identity_frames = options.frames;
  bank.path_of = [feed](int step) { return feed->Wait(kRun, 0, static_cast<uint32_t>(step)); };
  request.let_go = [feed] { feed->End(kRun); };
  Listener listener(feed);
  const absl::Status status = renderer.RenderFrames(request, listener).status();
  *latents = std::move(listener.latents);
  return status;
}

class Stopwatch {
 public:
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Times {
  double apart_s = 0;     // one after the other
  double together_s = 0;  // the reader follows the writer
};

absl::StatusOr<Times> Run(const Options& options, const std::string& folder, render::Renderer& writer,
                          render::Renderer& reader) {
  Times times;
  std::map<int, std::vector<float>> apart, together;
  for (const bool follow : {false, true}) {
    const std::string here = folder + (follow ? "/together" : "/apart");
    std::filesystem::create_directory(here);
    engine::BankFeed feed;
    const Stopwatch watch;
    absl::Status written, read;
    if (follow) {
      std::thread other([&] { read = Read(options, reader, &feed, &together); });
      written = Write(options, here, writer, &feed);
      if (!written.ok()) feed.End(kRun);
      other.join();
    } else {
      written = Write(options, here, writer, &feed);
      if (written.ok()) read = Read(options, reader, &feed, &apart);
    }
    if (!written.ok()) return written;
    if (!read.ok()) return read;
    (follow ? times.together_s : times.apart_s) = watch.Seconds();
  }
  if (apart != together) return absl::InternalError("the frames that followed differ from those that waited");
  return times;
}

absl::Status Measure(const Options& options, const std::string& folder) {
  auto writer = render::Renderer::Create("cpu", 1), reader = render::Renderer::Create("cpu", 1);
  if (!writer.ok()) return writer.status();
  if (!reader.ok()) return reader.status();
  std::printf("%s; %d identity frames and as many that read them, %d x %d, %d steps, a core each\n",
              (*writer)->Report(false).name.c_str(), options.frames, options.edge_pixels, options.edge_pixels,
              options.steps);
  std::vector<double> ratios;
  for (int run = 0; run <= options.runs; ++run) {
    const std::string here = folder + "/" + std::to_string(run);
    std::filesystem::create_directory(here);
    const absl::StatusOr<Times> times = Run(options, here, **writer, **reader);
    if (!times.ok()) return times.status();
    if (run == 0) continue;  // loads the model
    ratios.push_back(times->apart_s / times->together_s);
    std::printf("one after the other %.2f s, together %.2f s: %.2f times sooner\n", times->apart_s, times->together_s,
                ratios.back());
  }
  std::sort(ratios.begin(), ratios.end());
  std::printf("median: %.2f times sooner, byte for byte the same\n", ratios[ratios.size() / 2]);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app{
      "Prints how much sooner identity frames and as many frames that read them are done where a second engine follows\n"
      "the first one step by step, against one after the other. Two engines of one core each, on the CPU."};
  Options options;
  app.add_option("MODEL", options.model, "Folder of a model in the diffusers layout")->required();
  app.add_option("--edge", options.edge_pixels, "Pixels an edge")->capture_default_str();
  app.add_option("--steps", options.steps, "UNet calls a picture")->capture_default_str()->check(CLI::Range(2, 1000));
  app.add_option("--frames", options.frames, "Identity frames, and frames that read them")
      ->capture_default_str()
      ->check(CLI::Range(1, 8));
  app.add_option("--runs", options.runs, "Runs of each, after one that loads")->capture_default_str()->check(
      CLI::Range(1, 100));
  CLI11_PARSE(app, argc, argv);
  std::string folder = std::filesystem::temp_directory_path() / "wavefront-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) {
    std::perror("temporary folder");
    return 1;
  }
  const absl::Status status = Measure(options, folder);
  std::filesystem::remove_all(folder);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace storyfarm::bench

int main(int argc, char** argv) { return storyfarm::bench::Main(argc, argv); }
