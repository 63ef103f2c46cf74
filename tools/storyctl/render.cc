// render: the whole way from a story to pages on this machine, and what is left of it for tools and checks.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/model/word_list.h"
#include "pipeline/plan/names.h"
#include "pipeline/plan/plan.h"
#include "pipeline/story/prompt_texts.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/fonts.h"
#include "tools/storyctl/inputs.h"
#include "tools/storyctl/json.h"
#include "tools/storyctl/latents.h"
#include "tools/storyctl/local_job.h"
#include "tools/storyctl/local_model.h"
#include "tools/storyctl/problems.h"

namespace storyfarm::storyctl {
namespace {

constexpr char kWorkName[] = ".storyctl-render";

void WarnOfUnknownWords(const StoryInputs& inputs, const model::WordList& list,
                        std::vector<farm::v1::Problem>& problems) {
  const story::PromptTexts texts(inputs.story_bytes, inputs.story_name, inputs.settings_bytes, inputs.settings_name);
  const model::UnknownWords unknown = list.FindUnknown(texts.texts(), story::kMaxUnknownWords);
  for (const model::UnknownWord& word : unknown.words) {
    problems.push_back(texts.UnknownWord(word.text, word.byte, word.byte_count, word.nearest));
  }
  if (unknown.left_out > 0) problems.push_back(texts.MoreUnknownWords(unknown.left_out));
}

// Absolute, with the folder above it made where it is missing; empty stays empty.
absl::StatusOr<std::string> OutputPath(const Context& context, const std::string& path) {
  if (path.empty()) return path;
  const std::string absolute = std::filesystem::absolute(path).lexically_normal().string();
  if (absl::Status made = context.env.CreateFolders(base::FolderOf(absolute)); !made.ok()) return AsInput(made);
  return absolute;
}

nlohmann::json Metadata(const farm::v1::JobSpec& job, const LocalResult& result) {
  using nlohmann::json;
  const farm::v1::Story& story = job.story();
  json panels = json::array();
  for (uint32_t p = 0; p < result.panels.size(); ++p) {
    const farm::v1::Panel& panel = *plan::FindPanel(story, p);
    const PanelResult& done = result.panels[p];
    std::vector<std::string> characters;
    for (const uint32_t c : panel.characters()) characters.push_back(story.characters(static_cast<int>(c)).name());
    json entry = {{"panel", p},
                  {"id", panel.id()},
                  {"prompt", plan::StyledPrompt(story.settings().style(), panel.prompt())},
                  {"caption", panel.caption()},
                  {"characters", characters},
                  {"seed", panel.has_seed() ? panel.seed() : story.settings().seed()},
                  {"width", panel.has_width() ? panel.width() : story.settings().width()},
                  {"height", panel.has_height() ? panel.height() : story.settings().height()},
                  {"warnings", done.warnings}};
    if (done.image_path.empty()) {
      entry["failure"] = done.failure;
    } else {
      entry["file"] = absl::StrFormat("panels/%03d.png", p);
      entry["render_ms"] = done.render_ms;
    }
    panels.push_back(std::move(entry));
  }
  json plans = json::array();
  for (const DrawnRun& run : result.runs) {
    json plan = ToJson(run.plan);
    if (run.done.peak_bytes() > 0) {
      plan["peak_bytes"] = run.done.peak_bytes();
      plan["overhead_bytes"] = run.done.overhead_bytes();
      plan["render_ms"] = run.done.render_ms();
    }
    plans.push_back(std::move(plan));
  }
  return {{"title", story.title()},
          {"author", story.author()},
          {"model", job.model().name()},
          {"settings", ToJson(story.settings())},
          {"device", {{"backend", plan::BackendName(result.device.backend())}, {"name", result.device.name()}}},
          {"panels", panels},
          {"plans", plans},
          {"pages_failure", result.pages_failure},
          {"peak_bytes", result.peak_bytes},
          {"load_ms", result.load_ms},
          {"render_ms", result.render_ms}};
}

class Progress {
 public:
  Progress(const Context& context, size_t panels) : context_(context), lines_(context.console), panels_(panels) {}

