// What a job was submitted as, packed: it comes back byte for byte, and takes little memory.
#include "coordinator/core/packed_spec.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "coordinator/core/panel_cache.h"
#include "coordinator/rpc/shared_specs.h"
#include "gtest/gtest.h"
#include "pipeline/plan/expand.h"
#include "pipeline/story/story.h"
#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

constexpr uint32_t kBlock = PackedSpec::kPanelsABlock;

// Chapters of 1 panel, none, two and a bit more blocks, and 3 panels.
farm::v1::JobSpec Varied() {
  farm::v1::JobSpec spec = Story("j-1", 1);
  farm::v1::Story& story = *spec.mutable_story();
  for (const uint32_t panels : {0u, 2 * kBlock + 5, 3u}) {
    farm::v1::Chapter& chapter = *story.add_chapters();
    chapter.set_title(absl::StrCat("Chapter of ", panels));
    for (uint32_t i = 0; i < panels; ++i) {
      farm::v1::Panel& panel = *chapter.add_panels();
      panel.set_prompt(absl::StrCat("a house with ", i, " windows"));
      if (i % 100 == 7) panel.set_width(512 + i);
      if (i % 100 == 8) panel.set_height(256);
    }
  }
  return spec;
}

TEST(PackedSpec, UnpacksToTheSameBytes) {
  const farm::v1::JobSpec spec = Varied();
  const PackedSpec packed(spec);
  EXPECT_EQ(packed.panels(), 2 * kBlock + 9);
  EXPECT_EQ(packed.panels_in(1), 0u);
  EXPECT_EQ(packed.panels_in(2), 2 * kBlock + 5);
  EXPECT_EQ(packed.head().story().chapters(2).title(), spec.story().chapters(2).title());
  EXPECT_TRUE(packed.head().story().chapters(2).panels().empty());
  EXPECT_EQ(packed.Unpack().SerializeAsString(), spec.SerializeAsString());
}

TEST(PackedSpec, ComesBackFromItsBytesAndDamageIsFound) {
  const PackedSpec packed(Varied());
  ByteWriter out;
  packed.Write(out);
  const std::string bytes = out.Take();
  ByteReader in(bytes);
  const auto read = PackedSpec::Read(in);
  ASSERT_TRUE(read.has_value());
  EXPECT_TRUE(in.at_end());
  EXPECT_TRUE(*read == packed);
  EXPECT_EQ(read->SizeOf(1 + 7).width, 519u);
  for (size_t size = 0; size < bytes.size(); ++size) {
    ByteReader cut(absl::string_view(bytes).substr(0, size));
    EXPECT_FALSE(PackedSpec::Read(cut).has_value()) << size;
  }
}

TEST(PackedSpec, WorkIsMadeOfItAsOfTheStoryItself) {
  const farm::v1::JobSpec spec = Varied();
  PanelCache cache;
  const JobPanels panels(std::make_shared<const PackedSpec>(spec), 1, &cache);
  const plan::JobView packed(panels.spec().head(), &panels);
  const plan::JobView whole(spec);
  // Against the order of the blocks, so that each is left and come back to.
  for (uint32_t i = 0; i < panels.spec().panels(); ++i) {
    const uint32_t panel = i * 97 % panels.spec().panels();
    EXPECT_EQ(packed.PanelAt(panel).SerializeAsString(), whole.PanelAt(panel).SerializeAsString()) << panel;
    EXPECT_EQ(packed.SizeOf(panel).width, whole.SizeOf(panel).width) << panel;
    EXPECT_EQ(packed.SizeOf(panel).height, whole.SizeOf(panel).height) << panel;
  }
}

TEST(PanelCache, TellsJobsApartAndLetsGoOfTheBlockUsedLongestAgo) {
  PanelCache cache;
  std::vector<PackedSpec> specs;
  for (size_t job = 0; job <= PanelCache::kBlocks; ++job) {
    farm::v1::JobSpec spec = Story(absl::StrCat("j-", job), 1);
    spec.mutable_story()->mutable_chapters(0)->mutable_panels(0)->set_prompt(absl::StrCat("of job ", job));
    specs.emplace_back(spec);
  }
  for (int round = 0; round < 2; ++round) {
    for (size_t job = 0; job < specs.size(); ++job) {
      EXPECT_EQ(cache.Get(specs[job], job, 0).prompt(), absl::StrCat("of job ", job));
    }
  }
}

