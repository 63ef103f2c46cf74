// How fast a model is without a farm around it: one call of its UNet and its VAE, the share of the card's own matmul
// rate, how far half precision is from float32 on equal inputs, which kernels the time goes to; and whole pictures,
// with and without identity. Prints JSON for a script that puts it beside other programs' (tools/bench/sdxl_cuda.py).
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "tools/bench/sdxl_speed/speed.h"

namespace storyfarm::bench {
namespace {

int Main(int argc, char** argv) {
  CLI::App app{"Times a model in the diffusers layout, part by part and as pictures. Prints JSON."};
  Options options;
  app.add_option("MODEL", options.model, "Folder of the model")->required();
  app.add_option("--device", options.device, "cpu, mps or cuda:0")->capture_default_str();
  app.add_option("--dtype", options.dtype, "fp32, fp16 or bf16; the VAE's is bf16 for fp16")
      ->capture_default_str()
      ->check(CLI::IsMember({"fp32", "fp16", "bf16"}));
  app.add_option("--batch", options.batches, "Passes in a UNet call")->capture_default_str();
  app.add_option("--size", options.edge_pixels, "Pixels an edge")->capture_default_str();
  app.add_option("--matmul", options.matmul_edge, "Edge of the matrices whose product tells the card's rate")
      ->capture_default_str();
  app.add_option("--calls", options.calls, "Timed calls")->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--threads", options.threads, "CPU threads; 0: all")->capture_default_str();
  app.add_option("--steps", options.steps, "UNet calls a picture")->capture_default_str()->check(CLI::Range(2, 1000));
  app.add_flag("--graphs", options.graphs, "Replay recorded calls, where the device can");
  app.add_flag("--profile", options.profile, "Also which kernels the time goes to");
  app.add_flag("--fidelity", options.fidelity, "Also decibels against float32, which is loaded for it");
  app.add_flag("--int8", options.int8, "With --fidelity: also of rounded weights");
  app.add_flag("--gates", options.gates, "Also the feed-forward's first half by itself");
  app.add_flag("--vae", options.vae, "Also the VAE");
  app.add_flag("--tiles", options.tiles, "With --vae: also in tiles");
  app.add_option("--scratch", options.scratch, "Where banks are written")->capture_default_str();
  app.add_flag("--pictures", options.pictures, "Whole pictures instead: alone, together, and with identity");
  app.add_option("--only", options.only, "With --pictures: those whose name has this, and what they need");
  CLI11_PARSE(app, argc, argv);

  json report = {{"dtype", options.dtype}, {"edge_pixels", options.edge_pixels}, {"steps", options.steps}};
  const absl::Status status = options.pictures ? MeasurePictures(options, report) : MeasureParts(options, report);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return 1;
  }
  std::printf("%s\n", report.dump(1).c_str());
  return 0;
}

}  // namespace
}  // namespace storyfarm::bench

int main(int argc, char** argv) { return storyfarm::bench::Main(argc, argv); }
