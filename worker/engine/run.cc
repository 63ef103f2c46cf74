#include "worker/engine/run.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/engine/compose.h"
#include "worker/engine/convert.h"
#include "worker/engine/outputs.h"

namespace storyfarm::engine {
namespace {

// Turns the renderer's callbacks into files and events.
class Reporter : public render::Observer {
 public:
  Reporter(const farm::v1::RunRequest& run, const farm::v1::MemoryPlan& plan, RecipeBase recipe, base::Env& env,
           const Tell& tell, OutputLane::Run& outputs)
      : folder_(run.output_folder()),
        predicted_peak_bytes_(plan.predicted_peak_bytes()),
        recipe_(std::make_shared<const RecipeBase>(std::move(recipe))),
        env_(env),
        tell_(tell),
        outputs_(outputs) {}

  absl::Status OnStep(const std::vector<const render::Frame*>& frames, int step, int steps) override {
    if (absl::Status written = outputs_.status(); !written.ok()) return written;
    farm::v1::EngineEvent event;
    for (const render::Frame* frame : frames) {
      if (!frame->hidden) event.mutable_step()->add_panels(static_cast<uint32_t>(frame->panel));
    }
    event.mutable_step()->set_step(static_cast<uint32_t>(step));
    event.mutable_step()->set_steps(static_cast<uint32_t>(steps));
    return tell_(std::move(event));
  }

  absl::Status OnFrame(render::FinishedFrame finished) override {
    struct Output {
      render::Frame frame;  // the request's may be gone by then
      render::FinishedFrame finished;
    };
    auto output = std::make_shared<Output>(Output{*finished.frame, std::move(finished)});
    output->finished.frame = &output->frame;
    outputs_.Add([output = std::move(output), folder = folder_, recipe = recipe_, predicted = predicted_peak_bytes_,
                  &env = env_]() -> absl::StatusOr<farm::v1::EngineEvent> {
      const render::FinishedFrame& finished = output->finished;
      auto files = WriteFrame(env, folder, *recipe, finished);
      if (!files.ok()) return files.status();
      farm::v1::EngineEvent event;
      farm::v1::FrameDone& done = *event.mutable_frame();
      done.set_panel(static_cast<uint32_t>(finished.frame->panel));
      done.set_hidden(finished.frame->hidden);
      done.set_image_path(files->image_path);
      done.set_latents_path(files->latents_path);
      done.set_render_ms(static_cast<uint64_t>(finished.render_ms));
      done.set_peak_bytes(finished.peak_bytes);
      done.set_predicted_peak_bytes(predicted);
      for (const std::string& warning : finished.warnings) done.add_warnings(warning);
      return event;
    });
    return outputs_.status();
  }

  absl::Status OnBankStep(int step, const std::string& path) override {
    farm::v1::EngineEvent event;
    event.mutable_bank_step()->set_step(static_cast<uint32_t>(step));
    event.mutable_bank_step()->set_path(path);
    return tell_(std::move(event));
  }

