#include "pipeline/plan/text.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"
#include "pipeline/plan/cost.h"
#include "pipeline/plan/definition.h"
#include "pipeline/plan/expand.h"
#include "pipeline/plan/settings.h"
#include "pipeline/plan/work.h"

namespace storyfarm::plan {
namespace {

using farm::v1::GroupShape;
using farm::v1::JobSpec;
using farm::v1::MemoryPlan;
using farm::v1::ModelProfile;
using farm::v1::TextTask;

constexpr const char* kEncoderFolders[] = {"text_encoder/", "text_encoder_2/", "tokenizer/", "tokenizer_2/"};

constexpr double kTextTokens = 77;  // CLIP's context

absl::Status CheckNumbers(const JobSpec& job, absl::Span<const uint32_t> numbers) {
  if (numbers.size() == 1 && numbers[0] < static_cast<uint32_t>(job.texts_size())) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "expected one text task below ", job.texts_size(), ", got ",
      numbers.size() == 1 ? absl::StrCat("number ", numbers[0]) : absl::StrCat(numbers.size(), " of them")));
}

}  // namespace

void AddTextTasks(JobSpec* job) {
  job->clear_texts();
  TextTask of_identities;
  for (int i = 0; i < job->identities_size(); ++i) {
    const farm::v1::IdentityTask& identity = job->identities(i);
    if (identity.panels_size() + identity.hidden_prompts_size() > 0) {
      of_identities.add_identities(static_cast<uint32_t>(i));
    }
  }
  if (of_identities.identities_size() > 0) *job->add_texts() = std::move(of_identities);
  std::set<uint32_t> panels;
  for (const farm::v1::FrameSet& set : job->frame_sets()) panels.insert(set.panels().begin(), set.panels().end());
  const int most = std::clamp((static_cast<int>(panels.size()) + kTextTasksAStory - 1) / kTextTasksAStory,
                              kFewestFramesATextTask, kFramesATextTask);
  TextTask* task = nullptr;
  for (const uint32_t panel : panels) {
    if (task == nullptr || task->panels_size() == most) task = job->add_texts();
    task->add_panels(panel);
  }
  for (TextTask& each : *job->mutable_texts()) each.set_key(TextKey(*job, each));
}

std::vector<std::string> TextsOf(const JobView& view, const TextTask& task) {
  const JobSpec& job = view.spec();
  std::vector<std::string> texts;
  std::set<std::string> seen;
  const auto add = [&](const std::string& text) {
    if (seen.insert(text).second) texts.push_back(text);
  };
  const bool guidance = job.story().settings().guidance_scale() > 1.0;
  const auto add_frame = [&](const farm::v1::Frame& frame) {
    add(frame.prompt());
    // Where there is none the model may force zeros, which its files say and no profile: an empty text costs little.
    if (guidance) add(frame.negative_prompt());
  };
  for (const uint32_t number : task.identities()) {
    for (const farm::v1::Frame& frame : IdentityFrames(view, job.identities(static_cast<int>(number)))) {
      add_frame(frame);
    }
  }
  for (const uint32_t panel : task.panels()) add_frame(PanelFrame(view, panel));
  return texts;
}

std::string EncodersDigest(const farm::v1::ModelManifest& model) {
  Definition definition("storyfarm encoders 1");
  for (const farm::v1::ModelFile& file : model.files()) {
    for (const char* folder : kEncoderFolders) {
      if (absl::StartsWith(file.path(), folder)) definition.Text(file.path(), file.blob().digest());
    }
  }
  return base::Digest::Of(definition.Take()).Bytes();
}

std::string TextKey(const JobView& view, const TextTask& task) {
  const JobSpec& job = view.spec();
  Definition definition("storyfarm text 1");
  definition.Text("encoders", EncodersDigest(job.model()));
  definition.Text("dtype", DtypeName(job.story().settings().dtype()));
  definition.Number("reproducible", job.story().settings().reproducible() ? 1 : 0);
  for (const std::string& text : TextsOf(view, task)) definition.Text("text", text);
  return base::Digest::Of(definition.Take()).Bytes();
}

std::vector<uint32_t> TextTasksFor(const JobSpec& job, farm::v1::TaskKind kind, absl::Span<const uint32_t> numbers) {
  std::set<uint32_t> tasks;
  for (int i = 0; i < job.texts_size(); ++i) {
    const auto& of_task = kind == farm::v1::TASK_IDENTITY ? job.texts(i).identities() : job.texts(i).panels();
    const bool holds = std::any_of(numbers.begin(), numbers.end(), [&of_task](uint32_t number) {
      return std::binary_search(of_task.begin(), of_task.end(), number);
    });
    if (holds) tasks.insert(static_cast<uint32_t>(i));
  }
  return {tasks.begin(), tasks.end()};
}

absl::StatusOr<farm::v1::Work> TextWorkFor(const JobView& view, absl::Span<const uint32_t> numbers,
                                           const MemoryPlan& plan) {
  const JobSpec& job = view.spec();
  if (absl::Status one = CheckNumbers(job, numbers); !one.ok()) return one;
  farm::v1::Work work;
  farm::v1::TextWork& text = *work.mutable_text();
  *text.mutable_model() = job.model();
  text.mutable_model()->clear_profile();
  for (std::string& each : TextsOf(view, job.texts(static_cast<int>(numbers[0])))) text.add_texts(std::move(each));
  *text.mutable_plan() = plan;
  text.set_encoders(EncodersDigest(job.model()));
  return work;
}

absl::StatusOr<GroupShape> TextShapeOf(const JobView& view, absl::Span<const uint32_t> numbers) {
  const JobSpec& job = view.spec();
  if (absl::Status one = CheckNumbers(job, numbers); !one.ok()) return one;
  GroupShape shape;
  shape.set_frames(1);
  shape.set_dtype(job.story().settings().dtype());
  shape.set_reproducible(job.story().settings().reproducible());
  shape.set_texts(static_cast<uint32_t>(TextsOf(view, job.texts(static_cast<int>(numbers[0]))).size()));
  return shape;
}

void CountTexts(const ModelProfile& model, const farm::v1::DeviceReport& device, const GroupShape& shape,
                MemoryPlan* plan) {
  const BackendTraits traits = TraitsOf(plan->backend());
  const double element = static_cast<double>(DtypeBytes(plan->dtype()));
  uint64_t peak = TextPhaseBytes(model, *plan);
  if (!plan->text_encoders_in_phases()) {
    peak += model.unet_parameters() * DtypeBytes(plan->dtype()) +
            model.vae_parameters() * DtypeBytes(plan->vae_dtype()) +
            2 * traits.workspace_bytes;  // what the pictures before have left, with a margin
  }
  plan->set_batch(1);
  plan->set_bank(farm::v1::BANK_NONE);
  plan->set_predicted_peak_bytes(peak);
  const double tflops = (device.speed_tflops() > 0 ? device.speed_tflops() : kAssumedTflops) * traits.efficiency;
  const double tflop = 2e-12 * static_cast<double>(model.text_encoder_parameters()) * kTextTokens;
  // Whoever draws from files lets the encoders go: they are loaded first.
  double seconds = shape.texts() * (traits.call_seconds + tflop / tflops) +
                   static_cast<double>(model.text_encoder_parameters()) * element / kReloadBytesPerSecond;
  // Who takes UNet and VAE off the device has them loaded again afterwards.
  if (plan->text_encoders_in_phases())
    seconds += static_cast<double>(model.unet_parameters()) * element / kReloadBytesPerSecond;
  plan->set_predicted_seconds(seconds);
}

}  // namespace storyfarm::plan
