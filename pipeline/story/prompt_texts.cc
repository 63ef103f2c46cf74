#include "pipeline/story/prompt_texts.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "pipeline/story/settings_reader.h"
#include "pipeline/story/words.h"

namespace storyfarm::story {
namespace {

constexpr size_t kLocateLines = 12;  // a text in YAML may go over several lines

// Makes every `mark` in a text blank; whether there was one.
bool Blank(std::string_view mark, std::string& text) {
  bool found = false;
  for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + mark.size())) {
    text.replace(at, mark.size(), mark.size(), ' ');
    found = true;
  }
  return found;
}

bool IsWordByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || static_cast<signed char>(c) < 0;
}

// Where the word text.substr(byte, byte_count) stands in the file, for a text that starts at `mark`.
Mark PlaceOf(const Source& source, Mark mark, std::string_view text, size_t byte, size_t byte_count) {
  if (mark.line == 0) return mark;
  // A text of one line, without escapes, stands there as it is.
  std::string_view line = source.Line(mark.line);
  size_t from = ByteOfCharacter(line, mark.column - 1);
  if (const size_t start = line.find(text.substr(0, byte + byte_count), from); start != std::string_view::npos) {
    return source.MarkAt(mark.line, start + byte);
  }
  const std::string_view word = text.substr(byte, byte_count);
  for (size_t number = mark.line; number < mark.line + kLocateLines; ++number, from = 0) {
    line = source.Line(number);
    for (size_t at = line.find(word, from); at != std::string_view::npos; at = line.find(word, at + 1)) {
      const size_t end = at + word.size();
      const bool whole = (at == 0 || !IsWordByte(line[at - 1])) && (end == line.size() || !IsWordByte(line[end]));
      if (whole) return source.MarkAt(number, at);
    }
  }
  return mark;
}

}  // namespace

PromptTexts::PromptTexts(std::string_view story, const std::string& story_name, std::string_view settings,
                         const std::string& settings_name)
    : story_{story_name, {}}, settings_{settings_name, {}} {
  ProblemList ignored(story_name);  // the caller has parsed both
  if (!Source::Read(story, kMaxFileBytes, ignored, story_.source)) return;
  const std::optional<Draft> draft = ReadDraft(story_.source, story_name, ignored);
  if (!draft.has_value()) return;
  AddStory(*draft);

  farm::v1::RenderSettings merged = draft->settings;
  const SettingsTexts over = ReadSettingsFile(settings, settings_.source, merged, ignored);
  const auto add = [&](const std::optional<Text>& own, const std::optional<Text>& other, const char* owner) {
    const bool replaced = other.has_value();
    Text text = replaced ? *other : own.value_or(Text());
    Blank("{prompt}", text.text);
    Add(text, owner, replaced);
  };
  add(draft->settings_texts.style, over.style, "the style");
  if (merged.has_guidance_scale() && merged.guidance_scale() <= 1) return;  // no guidance: nothing reads the negatives
  add(draft->settings_texts.style_negative, over.style_negative, "the style's negative");
  add(draft->settings_texts.negative_prompt, over.negative_prompt, "the negative prompt");
}

void PromptTexts::Add(const Text& text, std::string owner, bool in_settings) {
  if (text.text.empty()) return;
  texts_.push_back(text.text);
  origins_.push_back({std::move(owner), text.mark, text.field, in_settings});
}

void PromptTexts::AddStory(const Draft& draft) {
  std::vector<std::string> names;
  for (const DraftCharacter& character : draft.characters) names.push_back(absl::StrCat("[", character.name.text, "]"));
  std::vector<bool> named(names.size(), false);
  const auto without_names = [&](Text text) {
    Blank("[NC]", text.text);
    for (size_t i = 0; i < names.size(); ++i) {
      if (Blank(names[i], text.text)) named[i] = true;
    }
    return text;
  };
  std::vector<Text> panels;
  for (const DraftChapter& chapter : draft.chapters) {
    for (const DraftPanel& panel : chapter.panels) panels.push_back(without_names(panel.text));
  }
  const std::vector<bool> shown = named;
  for (size_t i = 0; i < names.size(); ++i) {
    if (!shown[i]) continue;
    const DraftCharacter& character = draft.characters[i];
    Add(character.description, absl::StrCat("the description of ", names[i]));
    for (const Text& prompt : character.identity_prompts) {
      Add(without_names(prompt), absl::StrCat("an identity prompt of ", names[i]));
    }
  }
  for (size_t p = 0; p < panels.size(); ++p) Add(panels[p], absl::StrCat("panel ", p));
}

farm::v1::Problem PromptTexts::UnknownWord(size_t text, size_t byte, size_t byte_count,
                                           const std::string& nearest) const {
  const Origin& origin = origins_[text];
  const File& file = origin.in_settings ? settings_ : story_;
  const Mark place = PlaceOf(file.source, origin.mark, texts_[text], byte, byte_count);
  farm::v1::Problem problem;
  problem.set_file(file.name);
  problem.set_line(place.line);
  problem.set_column(place.column);
  problem.set_field(origin.field);
  problem.set_message(absl::StrCat(origin.owner, " says ", Quote(texts_[text].substr(byte, byte_count)),
                                   ", which this model was not taught",
                                   nearest.empty() ? "" : absl::StrCat(" (did you mean '", nearest, "'?)")));
  problem.set_warning(true);
  return problem;
}

farm::v1::Problem PromptTexts::MoreUnknownWords(size_t count) const {
  farm::v1::Problem problem;
  problem.set_file(story_.name);
  problem.set_message(absl::StrCat("and ", count, " more words that this model was not taught; the first ",
                                   kMaxUnknownWords, " are listed"));
  problem.set_warning(true);
  return problem;
}

}  // namespace storyfarm::story
