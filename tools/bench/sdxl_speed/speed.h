// What sdxl_speed measures. Everything goes into one JSON document.
#ifndef STORYFARM_TOOLS_BENCH_SDXL_SPEED_SPEED_H_
#define STORYFARM_TOOLS_BENCH_SDXL_SPEED_SPEED_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace storyfarm::bench {

using nlohmann::json;

struct Options {
  std::string model;
  std::string device = "cuda:0";
  std::string dtype = "fp16";
  std::vector<int64_t> batches = {2, 8};
  int64_t edge_pixels = 1024;
  int64_t matmul_edge = 8192;
  int calls = 10;
  int threads = 0;
  int steps = 50;
  bool graphs = false;
  bool profile = false;
  bool fidelity = false;
  bool int8 = false;
  bool vae = false;
  bool tiles = false;
  bool gates = false;
  std::string scratch = "/tmp";
  bool pictures = false;
  std::string only;  // of the pictures: those whose name has it
};

// The kernels that `work` and `await`, which ends when they have run, take a CUDA device's time with: name, count and
// milliseconds of each, most first.
json Kernels(const std::function<void()>& await, const std::function<void()>& work);

// UNet calls and VAE by themselves: "unet", "vae", "matmul_tflops", "fidelity_db".
absl::Status MeasureParts(const Options& options, json& report);
// Whole pictures through the renderer, loading apart: "pictures", a list.
absl::Status MeasurePictures(const Options& options, json& report);

}  // namespace storyfarm::bench

#endif  // STORYFARM_TOOLS_BENCH_SDXL_SPEED_SPEED_H_