 private:
  const std::string folder_;
  const uint64_t predicted_peak_bytes_;
  const std::shared_ptr<const RecipeBase> recipe_;
  base::Env& env_;
  const Tell& tell_;
  OutputLane::Run& outputs_;
};

farm::v1::RunDone ToMessage(const render::RunStats& stats, const farm::v1::MemoryPlan& plan) {
  farm::v1::RunDone done;
  done.set_render_ms(static_cast<uint64_t>(stats.render_ms));
  done.set_load_ms(static_cast<uint64_t>(stats.load_ms));
  done.set_peak_bytes(stats.peak_bytes);
  done.set_overhead_bytes(stats.overhead_bytes);
  done.set_predicted_peak_bytes(plan.predicted_peak_bytes());
  return done;
}

absl::StatusOr<farm::v1::RunDone> RunIdentity(const farm::v1::RunRequest& run, base::Env& env,
                                              render::Renderer& renderer, const Tell& tell,
                                              OutputLane::Run& outputs) {
  auto files = IndexFiles(run);
  if (!files.ok()) return files.status();
  auto request = ToIdentityRequest(run, *files);
  if (!request.ok()) return request.status();
  const farm::v1::IdentityWork& work = run.work().identity();
  Reporter reporter(run, work.plan(), MakeRecipe(work.model(), work.settings(), work.plan()), env, tell, outputs);
  auto stats = renderer.RenderIdentity(*request, reporter);
  if (!stats.ok()) return stats.status();
  return ToMessage(*stats, work.plan());
}

absl::StatusOr<farm::v1::RunDone> RunFrames(const farm::v1::RunRequest& run, base::Env& env, render::Renderer& renderer,
                                            const Tell& tell, OutputLane::Run& outputs, const Growing& growing) {
  auto files = IndexFiles(run);
  if (!files.ok()) return files.status();
  auto request = ToFramesRequest(run, *files, growing.step);
  if (!request.ok()) return request.status();
  request->let_go = growing.let_go;
  const farm::v1::FramesWork& work = run.work().frames();
  Reporter reporter(run, work.plan(), MakeRecipe(work.model(), work.settings(), work.plan()), env, tell, outputs);
  auto stats = renderer.RenderFrames(*request, reporter);
  if (!stats.ok()) return stats.status();
  return ToMessage(*stats, work.plan());
}

absl::StatusOr<farm::v1::RunDone> RunText(const farm::v1::RunRequest& run, base::Env& env, render::Renderer& renderer,
                                          const Tell& tell, OutputLane::Run& outputs) {
  auto request = ToTextRequest(run);
  if (!request.ok()) return request.status();
  const farm::v1::MemoryPlan& plan = run.work().text().plan();
  Reporter reporter(run, plan, RecipeBase(), env, tell, outputs);
  auto stats = renderer.EncodeTexts(*request, reporter);
  if (!stats.ok()) return stats.status();
  farm::v1::EngineEvent event;
  event.mutable_text()->set_path(request->output_path);
  if (absl::Status told = tell(std::move(event)); !told.ok()) return told;
  return ToMessage(*stats, plan);
}

absl::StatusOr<farm::v1::RunDone> RunPages(const farm::v1::RunRequest& run, base::Env& env, const Tell& tell) {
  auto files = IndexFiles(run);
  if (!files.ok()) return files.status();
  const int64_t start_ms = env.MonotonicMs();
  auto pages = ComposePages(run.work().page(), *files, env, run.output_folder());
  if (!pages.ok()) return pages.status();
  const uint64_t compose_ms = static_cast<uint64_t>(env.MonotonicMs() - start_ms);
  pages->set_compose_ms(compose_ms);
  farm::v1::EngineEvent event;
  *event.mutable_pages() = *std::move(pages);
  if (absl::Status told = tell(std::move(event)); !told.ok()) return told;
  farm::v1::RunDone done;
  done.set_render_ms(compose_ms);
  return done;
}

}  // namespace

absl::StatusOr<farm::v1::RunDone> RunWork(const farm::v1::RunRequest& run, base::Env& env, render::Renderer& renderer,
                                          const Tell& tell, OutputLane::Run& outputs, const Growing& growing) {
  switch (run.work().kind_case()) {
    case farm::v1::Work::kIdentity:
      return RunIdentity(run, env, renderer, tell, outputs);
    case farm::v1::Work::kFrames:
      return RunFrames(run, env, renderer, tell, outputs, growing);
    case farm::v1::Work::kPage:
      return RunPages(run, env, tell);
    case farm::v1::Work::kText:
      return RunText(run, env, renderer, tell, outputs);
    default:
      return absl::InvalidArgumentError(
          "the work names neither identity, frames, text nor page: sender and engine are of different versions");
  }
}

}  // namespace storyfarm::engine
