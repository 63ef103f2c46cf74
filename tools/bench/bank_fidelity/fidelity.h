// How far identity banks in fp16 and int8 take a picture from one with a bank as exact as fp32, beside what computing
// in fp16 does.
//
//   WriteFp32Bank --> bank files --> MeasureUnetCalls   one UNet call after the other, on equal inputs
//                               '--> MeasurePictures    whole runs through the renderer
#ifndef STORYFARM_TOOLS_BENCH_BANK_FIDELITY_FIDELITY_H_
#define STORYFARM_TOOLS_BENCH_BANK_FIDELITY_FIDELITY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/render/request.h"

namespace storyfarm::bench {

struct Subject {
  std::string model_folder;
  int edge_pixels = 0;
  int steps = 20;
  int identity_frames = 2;
  bool with_fp16 = true;    // runs in fp16 too, which is slow where a CPU has no instructions for it
  std::string work_folder;  // exists, empty; banks are written below it
};

// Decibels: 20 log10(range of the reference / root mean square of the difference), the more the nearer.
struct Decibels {
  double least = 0, mean = 0;
};

struct Row {
  std::string what;
  Decibels db;
};

// The subject's requests, all of them from the same texts and seeds.
render::IdentityRequest IdentityOf(const Subject& subject, render::Plan plan, const std::string& folder);
render::FramesRequest ReadersOf(const Subject& subject, render::Plan plan, std::vector<std::string> bank);

// Runs the write pass; the bank's files by step.
absl::StatusOr<std::vector<std::string>> WriteBank(render::Renderer& renderer, const render::IdentityRequest& request);

// The UNet's prediction with fp16 and int8 banks against that with an fp32 one, over all steps of one panel, the run
// going on with the latter; and with fp16 weights and activations against fp32 ones.
absl::StatusOr<std::vector<Row>> MeasureUnetCalls(const Subject& subject, const std::vector<std::string>& fp32_bank);

// Panels that read the bank, as pictures of 8 bits: number formats of bank and run against fp32 throughout.
absl::StatusOr<std::vector<Row>> MeasurePictures(const Subject& subject, render::Renderer& renderer);

}  // namespace storyfarm::bench

#endif  // STORYFARM_TOOLS_BENCH_BANK_FIDELITY_FIDELITY_H_
