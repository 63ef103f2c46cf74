// Keys of packs against tools/golden/pack_keys.py, which knows their layout from pack.h alone; what a pack keeps
// and gives back; whom it fits.
#include "pipeline/plan/pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "pipeline/identity/draws.h"
#include "pipeline/plan/expand.h"
#include "pipeline/plan/fetch.h"
#include "pipeline/plan/work.h"
#include "tests/pipeline/plan/shapes.h"

namespace storyfarm::plan {
namespace {

using farm::v1::JobSpec;
using farm::v1::PackManifest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

static_assert(kPackGateSeed == identity::kGateSeed);

// The story behind the golden keys, as a job whose settings are resolved.
JobSpec GoldenJob() {
  JobSpec job;
  job.mutable_model()->set_digest(std::string(32, 'm'));
  std::string key;
  for (char byte = 0; byte < 16; ++byte) key.push_back(byte);
  farm::v1::Character& character = *job.mutable_story()->add_characters();
  character.set_key(key);
  character.set_name("Mia");
  farm::v1::RenderSettings& settings = *job.mutable_story()->mutable_settings();
  settings.set_width(1024);
  settings.set_height(768);
  settings.set_steps(50);
  settings.set_guidance_scale(5);
  settings.set_scheduler(farm::v1::DDIM);
  settings.set_seed(7);
  settings.add_token_rate(0.5);
  settings.mutable_gate()->set_before(0.3);
  settings.mutable_gate()->set_after(0.1);
  settings.mutable_gate()->set_switch_fraction(0.4);
  settings.set_noise(farm::v1::NOISE_PANEL);
  settings.set_consistency(true);
  settings.mutable_freeu()->set_s1(0.6);
  settings.mutable_freeu()->set_s2(0.4);
  settings.mutable_freeu()->set_b1(1.1);
  settings.mutable_freeu()->set_b2(1.2);
  farm::v1::Chapter& chapter = *job.mutable_story()->add_chapters();
  for (const char* text : {"a tree", "a girl walks", "a girl sits"}) {
    farm::v1::Panel& panel = *chapter.add_panels();
    panel.set_id(absl::StrCat("p-", chapter.panels_size() - 1));
    panel.set_prompt(text);
  }
  chapter.mutable_panels(2)->set_seed(99);
  return job;
}

farm::v1::IdentityTask Panels() {
  farm::v1::IdentityTask task;
  task.add_panels(1);
  task.add_panels(2);
  task.set_read_by_others(true);
  return task;
}

std::string Hex(const std::string& key) { return absl::BytesToHexString(key); }

TEST(PackKey, IsTheDigestOfTheWrittenLayout) {
  EXPECT_EQ(Hex(PackKey(GoldenJob(), Panels())), "b4a745e9e0526335b2a63640882ba01957ca3b4789491f384914fb802c13cc48");
  JobSpec job = GoldenJob();
  job.mutable_story()->mutable_settings()->clear_freeu();
  job.mutable_story()->mutable_settings()->mutable_gate()->set_switch_step(20);
  job.mutable_story()->mutable_settings()->set_negative_prompt("blurry");
  farm::v1::IdentityTask hidden;
  hidden.add_hidden_prompts("a girl");
  EXPECT_EQ(Hex(PackKey(job, hidden)), "23ba9f037ac55587e5ed1baafae14de6f3f2a082378e04a20988236e765d6b5c");
}

TEST(PackKey, ChangesWithEverythingThatChangesTheBank) {
  using Change = std::function<void(JobSpec&)>;
  const auto settings = [](std::function<void(farm::v1::RenderSettings&)> change) -> Change {
    return [change](JobSpec& job) { change(*job.mutable_story()->mutable_settings()); };
  };
  const auto panel = [](std::function<void(farm::v1::Panel&)> change) -> Change {
    return [change](JobSpec& job) { change(*job.mutable_story()->mutable_chapters(0)->mutable_panels(1)); };
  };
  const std::vector<Change> changes = {
      [](JobSpec&) {},
      [](JobSpec& job) { job.mutable_model()->set_digest(std::string(32, 'n')); },
      [](JobSpec& job) { job.mutable_story()->mutable_characters(0)->set_key(std::string(16, 'k')); },
      settings([](auto& s) { s.set_steps(51); }),
      settings([](auto& s) { s.set_guidance_scale(5.5); }),
      settings([](auto& s) { s.set_scheduler(farm::v1::EULER); }),
      settings([](auto& s) { s.set_scheduler_config("{\"steps_offset\": 0}"); }),
      settings([](auto& s) { s.clear_freeu(); }),
      settings([](auto& s) { s.mutable_freeu()->set_s1(0.7); }),
      settings([](auto& s) { s.mutable_freeu()->set_s2(0.5); }),
      settings([](auto& s) { s.mutable_freeu()->set_b1(1.2); }),
      settings([](auto& s) { s.mutable_freeu()->set_b2(1.3); }),
      settings([](auto& s) { s.mutable_gate()->set_before(0.2); }),
      settings([](auto& s) { s.mutable_gate()->set_after(0.2); }),
      settings([](auto& s) { s.mutable_gate()->set_switch_fraction(0.5); }),
      settings([](auto& s) { s.mutable_gate()->set_switch_step(20); }),
      settings([](auto& s) { s.set_noise(farm::v1::NOISE_SHARED); }),
      settings([](auto& s) { s.set_seed(8); }),
      settings([](auto& s) { s.set_token_rate(0, 0.25); }),
      settings([](auto& s) { s.add_token_rate(0.5); }),
      settings([](auto& s) { s.set_width(768); }),
      settings([](auto& s) { s.set_height(1024); }),
      settings([](auto& s) { s.set_dtype(farm::v1::FP16); }),
      settings([](auto& s) { s.set_dtype(farm::v1::FP32); }),
      settings([](auto& s) { s.set_reproducible(true); }),
      settings([](auto& s) { s.set_int8_weights(true); }),
      settings([](auto& s) { s.set_negative_prompt(""); }),
      settings([](auto& s) { s.set_negative_prompt("blurry"); }),
      settings([](auto& s) { s.mutable_style()->set_prompt("ink, {prompt}"); }),
      panel([](auto& p) { p.set_prompt("a girl runs"); }),
      panel([](auto& p) { p.set_id("other"); }),
      panel([](auto& p) { p.set_seed(8); }),
  };
  std::set<std::string> keys;
  for (const Change& change : changes) {
    JobSpec job = GoldenJob();
    change(job);
    keys.insert(PackKey(job, Panels()));
  }
  JobSpec job = GoldenJob();
  farm::v1::IdentityTask fewer = Panels();
  fewer.mutable_panels()->RemoveLast();
  keys.insert(PackKey(job, fewer));
  farm::v1::IdentityTask swapped = Panels();
  swapped.mutable_panels()->SwapElements(0, 1);
  keys.insert(PackKey(job, swapped));
  EXPECT_EQ(keys.size(), changes.size() + 2);
}

TEST(PackKey, StaysWhateverElseOfTheStoryChanges) {
  JobSpec job = GoldenJob();
  const std::string key = PackKey(job, Panels());
  job.mutable_story()->set_title("Another");
  job.mutable_story()->mutable_characters(0)->set_name("Ada");
  job.mutable_story()->add_characters()->set_name("Bo");
  job.mutable_story()->add_chapters()->add_panels()->set_prompt("a later panel");
  job.mutable_story()->mutable_settings()->set_id_length(4);
  job.mutable_model()->set_name("also called");
  // A panel before them moves them on by one.
  farm::v1::Chapter& chapter = *job.mutable_story()->mutable_chapters(0);
  chapter.add_panels()->set_prompt("a new first panel");
  for (int i = chapter.panels_size() - 1; i > 0; --i) chapter.mutable_panels()->SwapElements(i, i - 1);
  farm::v1::IdentityTask moved;
  moved.add_panels(2);
  moved.add_panels(3);
  EXPECT_EQ(PackKey(job, moved), key);
}

TEST(ExpandStory, LaterChaptersLeaveTheKeyOfTheFirstOnesAlone) {
  farm::v1::Story story = StoryOf(1, {{0}, {0}, {}});
  const auto first = ExpandStory(story, Manifest(SdxlProfile())).job;
  farm::v1::Panel& later = *story.add_chapters()->add_panels();
  later.set_id("p-later");
  later.set_prompt("later");
  later.add_characters(0);
  const auto second = ExpandStory(story, Manifest(SdxlProfile())).job;
  ASSERT_EQ(first.identities(0).pack_key().size(), 32u);
  EXPECT_EQ(first.identities(0).pack_key(), second.identities(0).pack_key());
}

farm::v1::IdentityResult ResultOf(const farm::v1::IdentityTask& task) {
  farm::v1::IdentityResult result;
  result.set_render_ms(1500);
  result.mutable_bank()->set_identity_frames(2);
  result.mutable_bank()->set_character_key("k");
  result.mutable_bank()->add_steps();
  for (int step = 1; step < 3; ++step) {
    farm::v1::BlobRef& blob = *result.mutable_bank()->add_steps();
    blob.set_digest(std::string(32, static_cast<char>('a' + step)));
    blob.set_size_bytes(1000);
  }
  for (const uint32_t panel : task.panels()) {
    farm::v1::FrameResult& frame = *result.add_frames();
    frame.set_panel(panel);
    frame.mutable_image()->set_digest(std::string(32, static_cast<char>('0' + panel)));
    frame.mutable_image()->set_size_bytes(10);
    frame.add_warnings("cut");
  }
  return result;
}

TEST(MakePack, KeepsWhatAnotherJobTakesUnderItsOwnNumbers) {
  const JobSpec job = [] {
    JobSpec spec = GoldenJob();
    spec.set_job_id("j-1");
    *spec.add_identities() = Panels();
    spec.mutable_identities(0)->set_pack_key(PackKey(spec, Panels()));
    return spec;
  }();
  const PackManifest pack = MakePack(job, 0, ResultOf(Panels()));
  EXPECT_EQ(pack.key(), job.identities(0).pack_key());
  EXPECT_EQ(pack.size_bytes(), 2020u);
  EXPECT_EQ(pack.render_ms(), 1500u);
  ASSERT_THAT(pack.frames(), SizeIs(2));
  EXPECT_EQ(pack.frames(1).prompt(), "a girl sits");

  farm::v1::IdentityTask other;
  other.set_character(3);
  other.add_panels(5);
  other.add_panels(9);
  const auto taken = ResultFromPack(other, pack);
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(taken->render_ms(), 0u) << "nothing was computed for it";
  EXPECT_EQ(taken->bank().character(), 3u);
  EXPECT_EQ(taken->bank().character_key(), "k");
  EXPECT_THAT(taken->bank().steps(), SizeIs(3));
  ASSERT_THAT(taken->frames(), SizeIs(2));
  EXPECT_EQ(taken->frames(1).panel(), 9u);
  EXPECT_EQ(taken->frames(1).image().digest(), std::string(32, '2'));
  EXPECT_THAT(taken->frames(1).warnings(), ElementsAre("cut"));
  EXPECT_EQ(taken->frames(1).render_ms(), 0u);

  other.add_panels(11);
  EXPECT_FALSE(ResultFromPack(other, pack).has_value()) << "a frame that the pack lacks";
  farm::v1::IdentityTask named;
  named.set_character(1);
  named.set_pack("rex");
  ASSERT_TRUE(ResultFromPack(named, pack).has_value());
  EXPECT_THAT(ResultFromPack(named, pack)->frames(), IsEmpty()) << "a named pack gives its bank alone";
}

// A pack made with the golden job's settings, and the settings of a story that names it.
struct Pair {
  PackManifest pack;
  farm::v1::ModelManifest model;
  farm::v1::RenderSettings settings;
  std::string Misfit() const { return WhyPackDoesNotFit(pack, model, settings); }
};
Pair Fitting() {
  const JobSpec job = GoldenJob();
  Pair pair;
  *pair.pack.mutable_settings() = job.story().settings();
  pair.pack.set_model("sdxl");
  pair.pack.set_model_digest(job.model().digest());
  pair.pack.mutable_bank()->set_identity_frames(2);
  pair.model.set_name("sdxl");
  pair.model.set_digest(job.model().digest());
  pair.settings = job.story().settings();
  return pair;
}

TEST(WhyPackDoesNotFit, NamesEachDifferenceThatMattersAndNoOther) {
  EXPECT_EQ(Fitting().Misfit(), "");
  Pair pair = Fitting();
  pair.settings.set_width(512);
  pair.settings.set_seed(8);
  pair.settings.set_token_rate(0, 1);
  pair.settings.set_noise(farm::v1::NOISE_SHARED);
  EXPECT_EQ(pair.Misfit(), "") << "tokens are only keys and values";
  pair.settings.set_steps(30);
  pair.settings.set_scheduler(farm::v1::EULER);
  pair.settings.set_guidance_scale(7);
  pair.settings.clear_freeu();
  pair.settings.mutable_gate()->set_after(0.2);
  pair.settings.set_scheduler_config("{}");
  for (const char* part : {"steps 50, not 30", "scheduler ddim, not euler", "guidance_scale 5, not 7", "not off",
                           "gate before 0.3, after 0.1", "another scheduler_config", "give the story the settings"}) {
    EXPECT_THAT(pair.Misfit(), HasSubstr(part));
  }
  pair = Fitting();
  pair.model.set_digest("other");
  pair.model.set_name("tiny");
  EXPECT_THAT(pair.Misfit(), HasSubstr("made with model sdxl, and the story is drawn with tiny"));
}

TEST(ExpandStory, ACharacterWithAPackHasNoFramesOfItsOwnAndAllItsPanelsReadIt) {
  farm::v1::Story story = StoryOf(2, {{0}, {0, 1}, {1}});
  story.mutable_characters(0)->set_pack("ada");
  const auto resolved = ExpandStory(StoryOf(1, {{0}}), Manifest(SdxlProfile())).job;
  NamedPacks packs;
  PackManifest& pack = packs["ada"].manifest;
  pack.set_key(std::string(32, 'k'));
  pack.set_model_digest(resolved.model().digest());
  *pack.mutable_settings() = resolved.story().settings();
  pack.mutable_bank()->set_identity_frames(3);
  const Expansion expansion = ExpandStory(story, Manifest(SdxlProfile()), packs);
  EXPECT_THAT(expansion.problems, IsEmpty());
  const farm::v1::JobSpec& job = expansion.job;
  ASSERT_THAT(job.identities(), SizeIs(2));
  EXPECT_EQ(job.identities(0).pack(), "ada");
  EXPECT_EQ(job.identities(0).pack_key(), pack.key());
  EXPECT_THAT(job.identities(0).panels(), IsEmpty());
  EXPECT_EQ(ShapeOf(job, farm::v1::TASK_FRAME, {0})->identity_frames(), 3u) << "memory counts the pack's frames";
  EXPECT_FALSE(WorkFor(job, farm::v1::TASK_IDENTITY, {0}, {}, {}).ok()) << "nothing computes it";
  pack.mutable_settings()->set_width(2 * pack.settings().width());
  EXPECT_EQ(CountedFrames(pack, resolved.story().settings()), 6u) << "larger frames weigh more";

  pack.mutable_settings()->set_steps(7);
  const Expansion misfit = ExpandStory(story, Manifest(SdxlProfile()), packs);
  ASSERT_THAT(misfit.problems, SizeIs(1));
  EXPECT_EQ(misfit.problems[0].field(), "characters[0].pack");
  EXPECT_THAT(misfit.problems[0].message(), HasSubstr("steps 7, not 35"));
  packs["ada"].trouble = "files of it are missing";
  EXPECT_EQ(ExpandStory(story, Manifest(SdxlProfile()), packs).problems[0].message(), "files of it are missing");
  EXPECT_THAT(ExpandStory(story, Manifest(SdxlProfile())).problems[0].message(), HasSubstr("characters list"));
  story.mutable_settings()->set_consistency(false);
  const Expansion off = ExpandStory(story, Manifest(SdxlProfile()));
  EXPECT_TRUE(off.ok()) << "only warned of";
  EXPECT_THAT(off.problems, SizeIs(1));
}

TEST(WrongPackName, ANameIsShortAndNoKey) {
  EXPECT_EQ(WrongPackName("rex-v1"), "");
  EXPECT_EQ(WrongPackName("cafe"), "");
  EXPECT_THAT(WrongPackName(""), HasSubstr("no name"));
  EXPECT_THAT(WrongPackName("rex v1"), HasSubstr("no name"));
  EXPECT_THAT(WrongPackName(std::string(65, 'x')), HasSubstr("no name"));
  EXPECT_THAT(WrongPackName("deadbeef"), HasSubstr("reads as the beginning of a key"));
  EXPECT_TRUE(KeyBegins(std::string(32, '\xab'), "ABABABab"));
  EXPECT_FALSE(KeyBegins(std::string(32, '\xab'), "abababac"));
}

TEST(FetchOrCompute, IsDecidedByWhatWasMeasured) {
  struct Row {
    const char* what;
    uint64_t network, disk_write, missing_bytes;
    double compute_s;
    bool fetch;
    double fetch_s;
  };
  const uint64_t kBank = 5'500'000'000;  // SDXL, one identity frame
  const Row rows[] = {
      {"a fast network and a slow device", 1'000'000'000, 0, kBank, 60, true, 5.5},
      {"a slow network and a fast device", 12'500'000, 0, kBank, 8, false, 440},
      {"the same, but the device has the bank", 12'500'000, 0, 0, 8, true, 0},
      {"as soon either way: computed once is enough", 1'000'000, 0, 8'000'000, 8, true, 8},
      {"a fast network into a slow disk", 1'000'000'000, 50'000'000, kBank, 60, false, 110},
      {"nobody measured the network", 0, 0, kBank, 8, true, 55},
      {"nobody knows what computing takes", 12'500'000, 0, kBank, 0, true, 440},
  };
  for (const Row& row : rows) {
    farm::v1::DeviceReport device;
    device.set_network_bytes_per_s(row.network);
    device.set_disk_write_bytes_per_s(row.disk_write);
    const FetchOrCompute choice = ChooseFetchOrCompute(device, row.missing_bytes, row.compute_s);
    EXPECT_EQ(choice.fetch, row.fetch) << row.what;
    EXPECT_NEAR(choice.fetch_s, row.fetch_s, 1e-9) << row.what;
  }
}

}  // namespace
}  // namespace storyfarm::plan
