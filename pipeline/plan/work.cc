#include "pipeline/plan/work.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "pipeline/plan/expand.h"
#include "pipeline/plan/text.h"

namespace storyfarm::plan {
namespace {

using farm::v1::Frame;
using farm::v1::FrameSet;
using farm::v1::GroupShape;
using farm::v1::IdentityTask;
using farm::v1::JobSpec;
using farm::v1::PageTask;
using farm::v1::Panel;
using farm::v1::RenderSettings;
using farm::v1::Work;

farm::v1::ModelManifest WithoutProfile(const farm::v1::ModelManifest& model) {
  farm::v1::ModelManifest manifest = model;
  manifest.clear_profile();
  return manifest;
}

Frame BareFrame(const RenderSettings& settings) {
  Frame frame;
  std::string negative;
  if (StyledNegative(settings, &negative)) frame.set_negative_prompt(std::move(negative));
  frame.set_width(settings.width());
  frame.set_height(settings.height());
  frame.set_seed(settings.seed());
  return frame;
}

// Identity frame `i` of a character, where it is no panel. Its id keys its noise: the character's definition and `i`
// alone, so that reordering a story changes nothing.
Frame HiddenFrame(const JobSpec& job, const IdentityTask& task, int i) {
  const farm::v1::Character& character = job.story().characters(static_cast<int>(task.character()));
  Frame frame = BareFrame(job.story().settings());
  frame.set_panel(static_cast<uint32_t>(task.panels_size() + i));
  frame.set_hidden(true);
  frame.set_id(absl::StrCat("identity/", absl::BytesToHexString(character.key()), "/", i));
  frame.set_prompt(task.hidden_prompts(i));
  return frame;
}

// What a task's frames weigh where they are read; those of a named pack as this story's.
int FrameCount(const IdentityTask& task) {
  return task.panels_size() + task.hidden_prompts_size() + static_cast<int>(task.pack_frames());
}

absl::Status OneTask(absl::Span<const uint32_t> numbers, int count, const char* what) {
  if (numbers.size() == 1 && numbers[0] < static_cast<uint32_t>(count)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "expected one ", what, " task below ", count, ", got ",
      numbers.size() == 1 ? absl::StrCat("number ", numbers[0]) : absl::StrCat(numbers.size(), " of them")));
}

// The frame set that all of `panels` belong to.
absl::StatusOr<const FrameSet*> CommonSet(const JobSpec& job, absl::Span<const uint32_t> panels) {
  if (panels.empty()) return absl::InvalidArgumentError("a group of no frames");
  const int set = FrameSetOf(job, panels[0]);
  if (set < 0) {
    return absl::InvalidArgumentError(absl::StrCat("panel ", panels[0], " is no frame task of job ", job.job_id()));
  }
  const FrameSet& frames = job.frame_sets(set);
  for (const uint32_t panel : panels) {
    if (!std::binary_search(frames.panels().begin(), frames.panels().end(), panel)) {
      return absl::InvalidArgumentError(
          absl::StrCat("panels ", panels[0], " and ", panel, " share no frame set of job ", job.job_id()));
    }
  }
  return &frames;
}

// Names the files that hold the prompts of these tasks, where the job has text tasks.
absl::Status AddEmbeddings(const JobSpec& job, farm::v1::TaskKind kind, absl::Span<const uint32_t> numbers,
                           const WorkInputs& inputs, farm::v1::TextEmbeddings* (*mutable_text)(Work*), Work* work) {
  if (job.texts().empty()) return absl::OkStatus();
  farm::v1::TextEmbeddings& text = *mutable_text(work);
  text.set_encoders(EncodersDigest(job.model()));
  for (const uint32_t task : TextTasksFor(job, kind, numbers)) {
    const auto file = inputs.texts.find(task);
    if (file == inputs.texts.end()) {
      return absl::FailedPreconditionError(absl::StrCat("the prompts of text task ", task, " of job ", job.job_id(),
                                                        " are not encoded yet, and they are read here"));
    }
    *text.add_files() = file->second;
  }
  return absl::OkStatus();
}

absl::StatusOr<Work> IdentityWorkFor(const JobView& view, absl::Span<const uint32_t> numbers,
                                     const farm::v1::MemoryPlan& plan, const WorkInputs& inputs) {
  const JobSpec& job = view.spec();
  if (absl::Status one = OneTask(numbers, job.identities_size(), "identity"); !one.ok()) return one;
  const IdentityTask& task = job.identities(static_cast<int>(numbers[0]));
  if (!task.pack().empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the identity of '",
                                                   job.story().characters(static_cast<int>(task.character())).name(),
                                                   "' comes from the pack '", task.pack(), "', nothing computes it"));
  }
  Work work;
  farm::v1::IdentityWork& identity = *work.mutable_identity();
  *identity.mutable_model() = WithoutProfile(job.model());
  *identity.mutable_settings() = job.story().settings();
  identity.set_character(task.character());
  identity.set_character_key(job.story().characters(static_cast<int>(task.character())).key());
  for (Frame& frame : IdentityFrames(view, task)) *identity.add_frames() = std::move(frame);
  *identity.mutable_plan() = plan;
  identity.set_keep_bank(task.read_by_others());
  const auto text_of = [](Work* of) { return of->mutable_identity()->mutable_text(); };
  if (absl::Status text = AddEmbeddings(job, farm::v1::TASK_IDENTITY, numbers, inputs, text_of, &work); !text.ok()) {
    return text;
  }
  return work;
}

