// From the author's texts to the Story: names replaced, ids and keys derived, bounds checked.
#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"
#include "pipeline/story/draft.h"
#include "pipeline/story/words.h"

namespace storyfarm::story {
namespace {

constexpr std::string_view kNoCharacter = "[NC]";
constexpr size_t kKeyBytes = 16;
constexpr size_t kIdHashDigits = 16;
constexpr size_t kLocateLines = 12;  // a text in YAML may go over several lines

// Fields of a hash, each with its length in front, so that no two lists of fields run into the same bytes.
void HashField(base::Sha256& hash, std::string_view field) {
  hash.Update(std::to_string(field.size()) + ":");
  hash.Update(field);
}

std::string FileStem(const std::string& file_name) {
  const size_t slash = file_name.find_last_of("/\\");
  std::string stem = slash == std::string::npos ? file_name : file_name.substr(slash + 1);
  if (const size_t dot = stem.rfind('.'); dot != std::string::npos && dot > 0) stem.resize(dot);
  for (char& c : stem) {
    if (c == '_' || c == '-') c = ' ';
  }
  return CollapseSpace(stem);
}

// Every `[word]` of a text that could be a name, in order.
std::vector<std::string_view> BracketWords(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t open = text.find('['); open != std::string_view::npos; open = text.find('[', open + 1)) {
    const size_t close = text.find_first_of("[]", open + 1);
    if (close == std::string_view::npos) break;
    if (text[close] == ']') words.push_back(text.substr(open, close - open + 1));
  }
  return words;
}

std::string ReplaceAll(std::string_view text, std::string_view what, std::string_view with) {
  std::string replaced;
  size_t from = 0;
  for (size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, from)) {
    replaced.append(text, from, at - from);
    replaced.append(with);
    from = at + what.size();
  }
  return replaced.append(text.substr(from));
}

size_t CountOf(std::string_view text, std::string_view what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + what.size())) ++count;
  return count;
}

class Finisher {
 public:
  Finisher(const Draft& draft, const Source& source, ProblemList& problems)
      : draft_(draft), source_(source), problems_(problems) {}

  farm::v1::Story Finish(const std::string& file_name) {
    story_.set_title(draft_.title.text.empty() ? FileStem(file_name) : draft_.title.text);
    story_.set_author(draft_.author.text);
    story_.set_model(draft_.model.text);
    *story_.mutable_settings() = draft_.settings;
    *story_.mutable_page() = draft_.page;
    AddCharacters();
    AddChapters();
    DerivePanelIds();
    WarnOfUnused();
    return std::move(story_);
  }

 private:
  void AddCharacters() {
    if (draft_.characters.size() > kMaxCharacters) {
      const Text& name = draft_.characters[kMaxCharacters].name;
      problems_.Error(name.mark, name.field,
                      absl::StrCat("the story has ", draft_.characters.size(), " characters; at most ", kMaxCharacters,
                                   " are allowed"));
    }
    std::map<std::string, uint32_t> lines;
    for (const DraftCharacter& character : draft_.characters) {
      CheckName(character.name);
      const auto [first, added] = lines.emplace(character.name.text, character.name.mark.line);
      if (!added && !character.name.text.empty()) {
        problems_.Error(character.name.mark, character.name.field,
                        absl::StrCat("there is another character ", Quote(character.name.text), " in line ",
                                     first->second, "; names must differ"));
      }
      names_.push_back("[" + character.name.text + "]");
    }
    for (size_t i = 0; i < draft_.characters.size() && i < kMaxCharacters; ++i) AddCharacter(draft_.characters[i], i);
  }

  void CheckName(const Text& name) {
    const size_t characters = CountCharacters(name.text);
    std::string wrong;
    if (Trim(name.text).empty()) {
      wrong = "a character needs a name";
    } else if (name.text == "NC") {
      wrong = "[NC] marks panels without a character; choose another name";
    } else if (characters > kMaxNameCharacters) {
      wrong = absl::StrCat("the name has ", characters, " characters; at most ", kMaxNameCharacters,
                           " are allowed: names stand in tables and messages");
    } else if (name.text.find_first_of("[]#\n") != std::string::npos) {
      wrong = "a name holds no brackets, no '#' and no line end: they divide the panels' texts";
    } else if (Trim(name.text) != name.text) {
      wrong = "the name starts or ends with a blank, which nobody sees; remove it";
    }
    if (!wrong.empty()) problems_.Error(name.mark, name.field, wrong);
  }

