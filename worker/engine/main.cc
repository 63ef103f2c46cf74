// storyfarm-engine: drives one device for the process that started it. Never started by hand.
#include <signal.h>

#include <iostream>
#include <string>

#include "CLI/CLI.hpp"
#include "pipeline/base/env.h"
#include "pipeline/base/thread_role.h"
#include "pipeline/render/request.h"
#include "worker/engine/service.h"

namespace storyfarm::engine {
namespace {

int Main(int argc, char** argv) {
  int fd = -1;
  int threads = 0;
  uint64_t memory_limit_bytes = 0;
  std::string device = "cpu";
  CLI::App app("storyfarm-engine renders for the worker or storyctl that started it; it is never started by hand.");
  app.add_option("--fd", fd, "socket to the parent")->required();
  app.add_option("--device", device, "cpu, mps or cuda:N")->capture_default_str();
  app.add_option("--threads", threads, "CPU threads; 0: as many as this process may use")->capture_default_str();
  app.add_option("--memory-limit-bytes", memory_limit_bytes,
                 "the most to hold of the device's memory; 0: all of it, on a Mac what Metal recommends")
      ->capture_default_str();
  app.set_version_flag("--version",
                       "storyfarm-engine " STORYFARM_VERSION " with libtorch " + render::Renderer::TorchVersion());
  CLI11_PARSE(app, argc, argv);

  // Ctrl-C in a terminal reaches the whole process group; whether to stop is the parent's to say, by closing the
  // socket.
  signal(SIGINT, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);

  // Before libtorch starts threads, which take after this one.
  base::TakeRole(device == "cpu" ? base::ThreadRole::kCompute : base::ThreadRole::kFeedsDevice);
  if (device == "cpu") base::KeepToPerformanceProcessors(threads);
  auto renderer = render::Renderer::Create(device, threads, memory_limit_bytes);
  if (!renderer.ok()) {
    std::cerr << "storyfarm-engine: " << renderer.status().message() << "\n";
    return 1;
  }
  const absl::Status served = Serve(fd, base::Env::Real(), **renderer, threads);
  if (!served.ok()) {
    std::cerr << "storyfarm-engine: " << served.message() << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace storyfarm::engine

int main(int argc, char** argv) { return storyfarm::engine::Main(argc, argv); }
