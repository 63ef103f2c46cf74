#include "pipeline/render/run_draws.h"

#include <utility>

#include "pipeline/identity/identity.h"

namespace storyfarm::render {

absl::StatusOr<std::unique_ptr<RunDraws>> RunDraws::Open(base::Env& env, const Draws& draws, const Settings& settings,
                                                         const std::vector<sdxl::SelfAttentionLayer>& layers,
                                                         identity::LatentShape shape) {
  std::unique_ptr<RunDraws> run(new RunDraws(env, draws.save_path));
  run->header_ = {.panels = draws.story_panels,
                  .steps = settings.steps,
                  .height = draws.story_height,
                  .width = draws.story_width,
                  .characters = draws.character_names};
  for (const sdxl::SelfAttentionLayer& layer : layers) run->header_.layers.push_back(layer.name);

  if (!draws.replay_path.empty()) {
    absl::StatusOr<std::unique_ptr<identity::DrawsFile>> file = identity::DrawsFile::Open(draws.replay_path);
    if (!file.ok()) return file.status();
    if (const auto status = (*file)->CheckFits(settings.steps, run->header_.layers); !status.ok()) return status;
    run->replayed_ = file->get();
    run->made_ = *std::move(file);
  } else {
    identity::DrawSettings own;
    own.seed = settings.seed;
    own.steps = settings.steps;
    own.layers = static_cast<int64_t>(layers.size());
    own.gate = {settings.gate.before, settings.gate.after, settings.gate.switch_step, settings.gate.switch_fraction};
    own.noise = settings.noise == NoiseKind::kShared ? identity::NoiseKind::kShared : identity::NoiseKind::kPanel;
    own.token_rate = settings.token_rate;
    own.identity_grids = identity::DistinctGrids(identity::GridsOf(layers, shape.height, shape.width));
    run->made_ = std::make_unique<identity::PhiloxDraws>(std::move(own));
  }
  if (!run->save_path_.empty()) run->recording_ = std::make_unique<identity::RecordingDraws>(run->made_.get());
  return run;
}

identity::DrawSource* RunDraws::source() {
  if (recording_ != nullptr) return recording_.get();
  return made_.get();
}

absl::Status RunDraws::CheckIdentityPanels(int character, const std::vector<Frame>& frames) {
  std::vector<int> panels;
  for (const Frame& frame : frames) {
    if (!frame.hidden) panels.push_back(frame.panel);
  }
  header_.identity_panels[character] = panels;
  return replayed_ == nullptr ? absl::OkStatus() : replayed_->CheckIdentityPanels(character, panels);
}

absl::Status RunDraws::Save() const {
  return recording_ == nullptr ? absl::OkStatus() : recording_->Save(env_, save_path_, header_);
}

}  // namespace storyfarm::render
