// An engine that keeps the contract of storyfarm-engine (engine.proto) and renders nothing: each output is a small file
// whose bytes follow from the work alone. For tests of the worker and the farm; no torch.
//
// Words in a frame's prompt make it misbehave:
//   fake:abort, fake:hang, fake:oom, fake:nan   at that frame, every time
//   fake:abort-once   the first time; the second time it works (needs FAKE_ENGINE_MARKS)
// Variables: FAKE_ENGINE_STEP_MS (pause a step, 0), FAKE_ENGINE_FREE_BYTES (8 GB), FAKE_ENGINE_MARKS (a folder: a file
// pid-N for each process, and marks of what was done once), FAKE_ENGINE_RENDERS (a file: a line for each frame that was
// finished, "PANEL SEED"), FAKE_ENGINE_IMAGE_BYTES (size of a picture, a line otherwise).
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>

#include "farm/v1/engine.pb.h"
#include "pipeline/base/framing.h"
#include "pipeline/plan/model_use.h"

namespace storyfarm {
namespace {

using farm::v1::EngineEvent;
using farm::v1::EngineRequest;

std::string Variable(const char* name, const std::string& standard) {
  const char* value = std::getenv(name);
  return value == nullptr ? standard : value;
}

class FakeEngine {
 public:
  FakeEngine(int fd, std::string device, uint32_t threads, uint64_t memory_limit_bytes)
      : fd_(fd),
        device_(std::move(device)),
        threads_(threads),
        memory_limit_bytes_(memory_limit_bytes),
        step_ms_(std::stoi(Variable("FAKE_ENGINE_STEP_MS", "0"))),
        free_bytes_(std::stoull(Variable("FAKE_ENGINE_FREE_BYTES", "8000000000"))),
        image_bytes_(std::stoull(Variable("FAKE_ENGINE_IMAGE_BYTES", "0"))),
        marks_(Variable("FAKE_ENGINE_MARKS", "")),
        renders_(Variable("FAKE_ENGINE_RENDERS", "")) {}

  // Never returns.
  void Serve() {
    Mark("pid-" + std::to_string(getpid()));
    std::thread([this] { RunAll(); }).detach();
    while (true) {
      const auto frame = base::ReadFrame(fd_);
      if (!frame.ok() || !frame->has_value()) _exit(0);  // the parent has gone
      EngineRequest request;
      if (!request.ParseFromString(**frame)) _exit(3);
      if (request.has_memory()) {
        EngineEvent event;
        event.mutable_memory()->mutable_memory()->set_free_bytes(free_bytes_);
        Tell(request.request_id(), std::move(event));
        continue;
      }
      const std::lock_guard<std::mutex> lock(mutex_);
      requests_.push_back(std::move(request));
      changed_.notify_one();
    }
  }

 private:
  void Tell(uint64_t id, EngineEvent event) {
    event.set_request_id(id);
    const std::lock_guard<std::mutex> lock(writing_);
    if (!base::WriteFrame(fd_, event.SerializeAsString()).ok()) _exit(0);
  }

  // Whether this is the first time in the marks' folder.
  bool Mark(const std::string& name) {
    if (marks_.empty()) return true;
    const std::filesystem::path path = std::filesystem::path(marks_) / name;
    if (std::filesystem::exists(path)) return false;
    std::ofstream(path) << "1";
    return true;
  }

  void RunAll() {
    while (true) {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return !requests_.empty(); });
      const EngineRequest request = std::move(requests_.front());
      requests_.pop_front();
      lock.unlock();
      if (request.has_probe()) Probe(request.request_id());
      if (request.has_run()) Run(request.request_id(), request.run());
    }
  }