absl::StatusOr<Work> FramesWorkFor(const JobView& view, absl::Span<const uint32_t> numbers,
                                   const farm::v1::MemoryPlan& plan, const WorkInputs& inputs) {
  const JobSpec& job = view.spec();
  absl::StatusOr<const FrameSet*> set = CommonSet(job, numbers);
  if (!set.ok()) return set.status();
  Work work;
  farm::v1::FramesWork& frames = *work.mutable_frames();
  *frames.mutable_model() = WithoutProfile(job.model());
  *frames.mutable_settings() = job.story().settings();
  std::vector<uint32_t> characters;
  for (const uint32_t number : (*set)->identities()) {
    const uint32_t character = job.identities(static_cast<int>(number)).character();
    const auto bank = std::find_if(inputs.banks.begin(), inputs.banks.end(),
                                   [&](const farm::v1::Bank& b) { return b.character() == character; });
    if (bank == inputs.banks.end()) {
      return absl::FailedPreconditionError(absl::StrCat("the identity of '",
                                                        job.story().characters(static_cast<int>(character)).name(),
                                                        "' is not rendered yet, and panel ", numbers[0], " reads it"));
    }
    characters.push_back(character);
    *frames.add_banks() = *bank;
  }
  for (const uint32_t panel : numbers) {
    Frame* frame = frames.add_frames();
    *frame = PanelFrame(view, panel);
    frame->mutable_characters()->Add(characters.begin(), characters.end());
  }
  *frames.mutable_plan() = plan;
  const auto text_of = [](Work* of) { return of->mutable_frames()->mutable_text(); };
  if (absl::Status text = AddEmbeddings(job, farm::v1::TASK_FRAME, numbers, inputs, text_of, &work); !text.ok()) {
    return text;
  }
  return work;
}

// One page. `number` is its position among the story's pages, the book excluded.
absl::StatusOr<farm::v1::Page> MakePage(const JobView& view, int number, const WorkInputs& inputs) {
  const JobSpec& job = view.spec();
  const PageTask& task = job.pages(number);
  farm::v1::Page page;
  page.set_number(static_cast<uint32_t>(number));
  const bool opens_chapter = number == 0 || job.pages(number - 1).chapter() != task.chapter();
  if (opens_chapter) page.set_chapter_title(job.story().chapters(static_cast<int>(task.chapter())).title());
  for (const uint32_t number_of_panel : task.panels()) {
    const Panel& source = view.PanelAt(number_of_panel);
    const RenderSettings& settings = job.story().settings();
    farm::v1::PagePanel* panel = page.add_panels();
    panel->set_panel(number_of_panel);
    panel->set_caption(source.caption());
    panel->set_width(source.has_width() ? source.width() : settings.width());
    panel->set_height(source.has_height() ? source.height() : settings.height());
    if (const auto image = inputs.images.find(number_of_panel); image != inputs.images.end()) {
      *panel->mutable_image() = image->second;
    } else if (const auto failure = inputs.failures.find(number_of_panel); failure != inputs.failures.end()) {
      panel->set_failure(failure->second);
    } else {
      return absl::FailedPreconditionError(
          absl::StrCat("panel ", number_of_panel, " is neither rendered nor failed, and page ", number, " shows it"));
    }
  }
  return page;
}

absl::StatusOr<Work> PageWorkFor(const JobView& view, absl::Span<const uint32_t> numbers, const WorkInputs& inputs) {
  const JobSpec& job = view.spec();
  if (absl::Status one = OneTask(numbers, job.pages_size(), "page"); !one.ok()) return one;
  const int task = static_cast<int>(numbers[0]);
  const bool book = job.pages(task).book();
  Work work;
  farm::v1::PageWork& pages = *work.mutable_page();
  for (int i = book ? 0 : task; i <= task; ++i) {
    if (job.pages(i).book()) break;
    absl::StatusOr<farm::v1::Page> page = MakePage(view, i, inputs);
    if (!page.ok()) return page.status();
    *pages.add_pages() = *std::move(page);
  }
  *pages.mutable_settings() = job.story().page();
  pages.set_title(job.story().title());
  pages.set_author(job.story().author());
  *pages.mutable_fonts() = job.fonts();
  pages.set_book(book);
  return work;
}

