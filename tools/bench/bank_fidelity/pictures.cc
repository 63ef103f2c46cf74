#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <utility>

#include "tools/bench/bank_fidelity/fidelity.h"

namespace storyfarm::bench {
namespace {

using render::BankDtype;
using render::Dtype;

constexpr uint64_t kSeed = 7;

const char* const kIdentityPrompts[] = {"a bear with a red hat, sitting in the forest",
                                        "a bear with a red hat, running at the beach",
                                        "a bear with a red hat, standing in a room",
                                        "a bear with a red hat, sleeping in the snow"};
const char* const kReaderPrompts[] = {"a bear with a red hat, jumping at the beach",
                                      "a bear with a red hat, standing in the snow",
                                      "a bear with a red hat, sitting in a room",
                                      "a bear with a red hat, running in the city at night"};

render::Settings SettingsOf(const Subject& subject) {
  render::Settings settings;
  settings.steps = subject.steps;
  settings.seed = kSeed;
  settings.token_rate = {0.5};
  return settings;
}

render::Frame FrameOf(const Subject& subject, int panel, const std::string& prompt) {
  render::Frame frame;
  frame.panel = panel;
  frame.id = "panel-" + std::to_string(panel);
  frame.prompt = prompt;
  frame.width = frame.height = subject.edge_pixels;
  frame.seed = kSeed;
  return frame;
}

class Pictures final : public render::Observer {
 public:
  absl::Status OnStep(const std::vector<const render::Frame*>&, int, int) override { return absl::OkStatus(); }
  absl::Status OnFrame(render::FinishedFrame frame) override {
    images[frame.frame->panel] = std::move(frame.image.rgb);
    return absl::OkStatus();
  }
  absl::Status OnBankStep(int, const std::string& path) override {
    bank.push_back(path);
    return absl::OkStatus();
  }
  std::map<int, std::vector<uint8_t>> images;
  std::vector<std::string> bank;
};

double PictureDecibels(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) squares += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return 20 * std::log10(255 / std::sqrt(std::max(squares / static_cast<double>(a.size()), 1e-12)));
}

absl::StatusOr<std::map<int, std::vector<uint8_t>>> Draw(const Subject& subject, render::Renderer& renderer,
                                                         Dtype dtype, BankDtype bank_dtype) {
  render::Plan plan;
  plan.dtype = dtype;
  plan.bank_dtype = bank_dtype;
  const std::string folder = subject.work_folder + "/pictures";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directory(folder);
  absl::StatusOr<std::vector<std::string>> bank = WriteBank(renderer, IdentityOf(subject, plan, folder));
  if (!bank.ok()) return bank.status();
  Pictures pictures;
  const auto done = renderer.RenderFrames(ReadersOf(subject, plan, *std::move(bank)), pictures);
  if (!done.ok()) return done.status();
  return std::move(pictures.images);
}

}  // namespace

render::IdentityRequest IdentityOf(const Subject& subject, render::Plan plan, const std::string& folder) {
  render::IdentityRequest request;
  request.model_folder = subject.model_folder;
  request.settings = SettingsOf(subject);
  request.plan = plan;
  for (int i = 0; i < subject.identity_frames; ++i) request.frames.push_back(FrameOf(subject, i, kIdentityPrompts[i]));
  request.keep_bank = true;
  request.output_folder = folder;
  return request;
}

render::FramesRequest ReadersOf(const Subject& subject, render::Plan plan, std::vector<std::string> bank) {
  render::FramesRequest request;
  request.model_folder = subject.model_folder;
  request.settings = SettingsOf(subject);
  request.plan = plan;
  int panel = subject.identity_frames;
  for (const char* prompt : kReaderPrompts) {
    request.frames.push_back(FrameOf(subject, panel++, prompt));
    request.frames.back().characters = {0};
  }
  request.banks.push_back({.identity_frames = subject.identity_frames, .steps = std::move(bank)});
  return request;
}

absl::StatusOr<std::vector<std::string>> WriteBank(render::Renderer& renderer, const render::IdentityRequest& request) {
  Pictures pictures;
  const auto done = renderer.RenderIdentity(request, pictures);
  if (!done.ok()) return done.status();
  return std::move(pictures.bank);
}

absl::StatusOr<std::vector<Row>> MeasurePictures(const Subject& subject, render::Renderer& renderer) {
  const auto exact = Draw(subject, renderer, Dtype::kFp32, BankDtype::kAsComputed);
  if (!exact.ok()) return exact.status();
  struct Variant {
    const char* what;
    Dtype dtype;
    BankDtype bank;
  };
  constexpr Variant kVariants[] = {{"picture: run fp32, bank int8", Dtype::kFp32, BankDtype::kInt8},
                                   {"picture: run fp16, bank fp16", Dtype::kFp16, BankDtype::kAsComputed},
                                   {"picture: run fp16, bank int8", Dtype::kFp16, BankDtype::kInt8}};
  std::vector<Row> rows;
  for (const Variant& variant : kVariants) {
    if (variant.dtype == Dtype::kFp16 && !subject.with_fp16) continue;
    const auto drawn = Draw(subject, renderer, variant.dtype, variant.bank);
    if (!drawn.ok()) return drawn.status();
    Row row{variant.what, {.least = INFINITY}};
    for (const auto& [panel, rgb] : *exact) {
      const double db = PictureDecibels(rgb, drawn->at(panel));
      row.db.least = std::min(row.db.least, db);
      row.db.mean += db / static_cast<double>(exact->size());
    }
    rows.push_back(row);
  }
  return rows;
}

}  // namespace storyfarm::bench