  void Probe(uint64_t id) {
    EngineEvent event;
    farm::v1::DeviceReport* report = event.mutable_probed()->add_devices();
    report->set_backend(device_ == "mps" ? farm::v1::MPS : device_ == "cpu" ? farm::v1::CPU : farm::v1::CUDA);
    report->set_name("fake " + device_);
    report->set_total_bytes(16'000'000'000);
    report->set_free_bytes(free_bytes_);
    report->set_unified(true);
    report->set_recommended_max_bytes(memory_limit_bytes_);
    report->set_speed_tflops(0.1);
    report->set_threads(threads_);
    report->add_dtypes("fp32");
    Tell(id, std::move(event));
  }

  void Fail(uint64_t id, farm::v1::FailureKind kind, const std::string& message) {
    EngineEvent event;
    event.mutable_failed()->mutable_failure()->set_kind(kind);
    event.mutable_failed()->mutable_failure()->set_message(message);
    Tell(id, std::move(event));
  }

  static std::string Write(const farm::v1::RunRequest& run, const std::string& name, const std::string& text) {
    const std::string path = run.output_folder() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

  // The inputs must lie where the parent says.
  bool InputsAreThere(uint64_t id, const farm::v1::RunRequest& run) {
    const auto missing = [&](const std::string& path) {
      if (std::filesystem::is_regular_file(path)) return false;
      Fail(id, farm::v1::INTERNAL, "the parent names a file that is not there: " + path);
      return true;
    };
    for (const auto& file : run.files()) {
      if (missing(file.path())) return false;
    }
    const farm::v1::ModelManifest* model = plan::ModelOf(run.work());
    if (model == nullptr) return true;
    for (const auto& file : model->files()) {
      if (plan::Needs(plan::UseOf(run.work()), file) && missing(run.model_folder() + "/" + file.path())) return false;
    }
    return true;
  }

  void Step(uint64_t id, uint32_t panel, uint32_t step, uint32_t steps) {
    std::this_thread::sleep_for(std::chrono::milliseconds(step_ms_));
    EngineEvent event;
    event.mutable_step()->add_panels(panel);
    event.mutable_step()->set_step(step);
    event.mutable_step()->set_steps(steps);
    Tell(id, std::move(event));
  }

  // Whether the frame may go on.
  bool Behave(uint64_t id, const farm::v1::Frame& frame) {
    const std::string& prompt = frame.prompt();
    const auto says = [&prompt](const char* word) { return prompt.find(word) != std::string::npos; };
    if (says("fake:abort-once")) {
      if (Mark("once-" + frame.id())) abort();
    } else if (says("fake:abort")) {
      abort();
    }
    if (says("fake:hang")) {
      while (true) pause();
    }
    if (says("fake:oom")) {
      Fail(id, farm::v1::OUT_OF_MEMORY, "the prompt asks for it");
      return false;
    }
    if (says("fake:nan")) {
      Fail(id, farm::v1::INVALID_OUTPUT, "the prompt asks for it");
      return false;
    }
    return true;
  }

  void Finish(uint64_t id, const farm::v1::RunRequest& run, const farm::v1::Frame& frame) {
    const std::string number = std::to_string(frame.panel());
    const std::string text = frame.id() + " " + frame.prompt() + " " + std::to_string(frame.seed()) + "\n";
    std::string image = "image " + text;
    while (image.size() < image_bytes_) image += image;
    if (image_bytes_ > 0) image.resize(image_bytes_);
    // One write at the file's end: lines of several engines do not mix.
    if (!renders_.empty() && !frame.hidden()) {
      std::ofstream(renders_, std::ios::app) << number + " " + std::to_string(frame.seed()) + "\n";
    }
    EngineEvent event;
    event.mutable_frame()->set_panel(frame.panel());
    event.mutable_frame()->set_hidden(frame.hidden());
    if (!frame.hidden()) event.mutable_frame()->set_image_path(Write(run, "frame-" + number + ".png", image));
    event.mutable_frame()->set_latents_path(
        Write(run, (frame.hidden() ? "hidden-" : "frame-") + number + ".safetensors", "latents " + text));
    event.mutable_frame()->set_render_ms(1);
    Tell(id, std::move(event));
  }

  void Run(uint64_t id, const farm::v1::RunRequest& run) {
    if (!InputsAreThere(id, run)) return;
    if (run.work().has_frames()) {
      for (const farm::v1::Frame& frame : run.work().frames().frames()) {
        if (!Behave(id, frame)) return;
        const uint32_t steps = run.work().frames().settings().steps();
        for (uint32_t step = 1; step <= steps; ++step) Step(id, frame.panel(), step, steps);
        Finish(id, run, frame);
      }
    } else if (run.work().has_identity()) {
      const farm::v1::IdentityWork& work = run.work().identity();
      for (const farm::v1::Frame& frame : work.frames()) {
        if (!Behave(id, frame)) return;
      }
      const uint32_t steps = work.settings().steps();
      for (uint32_t step = 1; step <= steps; ++step) {
        Step(id, work.frames(0).panel(), step, steps);
        if (!work.keep_bank()) continue;
        EngineEvent event;
        event.mutable_bank_step()->set_step(step - 1);
        if (step > 1) {  // step 0 is plain: nobody reads it
          const std::string name = "bank-" + std::to_string(step - 1) + ".safetensors";
          event.mutable_bank_step()->set_path(
              Write(run, name, "bank " + work.character_key() + " " + std::to_string(step)));
        }
        Tell(id, std::move(event));
      }
      for (const farm::v1::Frame& frame : work.frames()) Finish(id, run, frame);
    } else if (run.work().has_text()) {
      std::string embeddings = "embeddings";
      for (const std::string& text : run.work().text().texts()) embeddings += "\n" + text;
      EngineEvent event;
      event.mutable_text()->set_path(Write(run, "text.safetensors", embeddings));
      Tell(id, std::move(event));
    } else {
      std::string text = run.work().page().title() + "\n";
      for (const auto& page : run.work().page().pages()) {
        for (const auto& panel : page.panels())
          text += panel.image().digest() + panel.caption() + panel.failure() + "\n";
      }
      EngineEvent event;
      if (run.work().page().book()) {
        event.mutable_pages()->set_pdf_path(Write(run, "story.pdf", "pdf " + text));
        event.mutable_pages()->set_cbz_path(Write(run, "story.cbz", "cbz " + text));
      } else {
        event.mutable_pages()->set_png_path(Write(run, "page.png", "page " + text));
      }
      Tell(id, std::move(event));
    }
    EngineEvent event;
    event.mutable_run()->set_render_ms(1);
    Tell(id, std::move(event));
  }

  const int fd_;
  const std::string device_;
  const uint32_t threads_;
  const uint64_t memory_limit_bytes_;
  const int step_ms_;
  const uint64_t free_bytes_;
  const uint64_t image_bytes_;
  const std::string marks_;
  const std::string renders_;
  std::mutex writing_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<EngineRequest> requests_;
};

}  // namespace
}  // namespace storyfarm

int main(int argc, char** argv) {
  CLI::App app("An engine that renders nothing, for tests.");
  int fd = -1;
  uint32_t threads = 0;
  uint64_t memory_limit_bytes = 0;
  std::string device = "cpu";
  app.add_option("--fd", fd)->required();
  app.add_option("--threads", threads);
  app.add_option("--device", device);
  app.add_option("--memory-limit-bytes", memory_limit_bytes);
  CLI11_PARSE(app, argc, argv);
  signal(SIGPIPE, SIG_IGN);
  // Serve never returns, so the engine outlives its threads.
  storyfarm::FakeEngine(fd, device, threads, memory_limit_bytes).Serve();
}