  void AddCharacter(const DraftCharacter& draft, size_t index) {
    farm::v1::Character& character = *story_.add_characters();
    character.set_name(draft.name.text);
    character.set_description(CollapseSpace(draft.description.text));
    character.set_pack(draft.pack.text);
    character.set_line(draft.name.mark.line);
    if (character.description().empty() && !draft.unreadable) {
      problems_.Error(
          draft.description.mark, draft.description.field,
          absl::StrCat("character ", Quote(draft.name.text), " has no description; it stands for the name in prompts"));
    }
    for (const std::string_view word : BracketWords(character.description())) {
      if (problems_.full()) break;
      if (!IsCharacter(word)) continue;
      problems_.Error(source_.Locate(draft.description.mark, word, kLocateLines), draft.description.field,
                      absl::StrCat("a description cannot name ", std::string(word), "; describe it in words"));
    }
    for (const Text& prompt : draft.identity_prompts) {
      std::string text = ReplaceAll(prompt.text, names_[index], character.description() + " ");
      text = CollapseSpace(ReplaceAll(text, kNoCharacter, ""));
      for (const std::string_view word : BracketWords(prompt.text)) {
        if (problems_.full()) break;
        if (word == names_[index] || word == kNoCharacter) continue;
        problems_.Error(source_.Locate(prompt.mark, word, kLocateLines), prompt.field,
                        absl::StrCat("shows ", names_[index], " alone; ", std::string(word), " cannot stand here"));
      }
      if (text.empty()) problems_.Error(prompt.mark, prompt.field, "is empty; write what the picture shows");
      *character.add_identity_prompts() = std::move(text);
    }
    DeriveKey(draft, character);
  }

  void DeriveKey(const DraftCharacter& draft, farm::v1::Character& character) {
    base::Sha256 hash;
    HashField(hash, character.description());
    for (const std::string& prompt : character.identity_prompts()) HashField(hash, prompt);
    std::string key = hash.Finish().Bytes().substr(0, kKeyBytes);
    const size_t occurrence = ++definitions_[key];
    if (occurrence > 1) {
      problems_.Warning(
          draft.name.mark, draft.name.field,
          absl::StrCat("character ", Quote(draft.name.text), " is described like another one; they will look alike"));
      HashField(hash, character.description());
      for (const std::string& prompt : character.identity_prompts()) HashField(hash, prompt);
      hash.Update("#" + std::to_string(occurrence));
      key = hash.Finish().Bytes().substr(0, kKeyBytes);
    }
    character.set_key(key);
  }

  bool IsCharacter(std::string_view word) const {
    return std::find(names_.begin(), names_.end(), word) != names_.end();
  }

  void AddChapters() {
    if (draft_.chapters.size() > kMaxChapters) {
      const Text& title = draft_.chapters[kMaxChapters].title;
      problems_.Error(
          title.mark, title.field,
          absl::StrCat("the story has ", draft_.chapters.size(), " chapters; at most ", kMaxChapters, " are allowed"));
      return;
    }
    size_t panels = 0;
    for (const DraftChapter& chapter : draft_.chapters) {
      if (chapter.panels.empty() && !draft_.unreadable) {
        problems_.Error(chapter.title.mark, chapter.title.field, "the chapter has no panels; add one or remove it");
      }
      if (CountCharacters(chapter.title.text) > kMaxTitleCharacters) {
        problems_.Error(chapter.title.mark, chapter.title.field,
                        absl::StrCat("a title has at most ", kMaxTitleCharacters, " characters"));
      }
      panels += chapter.panels.size();
    }
    if (draft_.chapters.empty() && !draft_.unreadable) {
      problems_.Error({}, "chapters",
                      draft_.characters.empty()
                          ? "the story has no panels"
                          : "the story has characters but no panels; panels follow the definitions, one a line");
    }
    if (panels > kMaxPanels) {
      problems_.Error({}, "chapters",
                      absl::StrCat("the story has ", panels, " panels; at most ", kMaxPanels, " are allowed"));
      return;
    }
    for (const DraftChapter& draft : draft_.chapters) {
      farm::v1::Chapter& chapter = *story_.add_chapters();
      chapter.set_title(draft.title.text);
      for (const DraftPanel& panel : draft.panels) AddPanel(panel, chapter);
    }
  }

  void AddPanel(const DraftPanel& draft, farm::v1::Chapter& chapter) {
    farm::v1::Panel& panel = *chapter.add_panels();
    panel.set_line(draft.text.mark.line);
    panel.set_caption(CollapseLines(draft.caption.text));
    if (CountCharacters(panel.caption()) > kMaxCaptionCharacters) {
      problems_.Error(draft.caption.mark, draft.caption.field,
                      absl::StrCat("the caption has ", CountCharacters(panel.caption()), " characters; at most ",
                                   kMaxCaptionCharacters, " fit a page"));
    }
    if (draft.width.has_value()) panel.set_width(*draft.width);
    if (draft.height.has_value()) panel.set_height(*draft.height);
    if (draft.seed.has_value()) panel.set_seed(*draft.seed);
    if (!draft.unreadable) {
      CheckBracketWords(draft.text);
      SetPrompt(draft.text, panel);
    }
    panel.set_id(draft.id.text);
    if (!draft.id.text.empty()) CheckId(draft.id);
    panels_.push_back({&panel, &draft});
  }

