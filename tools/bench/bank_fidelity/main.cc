#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "tools/bench/bank_fidelity/fidelity.h"

namespace storyfarm::bench {
namespace {

absl::Status Measure(const Subject& subject, render::Renderer& renderer) {
  const std::string folder = subject.work_folder + "/calls";
  std::filesystem::create_directory(folder);
  const auto bank = WriteBank(renderer, IdentityOf(subject, {}, folder));
  if (!bank.ok()) return bank.status();
  const auto calls = MeasureUnetCalls(subject, *bank);
  if (!calls.ok()) return calls.status();
  const auto pictures = MeasurePictures(subject, renderer);
  if (!pictures.ok()) return pictures.status();
  const std::string name = std::filesystem::path(subject.model_folder).filename();
  for (const std::vector<Row>* rows : {&*calls, &*pictures}) {
    for (const Row& row : *rows) {
      std::printf("%-12s | %-32s | %8.1f | %8.1f\n", name.c_str(), row.what.c_str(), row.db.least, row.db.mean);
    }
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app{
      "Prints what number formats of an identity bank cost: decibels of UNet calls on equal inputs and of pictures,\n"
      "against fp32 throughout. Runs on the CPU."};
  std::vector<std::string> models;
  Subject subject;
  subject.edge_pixels = 128;
  app.add_option("MODEL", models, "Folders of models in the diffusers layout")->required();
  app.add_option("--edge", subject.edge_pixels, "Pixels an edge")->capture_default_str();
  app.add_option("--steps", subject.steps, "UNet calls a picture")->capture_default_str()->check(CLI::Range(2, 1000));
  app.add_option("--identity-frames", subject.identity_frames, "Identity frames of the character")
      ->capture_default_str()
      ->check(CLI::Range(1, 4));
  app.add_flag("!--no-fp16", subject.with_fp16, "Leave out runs in fp16, which take minutes on most CPUs");
  CLI11_PARSE(app, argc, argv);

  auto renderer = render::Renderer::Create("cpu", 0);
  if (!renderer.ok()) {
    std::fprintf(stderr, "%s\n", std::string(renderer.status().message()).c_str());
    return 1;
  }
  std::printf("%s, %d x %d pixels, %d steps, %d identity frames, rate 0.5\n",
              (*renderer)->Report(false).name.c_str(), subject.edge_pixels, subject.edge_pixels, subject.steps,
              subject.identity_frames);
  std::printf("%-12s | %-32s | %8s | %8s\n", "model", "against fp32 throughout", "least dB", "mean dB");
  for (const std::string& model : models) {
    subject.model_folder = model;
    std::string pattern = std::filesystem::temp_directory_path() / "bank-fidelity-XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) {
      std::perror("temporary folder");
      return 1;
    }
    subject.work_folder = pattern;
    const absl::Status status = Measure(subject, **renderer);
    std::filesystem::remove_all(subject.work_folder);
    if (!status.ok()) {
      std::fprintf(stderr, "%s: %s\n", model.c_str(), std::string(status.message()).c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace storyfarm::bench

int main(int argc, char** argv) { return storyfarm::bench::Main(argc, argv); }