#if defined(__GLIBC__)
std::string ExampleText() {
  std::ifstream file(STORYFARM_SOURCE_DIR "/deploy/examples/stories/the-letter.yaml");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The example's characters, settings and pages, with as many panels as asked for: an action of one of its panels, a
// second of another one, and a caption of its words in another order, so that hardly one is like another.
std::string ScaledUp(const std::string& example, int panels) {
  const std::vector<std::string> lines = absl::StrSplit(example, '\n');
  std::vector<std::string> actions;
  std::vector<std::string> words;
  std::string story;
  std::string tail;
  for (const std::string& line : lines) {
    const size_t quote = line.find("- \"[");
    if (quote != std::string::npos) {
      const std::string panel = line.substr(quote + 3, line.size() - quote - 4);
      const std::pair<std::string, std::string> parts = absl::StrSplit(panel, absl::MaxSplits('#', 1));
      actions.push_back(parts.first);
      for (const auto& word : absl::StrSplit(parts.second, ' ')) words.emplace_back(word);
    } else if (actions.empty() && line.find("- title:") == std::string::npos && line.find("    panels:") != 0) {
      absl::StrAppend(&story, line, "\n");
    } else if (!tail.empty() || line == "settings:") {
      absl::StrAppend(&tail, line, "\n");
    }
  }
  std::mt19937 random(1);
  const auto pick = [&random](const std::vector<std::string>& from) { return from[random() % from.size()]; };
  for (int panel = 0; panel < panels; ++panel) {
    if (panel % 40 == 0) absl::StrAppend(&story, "  - title: Chapter ", panel / 40 + 1, "\n    panels:\n");
    const std::string second = pick(actions);
    absl::StrAppend(&story, "      - \"", pick(actions), second.substr(second.find(',') + 1), "#");
    for (uint32_t left = 4 + random() % 7; left > 0; --left) absl::StrAppend(&story, pick(words), left > 1 ? " " : "");
    absl::StrAppend(&story, "\"\n");
  }
  return story + tail;
}

farm::v1::JobSpec JobOf(const std::string& story, const std::string& id) {
  const story::ParsedStory parsed = story::ParseStory(story, "the-letter.yaml");
  for (const auto& problem : parsed.problems) EXPECT_TRUE(problem.warning()) << story::FormatProblem(problem);
  farm::v1::ModelManifest model;
  model.set_name("demo");
  model.set_digest(DigestOf("model"));
  model.mutable_profile()->add_levels()->set_csa_layers(1);
  plan::Expansion expansion = plan::ExpandStory(parsed.story, model);
  for (const auto& problem : expansion.problems) EXPECT_TRUE(problem.warning()) << story::FormatProblem(problem);
  expansion.job.set_job_id(id);
  expansion.job.set_idempotency_key(id);
  expansion.job.set_request_digest(DigestOf(id));
  return std::move(expansion.job);
}

size_t HeapBytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

TEST(PackedSpec, APendingFrameOfALongStoryTakesAtMost128BytesOfBothFoldsTogether) {
  constexpr int kPanels = 20'000;
  farm::v1::Record took_over;
  took_over.mutable_taken_over()->set_incarnation(1);
  farm::v1::Record accepted;
  *accepted.mutable_job_accepted()->mutable_spec() = JobOf(ScaledUp(ExampleText(), kPanels), "j-1");
  const TablePlanner planner;
  SharedSpecs shelf;
  Farm loop(&planner, Limits(), &shelf);
  Farm snapshots(&planner, Limits(), &shelf);
  const size_t before = HeapBytes();
  if (before == 0) GTEST_SKIP() << "another allocator, which does not tell what is used";
  for (Farm* farm : {&loop, &snapshots}) {
    ASSERT_TRUE(farm->Apply(took_over).ok());
    const absl::Status status = farm->Apply(accepted);
    ASSERT_TRUE(status.ok()) << status;
  }
  const double each = static_cast<double>(HeapBytes() - before) / kPanels;
  const double text = static_cast<double>(accepted.ByteSizeLong()) / kPanels;
  std::printf("a pending frame of %.0f bytes of text and tasks takes %.1f bytes\n", text, each);
  RecordProperty("bytes", absl::StrCat(each));
  EXPECT_GT(text, 128);
  EXPECT_GT(each, 20) << "that is less than where its parts stand";
  EXPECT_LE(each, 128);
}
#endif

}  // namespace
}  // namespace storyfarm::coordinator