  void CheckBracketWords(const Text& text) {
    std::set<std::string_view> told;
    for (const std::string_view word : BracketWords(text.text)) {
      if (problems_.full()) return;
      if (word == kNoCharacter || IsCharacter(word) || !told.insert(word).second) continue;
      std::string hint = DidYouMean(word, names_);
      if (hint.empty() && draft_.characters.empty()) {
        hint = "; the story defines no characters";
      } else if (hint.empty()) {
        hint = "; define it where the others are, or leave the brackets out";
      }
      problems_.Error(source_.Locate(text.mark, word, kLocateLines), text.field,
                      absl::StrCat("unknown character ", std::string(word), hint));
    }
  }

  // method.md 3: names in order of definition, each replaced by its text and a blank.
  void SetPrompt(const Text& text, farm::v1::Panel& panel) {
    if (text_bytes_ > kMaxStoryTextBytes) return;
    std::string prompt = text.text;
    for (int i = 0; i < story_.characters_size(); ++i) {
      const size_t count = CountOf(prompt, names_[static_cast<size_t>(i)]);
      if (count == 0) continue;
      panel.add_characters(static_cast<uint32_t>(i));
      const std::string& description = story_.characters(i).description();
      if (prompt.size() + count * description.size() > kMaxPromptBytes) {
        problems_.Error(text.mark, text.field,
                        absl::StrCat("the prompt would have over ", kMaxPromptBytes,
                                     " bytes with the characters' descriptions in it; the model reads some 300"));
        return;
      }
      prompt = ReplaceAll(prompt, names_[static_cast<size_t>(i)], absl::StrCat(description, " "));
    }
    const bool marked = prompt.find(kNoCharacter) != std::string::npos;
    if (marked && panel.characters_size() > 0) {
      const Mark place = source_.Locate(text.mark, kNoCharacter, kLocateLines);
      problems_.Warning(place, text.field,
                        absl::StrCat("line ", place.line, " has [NC] and names [",
                                     story_.characters(static_cast<int>(panel.characters(0))).name(),
                                     "]: the panel is drawn with that character, [NC] changes nothing"));
    }
    prompt = CollapseSpace(ReplaceAll(prompt, kNoCharacter, ""));
    if (prompt.empty()) {
      problems_.Error(text.mark, text.field, "empty prompt; write what the panel shows");
    }
    text_bytes_ += prompt.size() + panel.caption().size();
    if (text_bytes_ <= kMaxStoryTextBytes) {
      panel.set_prompt(std::move(prompt));
    } else {
      problems_.Error(text.mark, text.field,
                      absl::StrCat("up to here the story's prompts and captions have more than ", kMaxStoryTextBytes,
                                   " bytes; shorten the descriptions"));
    }
  }

  void CheckId(const Text& id) {
    const bool allowed = id.text.find_first_not_of(
                             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == std::string::npos;
    if (!allowed) problems_.Error(id.mark, id.field, "an id holds letters a to z, digits, '-', '_' and '.' only");
    const auto [first, added] = ids_.emplace(id.text, id.mark.line);
    if (!added) {
      problems_.Error(
          id.mark, id.field,
          absl::StrCat("the panel in line ", first->second, " has the id ", Quote(id.text), ", too; ids must differ"));
    }
  }

  void DerivePanelIds() {
    std::map<std::string, size_t> occurrences;
    for (const auto& [panel, draft] : panels_) {
      if (!panel->id().empty()) continue;
      const std::string base = "p-" + base::Digest::Of(CollapseSpace(draft->text.text)).Hex().substr(0, kIdHashDigits);
      std::string id;
      do {
        const size_t occurrence = ++occurrences[base];
        id = occurrence == 1 ? base : absl::StrCat(base, "-", occurrence);
      } while (ids_.contains(id));
      ids_[id] = panel->line();
      panel->set_id(id);
    }
  }

  void WarnOfUnused() {
    if (panels_.empty()) return;
    std::set<uint32_t> used;
    for (const auto& [panel, draft] : panels_) used.insert(panel->characters().begin(), panel->characters().end());
    for (size_t i = 0; i < draft_.characters.size() && i < kMaxCharacters; ++i) {
      if (used.contains(static_cast<uint32_t>(i))) continue;
      const Text& name = draft_.characters[i].name;
      if (name.text.empty()) continue;
      problems_.Warning(name.mark, name.field, absl::StrCat("no panel names ", names_[i]));
    }
  }

  struct PanelOf {
    farm::v1::Panel* panel;
    const DraftPanel* draft;
  };

  const Draft& draft_;
  const Source& source_;
  ProblemList& problems_;
  farm::v1::Story story_;
  std::vector<std::string> names_;  // with brackets, in order of definition
  std::map<std::string, size_t> definitions_;
  std::map<std::string, uint32_t> ids_;  // and the lines where they stand
  std::vector<PanelOf> panels_;
  size_t text_bytes_ = 0;
};

}  // namespace

farm::v1::Story FinishStory(const Draft& draft, const Source& source, const std::string& file_name,
                            ProblemList& problems) {
  return Finisher(draft, source, problems).Finish(file_name);
}

}  // namespace storyfarm::story