GroupShape BareShape(const RenderSettings& settings) {
  GroupShape shape;
  shape.set_width(settings.width());
  shape.set_height(settings.height());
  shape.set_steps(settings.steps());
  shape.set_guidance(settings.guidance_scale() > 1.0);
  *shape.mutable_token_rate() = settings.token_rate();
  shape.set_dtype(settings.dtype());
  shape.set_reproducible(settings.reproducible());
  shape.set_int8_weights(settings.int8_weights() && !settings.reproducible());
  return shape;
}

}  // namespace

Frame PanelFrame(const JobView& job, uint32_t number) {
  const RenderSettings& settings = job.spec().story().settings();
  const Panel& panel = job.PanelAt(number);
  Frame frame = BareFrame(settings);
  frame.set_panel(number);
  frame.set_id(panel.id());
  frame.set_prompt(StyledPrompt(settings.style(), panel.prompt()));
  if (panel.has_width()) frame.set_width(panel.width());
  if (panel.has_height()) frame.set_height(panel.height());
  if (panel.has_seed()) frame.set_seed(panel.seed());
  return frame;
}

std::vector<Frame> IdentityFrames(const JobView& job, const IdentityTask& task) {
  std::vector<Frame> frames;
  for (const uint32_t panel : task.panels()) frames.push_back(PanelFrame(job, panel));
  for (int i = 0; i < task.hidden_prompts_size(); ++i) frames.push_back(HiddenFrame(job.spec(), task, i));
  return frames;
}

int FrameSetOf(const JobSpec& job, uint32_t panel) {
  for (int i = 0; i < job.frame_sets_size(); ++i) {
    const auto& panels = job.frame_sets(i).panels();
    if (std::binary_search(panels.begin(), panels.end(), panel)) return i;
  }
  return -1;
}

absl::StatusOr<Work> WorkFor(const JobView& job, farm::v1::TaskKind kind, absl::Span<const uint32_t> numbers,
                             const farm::v1::MemoryPlan& plan, const WorkInputs& inputs) {
  switch (kind) {
    case farm::v1::TASK_IDENTITY:
      return IdentityWorkFor(job, numbers, plan, inputs);
    case farm::v1::TASK_FRAME:
      return FramesWorkFor(job, numbers, plan, inputs);
    case farm::v1::TASK_PAGE:
      return PageWorkFor(job, numbers, inputs);
    case farm::v1::TASK_TEXT:
      return TextWorkFor(job, numbers, plan);
    default:
      return absl::InvalidArgumentError("a task of no kind");
  }
}

absl::StatusOr<GroupShape> ShapeOf(const JobView& view, farm::v1::TaskKind kind, absl::Span<const uint32_t> numbers) {
  const JobSpec& job = view.spec();
  GroupShape shape = BareShape(job.story().settings());
  shape.set_text_from_file(!job.texts().empty());
  if (kind == farm::v1::TASK_TEXT) return TextShapeOf(view, numbers);
  if (kind == farm::v1::TASK_PAGE) {
    if (absl::Status one = OneTask(numbers, job.pages_size(), "page"); !one.ok()) return one;
    return GroupShape();
  }
  if (kind == farm::v1::TASK_IDENTITY) {
    if (absl::Status one = OneTask(numbers, job.identities_size(), "identity"); !one.ok()) return one;
    const IdentityTask& task = job.identities(static_cast<int>(numbers[0]));
    shape.set_frames(static_cast<uint32_t>(FrameCount(task)));
    shape.set_identity_pass(true);
    shape.set_identity_frames(shape.frames());
    shape.set_decode(!task.panels().empty());
    return shape;
  }
  if (kind != farm::v1::TASK_FRAME) return absl::InvalidArgumentError("a task of no kind");
  absl::StatusOr<const FrameSet*> set = CommonSet(job, numbers);
  if (!set.ok()) return set.status();
  for (const uint32_t number : numbers) {
    const PanelSize size = view.SizeOf(number);
    shape.set_width(std::max(shape.width(), size.width));
    shape.set_height(std::max(shape.height(), size.height));
  }
  shape.set_frames(static_cast<uint32_t>(numbers.size()));
  int identity_frames = 0;
  for (const uint32_t i : (*set)->identities()) identity_frames += FrameCount(job.identities(static_cast<int>(i)));
  shape.set_identity_frames(static_cast<uint32_t>(identity_frames));
  shape.set_decode(true);
  return shape;
}

}  // namespace storyfarm::plan
