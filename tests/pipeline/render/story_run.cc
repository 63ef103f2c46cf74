#include "tests/pipeline/render/story_run.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "farm/v1/engine.pb.h"
#include "farm/v1/job.pb.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"
#include "pipeline/model/model_folder.h"
#include "pipeline/model/profile.h"
#include "pipeline/plan/expand.h"
#include "pipeline/plan/profile.h"
#include "pipeline/plan/work.h"
#include "pipeline/story/settings.h"
#include "pipeline/story/story.h"
#include "worker/engine/convert.h"

namespace storyfarm::testing_support {
namespace {

absl::Status FirstError(const std::vector<farm::v1::Problem>& problems) {
  for (const farm::v1::Problem& problem : problems) {
    if (!problem.warning()) return absl::InvalidArgumentError(story::FormatProblem(problem));
  }
  return absl::OkStatus();
}

absl::StatusOr<farm::v1::JobSpec> Expand(const StoryRun& run) {
  base::Env& env = base::Env::Real();
  const auto text = env.ReadFile(run.story_path);
  if (!text.ok()) return text.status();
  story::ParsedStory parsed = story::ParseStory(*text, run.story_path);
  if (auto status = FirstError(parsed.problems); !status.ok()) return status;
  std::vector<std::pair<std::string, std::string>> layers;
  if (!run.settings_path.empty()) {
    auto settings = env.ReadFile(run.settings_path);
    if (!settings.ok()) return settings.status();
    layers.emplace_back(*std::move(settings), run.settings_path);
  }
  layers.emplace_back(run.settings, "settings.json");
  for (const auto& [bytes, name] : layers) {
    const story::ParsedSettings over = story::ParseSettings(bytes, name, parsed.story.settings());
    if (auto status = FirstError(over.problems); !status.ok()) return status;
    *parsed.story.mutable_settings() = over.settings;
  }
  const auto folder = model::ModelFolder::Open(env, run.model_folder);
  if (!folder.ok()) return folder.status();
  const auto profile = model::ProfileModel(*folder);
  if (!profile.ok()) return profile.status();
  farm::v1::ModelManifest manifest;
  manifest.set_name(base::FileNameOf(run.model_folder));
  *manifest.mutable_profile() = plan::ToMessage(*profile);
  plan::Expansion expansion = plan::ExpandStory(parsed.story, manifest);
  if (auto status = FirstError(expansion.problems); !status.ok()) return status;
  return std::move(expansion.job);
}

class Collector final : public render::Observer {
 public:
  absl::Status OnStep(const std::vector<const render::Frame*>&, int, int) override { return absl::OkStatus(); }
  absl::Status OnFrame(render::FinishedFrame frame) override {
    if (!frame.frame->hidden) panels[frame.frame->panel] = {std::move(frame.latents), std::move(frame.image)};
    return absl::OkStatus();
  }
  absl::Status OnBankStep(int step, const std::string& path) override {
    bank.resize(std::max(bank.size(), static_cast<size_t>(step) + 1));
    bank[step] = path;
    return absl::OkStatus();
  }
  std::map<int, RenderedPanel> panels;
  std::vector<std::string> bank;
};

farm::v1::MemoryPlan SimplePlan() {
  farm::v1::MemoryPlan plan;
  plan.set_backend(farm::v1::CPU);
  plan.set_dtype(farm::v1::FP32);
  plan.set_vae_dtype(farm::v1::FP32);
  plan.set_weights(farm::v1::RESIDENT);
  plan.set_guidance_batched(true);
  plan.set_batch(1);
  plan.set_bank(farm::v1::BANK_STREAMED);
  plan.set_threads(1);
  return plan;
}

farm::v1::RunRequest RequestFor(const StoryRun& run, const farm::v1::JobSpec& job, farm::v1::Work work) {
  farm::v1::RunRequest request;
  *request.mutable_work() = std::move(work);
  request.set_model_folder(run.model_folder);
  request.set_draws_file(run.replay_path);
  request.set_save_draws_file(run.save_path);
  for (const auto& character : job.story().characters()) request.add_character_names(character.name());
  request.set_panel_count(plan::PanelCount(job.story()));
  return request;
}

// Runs one identity task; its bank's steps are named by digests of their paths.
absl::StatusOr<farm::v1::Bank> RunIdentity(const StoryRun& run, const farm::v1::JobSpec& job, uint32_t number,
                                           render::Renderer& renderer, Collector& collector,
                                           engine::FilesByDigest& files) {
  const auto work = plan::WorkFor(job, farm::v1::TASK_IDENTITY, {number}, SimplePlan(), {});
  if (!work.ok()) return work.status();
  farm::v1::RunRequest message = RequestFor(run, job, *work);
  message.set_output_folder(absl::StrCat(run.output_folder, "/bank-", number));
  std::filesystem::create_directory(message.output_folder());
  auto request = engine::ToIdentityRequest(message, {});
  if (!request.ok()) return request.status();
  run.plan(request->plan);
  collector.bank.clear();
  if (const auto done = renderer.RenderIdentity(*request, collector); !done.ok()) return done.status();
  farm::v1::Bank bank;
  bank.set_character(work->identity().character());
  bank.set_character_key(work->identity().character_key());
  bank.set_identity_frames(static_cast<uint32_t>(work->identity().frames_size()));
  for (const std::string& path : collector.bank) {
    farm::v1::BlobRef* step = bank.add_steps();
    if (path.empty()) continue;
    step->set_digest(base::Digest::Of(path).Bytes());
    files[step->digest()] = path;
  }
  return bank;
}

}  // namespace

absl::StatusOr<std::map<int, RenderedPanel>> RenderStory(const StoryRun& run, render::Renderer& renderer) {
  const auto job = Expand(run);
  if (!job.ok()) return job.status();
  Collector collector;
  plan::WorkInputs inputs;
  engine::FilesByDigest files;
  for (int i = 0; i < job->identities_size(); ++i) {
    auto bank = RunIdentity(run, *job, static_cast<uint32_t>(i), renderer, collector, files);
    if (!bank.ok()) return bank.status();
    inputs.banks.push_back(*std::move(bank));
  }
  for (const farm::v1::FrameSet& set : job->frame_sets()) {
    const std::vector<uint32_t> panels(set.panels().begin(), set.panels().end());
    const auto work = plan::WorkFor(*job, farm::v1::TASK_FRAME, panels, SimplePlan(), inputs);
    if (!work.ok()) return work.status();
    auto request = engine::ToFramesRequest(RequestFor(run, *job, *work), files);
    if (!request.ok()) return request.status();
    run.plan(request->plan);
    if (const auto done = renderer.RenderFrames(*request, collector); !done.ok()) return done.status();
  }
  return std::move(collector.panels);
}

}  // namespace storyfarm::testing_support
