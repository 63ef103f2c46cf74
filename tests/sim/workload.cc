#include "tests/sim/workload.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace storyfarm::sim {
namespace {

std::string DigestOf(const std::string& text) {
  std::string digest = text;
  digest.resize(32, '.');
  return digest;
}

// The identities' prompts in one task, the others' in tasks of a few. Some keys are shared by many jobs.
void AddTexts(farm::v1::JobSpec* spec) {
  constexpr int kPanelsAText = 8;
  farm::v1::TextTask of_identities;
  for (int i = 0; i < spec->identities_size(); ++i) of_identities.add_identities(static_cast<uint32_t>(i));
  if (of_identities.identities_size() > 0) *spec->add_texts() = of_identities;
  farm::v1::TextTask* text = nullptr;
  for (const farm::v1::FrameSet& set : spec->frame_sets()) {
    for (const uint32_t panel : set.panels()) {
      if (text == nullptr || text->panels_size() == kPanelsAText) text = spec->add_texts();
      text->add_panels(panel);
    }
  }
  for (int i = 0; i < spec->texts_size(); ++i) {
    const bool shared = spec->texts(i).identities_size() > 0;
    spec->mutable_texts(i)->set_key(
        DigestOf(shared ? "text of identities" : absl::StrCat("text ", i, " of ", spec->job_id())));
  }
}

}  // namespace

absl::StatusOr<farm::v1::GroupShape> SimPlanner::ShapeOf(const plan::JobView& job, farm::v1::TaskKind kind,
                                                         absl::Span<const uint32_t> numbers) const {
  farm::v1::GroupShape shape;
  if (kind == farm::v1::TASK_FRAME) shape.set_frames(static_cast<uint32_t>(numbers.size()));
  if (kind == farm::v1::TASK_IDENTITY) {
    const auto& identity = job.spec().identities(static_cast<int>(numbers.front()));
    shape.set_frames(static_cast<uint32_t>(identity.panels_size() + identity.hidden_prompts_size()));
    shape.set_identity_pass(true);
  }
  if (kind == farm::v1::TASK_TEXT) shape.set_frames(1);
  return shape;
}

plan::PlanOrRefusal SimPlanner::PlanGroup(const farm::v1::ModelProfile&, const farm::v1::DeviceReport& device,
                                          const farm::v1::GroupShape& shape, const plan::LearnedNeed& learned) const {
  uint64_t each = kFrameBytes;
  if (learns_ && learned.planned_bytes > 0) {
    each = static_cast<uint64_t>(static_cast<double>(each) * static_cast<double>(learned.needed_bytes) /
                                 static_cast<double>(learned.planned_bytes)) +
           1;
  }
  // An identity pass holds all its frames at once, at half the cost each.
  const uint64_t least = shape.identity_pass() ? each + each * (shape.frames() - 1) / 2 : each;
  if (device.free_bytes() < least) {
    farm::v1::Refusal refusal;
    refusal.set_reason(absl::StrCat("It needs ", least, " bytes and ", device.free_bytes(), " are free."));
    refusal.set_needed_bytes(least);
    refusal.set_offered_bytes(device.free_bytes());
    return refusal;
  }
  farm::v1::MemoryPlan plan;
  plan.set_backend(device.backend());
  plan.set_weights(farm::v1::RESIDENT);
  if (shape.identity_pass()) {
    plan.set_batch(1);
    plan.set_predicted_peak_bytes(least);
  } else {
    plan.set_batch(static_cast<uint32_t>(
        std::min<uint64_t>({device.free_bytes() / each, kMostBatch, std::max(1u, shape.frames())})));
    plan.set_predicted_peak_bytes(each * plan.batch());
  }
  plan.set_predicted_seconds(shape.frames() * kFrameWork / device.speed_tflops());
  return plan;
}

absl::StatusOr<farm::v1::Work> SimPlanner::WorkFor(const plan::JobView& job, farm::v1::TaskKind kind,
                                                   absl::Span<const uint32_t> numbers, const farm::v1::MemoryPlan& plan,
                                                   const plan::WorkInputs& inputs) const {
  farm::v1::Work work;
  if (kind == farm::v1::TASK_FRAME) {
    farm::v1::FramesWork& frames = *work.mutable_frames();
    frames.mutable_model()->set_digest(job.spec().model().digest());
    *frames.mutable_plan() = plan;
    for (const uint32_t number : numbers) frames.add_frames()->set_panel(number);
    for (const auto& bank : inputs.banks) *frames.add_banks() = bank;
    for (const auto& [task, file] : inputs.texts) *frames.mutable_text()->add_files() = file;
  } else if (kind == farm::v1::TASK_IDENTITY) {
    const farm::v1::IdentityTask& task = job.spec().identities(static_cast<int>(numbers.front()));
    farm::v1::IdentityWork& identity = *work.mutable_identity();
    identity.mutable_model()->set_digest(job.spec().model().digest());
    *identity.mutable_plan() = plan;
    for (const uint32_t panel : task.panels()) identity.add_frames()->set_panel(panel);
    for (int i = 0; i < task.hidden_prompts_size(); ++i) identity.add_frames()->set_hidden(true);
    for (const auto& [number, file] : inputs.texts) *identity.mutable_text()->add_files() = file;
  } else if (kind == farm::v1::TASK_TEXT) {
    farm::v1::TextWork& text = *work.mutable_text();
    text.mutable_model()->set_digest(job.spec().model().digest());
    *text.mutable_plan() = plan;
    text.add_texts("prompt");
  } else {
    farm::v1::PageWork& page = *work.mutable_page();
    page.set_book(job.spec().pages(static_cast<int>(numbers.front())).book());
    for (const auto& [panel, image] : inputs.images) *page.add_pages()->add_panels()->mutable_image() = image;
    for (const auto& [panel, why] : inputs.failures) page.add_pages()->add_panels()->set_failure(why);
  }
  return work;
}

