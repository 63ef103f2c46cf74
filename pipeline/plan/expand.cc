#include "pipeline/plan/expand.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "pipeline/plan/settings.h"

namespace storyfarm::plan {
namespace {

using farm::v1::Character;
using farm::v1::IdentityTask;
using farm::v1::JobSpec;
using farm::v1::ModelProfile;
using farm::v1::PageTask;
using farm::v1::Panel;
using farm::v1::Problem;
using farm::v1::RenderSettings;
using farm::v1::Story;

// Panels of a story by number, and what serves where.
struct Graph {
  std::vector<const Panel*> panels;
  std::vector<bool> serves;                // panel is an identity frame
  std::vector<int> identity_of_character;  // position in JobSpec.identities, -1: none
};

void ResolvePage(farm::v1::PageSettings* page) {
  if (page->columns() == 0) page->set_columns(kDefaultPageColumns);
  if (page->rows() == 0) page->set_rows(kDefaultPageRows);
  if (page->width() == 0) page->set_width(kDefaultPageWidth);
  if (page->caption() == farm::v1::CAPTION_PLACE_UNSPECIFIED) page->set_caption(kDefaultCaptionPlace);
}

void CheckPanel(const Panel& panel, const std::string& field, const ModelProfile& model,
                std::vector<Problem>* problems) {
  const auto add = [&](const std::string& key, const std::string& message) {
    if (message.empty()) return;
    Problem problem;
    problem.set_line(panel.line());
    problem.set_field(absl::StrCat(field, ".", key));
    problem.set_message(message);
    problems->push_back(std::move(problem));
  };
  if (panel.has_width()) add("width", CheckEdge("width", panel.width(), model));
  if (panel.has_height()) add("height", CheckEdge("height", panel.height(), model));
  if (panel.characters_size() > kMaxCharactersInPanel) {
    add("prompt", absl::StrCat("names ", panel.characters_size(), " characters; at most ", kMaxCharactersInPanel,
                               " may share a panel"));
  }
}

// Why a character can't take the pack that it names; empty: it can.
std::string CheckPack(const std::string& name, const NamedPacks& packs, const farm::v1::ModelManifest& model,
                      const RenderSettings& settings) {
  const auto found = packs.find(name);
  if (found == packs.end()) {
    return absl::StrCat("the farm keeps no character pack named '", name,
                        "'; storyctl characters list shows those that it keeps. Remove `pack`, and the character is "
                        "drawn from its own panels");
  }
  if (!found->second.trouble.empty()) return found->second.trouble;
  const std::string misfit = WhyPackDoesNotFit(found->second.manifest, model, settings);
  return misfit.empty() ? "" : absl::StrCat("the pack '", name, "' does not fit: ", misfit);
}

void CheckPacks(const Story& story, const NamedPacks& packs, const farm::v1::ModelManifest& model,
                std::vector<Problem>* problems) {
  for (int i = 0; i < story.characters_size(); ++i) {
    const Character& character = story.characters(i);
    if (character.pack().empty()) continue;
    const bool read = story.settings().consistency();
    std::string message = read ? CheckPack(character.pack(), packs, model, story.settings())
                               : "`consistency` is off, so that no panel reads the pack";
    if (message.empty()) continue;
    Problem problem;
    problem.set_line(character.line());
    problem.set_field(absl::StrCat("characters[", i, "].pack"));
    problem.set_message(std::move(message));
    problem.set_warning(!read);
    problems->push_back(std::move(problem));
  }
}

void CheckStory(const Story& story, const ModelProfile& model, std::vector<Problem>* problems) {
  for (int c = 0; c < story.chapters_size(); ++c) {
    for (int p = 0; p < story.chapters(c).panels_size(); ++p) {
      CheckPanel(story.chapters(c).panels(p), absl::StrCat("chapters[", c, "].panels[", p, "]"), model, problems);
    }
  }
}

bool HasStorySize(const Panel& panel, const RenderSettings& settings) {
  return (!panel.has_width() || panel.width() == settings.width()) &&
         (!panel.has_height() || panel.height() == settings.height());
}

// Panels that name exactly this character and may serve as its identity frames: the first `limit`.
std::vector<uint32_t> IdentityPanels(const Graph& graph, uint32_t character, const RenderSettings& settings) {
  std::vector<uint32_t> panels;
  for (uint32_t p = 0; p < graph.panels.size() && panels.size() < settings.id_length(); ++p) {
    const Panel& panel = *graph.panels[p];
    if (panel.characters_size() == 1 && panel.characters(0) == character && HasStorySize(panel, settings)) {
      panels.push_back(p);
    }
  }
  return panels;
}

bool Names(const Panel& panel, uint32_t character) {
  return std::find(panel.characters().begin(), panel.characters().end(), character) != panel.characters().end();
}

// The write pass of one character, without frames where it needs none.
IdentityTask MakeIdentity(const Story& story, const RenderSettings& settings, uint32_t character, const Graph& graph) {
  IdentityTask task;
  task.set_character(character);
  const Character& definition = story.characters(static_cast<int>(character));
  std::vector<uint32_t> own;
  if (definition.identity_prompts().empty() && definition.pack().empty()) {
    own = IdentityPanels(graph, character, settings);
  }
  for (uint32_t p = 0; p < graph.panels.size(); ++p) {
    const bool is_own = std::binary_search(own.begin(), own.end(), p);
    if (!is_own && Names(*graph.panels[p], character)) task.set_read_by_others(true);
  }
  task.mutable_panels()->Add(own.begin(), own.end());
  if (!task.read_by_others() || !own.empty()) return task;
  if (!definition.pack().empty()) {
    task.set_pack(definition.pack());
    return task;
  }
  const int prompts = std::min<int>(definition.identity_prompts_size(), static_cast<int>(settings.id_length()));
  for (int i = 0; i < prompts; ++i) {
    task.add_hidden_prompts(StyledPrompt(settings.style(), definition.identity_prompts(i)));
  }
  if (prompts == 0) task.add_hidden_prompts(StyledPrompt(settings.style(), definition.description()));
  return task;
}

void AddIdentities(const NamedPacks& packs, Graph* graph, JobSpec* job) {
  const RenderSettings& settings = job->story().settings();
  graph->identity_of_character.assign(static_cast<size_t>(job->story().characters_size()), -1);
  if (!settings.consistency()) return;
  for (int c = 0; c < job->story().characters_size(); ++c) {
    IdentityTask task = MakeIdentity(job->story(), settings, static_cast<uint32_t>(c), *graph);
    if (!task.pack().empty()) {
      const farm::v1::PackManifest& pack = packs.at(task.pack()).manifest;
      task.set_pack_key(pack.key());
      task.set_pack_frames(CountedFrames(pack, settings));
    } else if (task.panels().empty() && task.hidden_prompts().empty()) {
      continue;
    } else {
      task.set_pack_key(PackKey(*job, task));
    }
    for (const uint32_t p : task.panels()) graph->serves[p] = true;
    graph->identity_of_character[static_cast<size_t>(c)] = job->identities_size();
    *job->add_identities() = std::move(task);
  }
}

// Frames by the banks that they read, sets in order of their first panel.
void AddFrameSets(const Graph& graph, JobSpec* job) {
  std::map<std::vector<uint32_t>, int> set_of_banks;
  for (uint32_t p = 0; p < graph.panels.size(); ++p) {
    if (graph.serves[p]) continue;
    std::vector<uint32_t> identities;
    for (const uint32_t character : graph.panels[p]->characters()) {
      const int identity = graph.identity_of_character[character];
      if (identity >= 0) identities.push_back(static_cast<uint32_t>(identity));
    }
    const auto [found, is_new] = set_of_banks.try_emplace(identities, job->frame_sets_size());
    if (is_new) job->add_frame_sets()->mutable_identities()->Add(identities.begin(), identities.end());
    job->mutable_frame_sets(found->second)->add_panels(p);
  }
}

void AddPages(JobSpec* job) {
  const farm::v1::PageSettings& settings = job->story().page();
  const int panels_a_page = static_cast<int>(settings.columns() * settings.rows());
  PageTask book;
  book.set_book(true);
  uint32_t panel = 0;
  for (int c = 0; c < job->story().chapters_size(); ++c) {
    PageTask* page = nullptr;
    for (int p = 0; p < job->story().chapters(c).panels_size(); ++p) {
      if (page == nullptr || page->panels_size() == panels_a_page) {
        page = job->add_pages();
        page->set_chapter(static_cast<uint32_t>(c));
      }
      page->add_panels(panel);
      book.add_panels(panel++);
    }
  }
  *job->add_pages() = std::move(book);
}

}  // namespace

bool Expansion::ok() const {
  return std::all_of(problems.begin(), problems.end(), [](const Problem& problem) { return problem.warning(); });
}

std::string StyledPrompt(const farm::v1::Style& style, const std::string& text) {
  if (style.prompt().empty()) return text;
  return absl::StrReplaceAll(style.prompt(), {{"{prompt}", text}});
}

bool StyledNegative(const RenderSettings& settings, std::string* negative) {
  const std::string& prefix = settings.style().negative();
  if (!settings.has_negative_prompt()) {
    *negative = prefix;
    return !prefix.empty();
  }
  *negative = prefix.empty() || settings.negative_prompt().empty()
                  ? absl::StrCat(prefix, settings.negative_prompt())
                  : absl::StrCat(prefix, " ", settings.negative_prompt());
  return true;
}

const Panel* FindPanel(const Story& story, uint32_t number) {
  for (const farm::v1::Chapter& chapter : story.chapters()) {
    const uint32_t count = static_cast<uint32_t>(chapter.panels_size());
    if (number < count) return &chapter.panels(static_cast<int>(number));
    number -= count;
  }
  return nullptr;
}

uint32_t PanelCount(const Story& story) {
  uint32_t count = 0;
  for (const farm::v1::Chapter& chapter : story.chapters()) count += static_cast<uint32_t>(chapter.panels_size());
  return count;
}

Expansion ExpandStory(const Story& story, const farm::v1::ModelManifest& model, const NamedPacks& packs) {
  Expansion expansion;
  JobSpec& job = expansion.job;
  *job.mutable_story() = story;
  *job.mutable_model() = model;
  job.mutable_story()->set_model(model.name());
  *job.mutable_story()->mutable_settings() = ResolveSettings(story.settings(), model.profile(), &expansion.problems);
  ResolvePage(job.mutable_story()->mutable_page());
  CheckPacks(job.story(), packs, model, &expansion.problems);
  CheckStory(story, model.profile(), &expansion.problems);
  if (!expansion.ok()) return expansion;

  Graph graph;
  for (const farm::v1::Chapter& chapter : job.story().chapters()) {
    for (const Panel& panel : chapter.panels()) graph.panels.push_back(&panel);
  }
  graph.serves.assign(graph.panels.size(), false);
  AddIdentities(packs, &graph, &job);
  AddFrameSets(graph, &job);
  AddPages(&job);
  return expansion;
}

}  // namespace storyfarm::plan