  LocalProgress Hooks() {
    return {[this](const std::string& what, uint32_t step, uint32_t steps) {
              lines_.Show({absl::StrCat(Bar(done_, panels_, 24), " ", done_, "/", panels_, " panels  ", what, ": ",
                                        step, "/", steps)});
            },
            [this](uint32_t panel, const PanelResult& result) {
              ++done_;
              lines_.Clear();
              if (result.image_path.empty()) {
                context_.console.Error(absl::StrCat("panel ", panel, ": ", result.failure));
                return;
              }
              context_.console.Note(absl::StrFormat("panel %d done in %.1f s (%d of %d)", panel,
                                                    static_cast<double>(result.render_ms) * 1e-3, done_, panels_));
              for (const std::string& warning : result.warnings) {
                context_.console.Warning(absl::StrCat("panel ", panel, ": ", warning));
              }
            },
            [this](const std::string& message) {
              lines_.Clear();
              context_.console.Note(message);
            }};
  }
  void Clear() { lines_.Clear(); }

 private:
  const Context& context_;
  LiveLines lines_;
  size_t done_ = 0;
  const size_t panels_;
};

void Report(const Context& context, const RenderOptions& options, const LocalResult& result,
            const nlohmann::json& metadata, double total_s) {
  if (context.json) {
    nlohmann::json document = metadata;
    document["out"] = options.out;
    document["total_seconds"] = total_s;
    context.console.out() << Print(document) << std::endl;
    return;
  }
  const auto drawn = std::count_if(result.panels.begin(), result.panels.end(),
                                   [](const PanelResult& panel) { return !panel.image_path.empty(); });
  context.console.out() << absl::StrFormat("%s: %d of %d panels in %.1f s (loading %.1f s), peak memory %s on %s",
                                           options.out, drawn, result.panels.size(), total_s,
                                           static_cast<double>(result.load_ms) * 1e-3, FormatBytes(result.peak_bytes),
                                           result.device.name())
                        << std::endl;
}

ExitCode ExitCodeOf(const LocalResult& result) {
  const auto failed = [](const PanelResult& panel) { return panel.image_path.empty(); };
  if (std::none_of(result.panels.begin(), result.panels.end(), failed)) {
    return result.pages_failure.empty() ? ExitCode::kOk : ExitCode::kFailed;
  }
  const bool all_refused =
      std::all_of(result.panels.begin(), result.panels.end(), [](const PanelResult& panel) { return panel.refused; });
  return all_refused ? ExitCode::kNoRoom : ExitCode::kFailed;
}

// Everything that LocalJob needs, checked before an engine is started.
absl::StatusOr<LocalOptions> Prepare(const Context& context, const RenderOptions& options,
                                     const farm::v1::Story& story) {
  LocalOptions local;
  if (options.engine.empty()) {
    auto engine = engine::FindEngineProgram();
    if (!engine.ok()) return AsInput(engine.status());
    local.engine = *std::move(engine);
  } else {
    local.engine = options.engine;
    if (!context.env.Exists(local.engine)) {
      return absl::InvalidArgumentError(absl::StrCat("--engine: there is no file ", options.engine));
    }
  }
  local.device = options.device;
  local.threads = options.threads;
  local.lift_cap = options.lift_cap;
  local.memory_limit_bytes = static_cast<uint64_t>(std::llround(options.limit_memory_gb * 1e9));
  local.model_folder = std::filesystem::absolute(options.model).string();
  local.out = std::filesystem::absolute(options.out).lexically_normal().string();
  local.work_folder = base::JoinPath(local.out, kWorkName);
  for (const char* folder : {"panels", "pages"}) {
    if (absl::Status made = context.env.CreateFolders(base::JoinPath(local.out, folder)); !made.ok()) {
      return AsInput(made);
    }
  }
  // Left by a run that was killed.
  if (absl::Status removed = context.env.RemoveTree(local.work_folder); !removed.ok()) return removed;
  if (absl::Status made = context.env.CreateFolders(local.work_folder); !made.ok()) return made;

  if (!options.draws.empty()) {
    local.draws = std::filesystem::absolute(options.draws).string();
    if (!context.env.Exists(local.draws)) {
      return absl::InvalidArgumentError(absl::StrCat("--draws: there is no file ", options.draws));
    }
  }
  auto save_draws = OutputPath(context, options.save_draws);
  if (!save_draws.ok()) return save_draws.status();
  local.save_draws = *std::move(save_draws);
  if (!local.save_draws.empty() && local.save_draws == local.draws) {
    return absl::InvalidArgumentError("--draws and --save-draws name one file");
  }
  // The engine merges into what is there, run by run; what is there from another story has to go first.
  if (!local.save_draws.empty()) {
    if (absl::Status removed = context.env.RemoveTree(local.save_draws); !removed.ok()) return removed;
  }
  // Panels need no font: they are drawn all the same, and the pages say why there are none.
  const auto fonts = FontsFor(context, story);
  if (fonts.ok()) {
    local.fonts = fonts->files;
  } else {
    context.console.Warning(absl::StrCat("fonts: ", fonts.status().message()));
  }
  return local;
}

// Packs live on a farm.
plan::NamedPacks NoPacks(const farm::v1::Story& story) {
  plan::NamedPacks packs;
  for (const farm::v1::Character& character : story.characters()) {
    if (character.pack().empty()) continue;
    packs[character.pack()].trouble =
        absl::StrCat("the pack '", character.pack(),
                     "' is on a farm, and this renders without one: submit the story to the farm, or remove `pack`, "
                     "and the character is drawn from its own panels");
  }
  return packs;
}

}  // namespace

Outcome Render(const Context& context, const RenderOptions& options) {
  const auto inputs = ReadStoryInputs(context, options.story, options.settings);
  if (!inputs.ok()) return inputs.status();
  if (!inputs->ok()) return ReportProblems(context, *inputs, inputs->problems);
  const auto model = ReadLocalModel(context, options.model, options.fp16);
  if (!model.ok()) return model.status();
  plan::Expansion expansion = plan::ExpandStory(inputs->story, model->manifest, NoPacks(inputs->story));
  std::vector<farm::v1::Problem> problems = inputs->problems;
  problems.insert(problems.end(), expansion.problems.begin(), expansion.problems.end());
  if (!expansion.ok()) return ReportProblems(context, *inputs, problems);
  if (model->words.has_value()) WarnOfUnknownWords(*inputs, *model->words, problems);
  PrintProblems(context.console, problems, inputs->story_bytes, inputs->story_name);
  expansion.job.set_job_id("render");

  const auto latents_path = OutputPath(context, options.latents);
  if (!latents_path.ok()) return latents_path.status();
  const auto local = Prepare(context, options, expansion.job.story());
  if (!local.ok()) return local.status();
  const int64_t start_ms = context.env.MonotonicMs();
  Progress progress(context, plan::PanelCount(expansion.job.story()));
  absl::StatusOr<LocalResult> result;
  {
    LocalJob job(context.env, expansion.job, *local, progress.Hooks());
    result = job.Run();
  }
  progress.Clear();
  if (!result.ok()) return result.status();
  const double total_s = static_cast<double>(context.env.MonotonicMs() - start_ms) * 1e-3;

  if (!latents_path->empty()) {
    std::vector<std::string> files;
    for (const PanelResult& panel : result->panels) files.push_back(panel.latents_path);
    if (absl::Status written = CollectLatents(context.env, files, *latents_path); !written.ok()) return written;
  }
  const nlohmann::json metadata = Metadata(expansion.job, *result);
  if (absl::Status written =
          context.env.WriteFileDurably(base::JoinPath(local->out, "metadata.json"), Print(metadata) + "\n");
      !written.ok()) {
    return written;
  }
  if (absl::Status removed = context.env.RemoveTree(local->work_folder); !removed.ok()) return removed;
  if (!result->pages_failure.empty()) context.console.Error(absl::StrCat("pages: ", result->pages_failure));
  Report(context, options, *result, metadata, total_s);
  return ExitCodeOf(*result);
}

}  // namespace storyfarm::storyctl