farm::v1::JobSpec DrawStory(Dice& dice, const std::string& id, const std::string& key) {
  farm::v1::JobSpec spec;
  spec.set_job_id(id);
  spec.set_idempotency_key(key);
  spec.set_request_digest(DigestOf(key));
  spec.mutable_story()->mutable_settings()->set_steps(kSteps);
  spec.mutable_model()->set_name("model");
  spec.mutable_model()->set_digest(DigestOf("model"));
  const auto panels = static_cast<uint32_t>(dice.Between(12, 100));
  const uint32_t chapters = dice.Chance(30) ? 2 : 1;
  for (uint32_t c = 0; c < chapters; ++c) spec.mutable_story()->add_chapters();
  for (uint32_t i = 0; i < panels; ++i)
    spec.mutable_story()->mutable_chapters(static_cast<int>(i * chapters / panels))->add_panels();
  const auto identities = static_cast<uint32_t>(dice.Between(0, 2));
  uint32_t next = 0;
  farm::v1::FrameSet reading;
  for (uint32_t i = 0; i < identities; ++i) {
    spec.mutable_story()->add_characters()->set_name(absl::StrCat("character ", i));
    farm::v1::IdentityTask& identity = *spec.add_identities();
    identity.set_character(i);
    identity.set_read_by_others(true);
    identity.add_panels(next++);
    if (dice.Chance(50)) identity.add_panels(next++);
    if (dice.Chance(30)) identity.add_hidden_prompts("hidden");
    // Most jobs share identities. Those of one key are equal in what they are drawn from, as real ones are.
    if (panels % 5 > 0) {
      identity.set_pack_key(DigestOf(absl::StrCat("pack ", panels % 2, " of ", identity.panels_size(), " and ",
                                                  identity.hidden_prompts_size())));
    }
    reading.add_identities(i);
  }
  // Some panels show no character and wait for nobody.
  farm::v1::FrameSet free;
  const uint32_t apart = identities == 0 ? panels - next : static_cast<uint32_t>(dice.Below(4));
  for (; next < panels; ++next) (panels - next > apart ? reading : free).add_panels(next);
  for (const farm::v1::FrameSet& set : {reading, free}) {
    if (set.panels_size() > 0) *spec.add_frame_sets() = set;
  }
  farm::v1::PageTask book;
  book.set_book(true);
  for (uint32_t panel = 0; panel < panels; ++panel) {
    if (panel % 6 == 0) spec.add_pages();
    spec.mutable_pages(spec.pages_size() - 1)->add_panels(panel);
    book.add_panels(panel);
  }
  *spec.add_pages() = book;
  if (panels % 3 > 0) AddTexts(&spec);
  return spec;
}

uint32_t TasksOf(const farm::v1::JobSpec& spec) {
  int tasks = spec.texts_size() + spec.identities_size() + spec.pages_size();
  for (const auto& chapter : spec.story().chapters()) tasks += chapter.panels_size();
  return static_cast<uint32_t>(tasks);
}

farm::v1::DeviceReport DrawDevice(Dice& dice, uint32_t index) {
  farm::v1::DeviceReport report;
  report.set_index(index);
  const farm::v1::Backend backends[] = {farm::v1::CPU, farm::v1::CUDA, farm::v1::MPS};
  report.set_backend(backends[dice.Below(3)]);
  report.set_name("device");
  report.set_total_bytes(static_cast<uint64_t>(dice.Between(4, 12)) * SimPlanner::kFrameBytes);
  report.set_free_bytes(report.total_bytes());
  report.set_speed_tflops(kLeastTflops * static_cast<double>(1 << dice.Below(5)));
  return report;
}

uint32_t TrueNeedPercent(farm::v1::Backend backend) { return backend == farm::v1::MPS ? 130 : 100; }

farm::v1::BlobRef MakeBlob(const coordinator::Token& token, uint64_t serial) {
  std::string digest(32, '\0');
  std::memcpy(digest.data(), &token.incarnation, 8);
  std::memcpy(digest.data() + 8, &token.number, 8);
  std::memcpy(digest.data() + 16, &serial, 8);
  farm::v1::BlobRef blob;
  blob.set_digest(std::move(digest));
  blob.set_size_bytes(1000);
  return blob;
}

coordinator::Token OriginOf(const std::string& digest) {
  coordinator::Token token;
  if (digest.size() != 32) return token;
  std::memcpy(&token.incarnation, digest.data(), 8);
  std::memcpy(&token.number, digest.data() + 8, 8);
  return token;
}

}  // namespace storyfarm::sim
