// StoryDiffusion's line grammar. Its program takes characters and frames from two text boxes; one file carries both:
//
//   [Mia] a girl with red hair, striped shirt        definitions: the leading lines `[Name] text`, each name new
//   [Bo] a boy with a blue cap
//                                                    a blank line or `---`, or the first line that defines nothing
//   === Monday ===                                   ours: a chapter starts; the word between may be missing
//   [Mia] reading a book in the forest #A quiet day. frames
//   [NC] a city at night
//
// A line that starts with "===" says nothing as a prompt, so no story that the original program draws is read in
// another way.
#include <set>

#include "pipeline/story/draft.h"
#include "pipeline/story/words.h"

namespace storyfarm::story {
namespace {

constexpr std::string_view kChapterMark = "===";
constexpr std::string_view kEndOfDefinitions = "---";

struct BracketLine {
  std::string_view name;
  size_t name_byte = 0;  // in the line
  std::string_view rest;
  size_t rest_byte = 0;
};

// `[Name] rest`, blanks before it allowed.
std::optional<BracketLine> SplitBracketLine(std::string_view line) {
  const size_t open = line.find_first_not_of(" \t");
  if (open == std::string_view::npos || line[open] != '[') return std::nullopt;
  const size_t close = line.find(']', open);
  if (close == std::string_view::npos) return std::nullopt;
  BracketLine split;
  split.name_byte = open + 1;
  split.name = line.substr(split.name_byte, close - split.name_byte);
  split.rest_byte = close + 1;
  split.rest = line.substr(split.rest_byte);
  return split;
}

class LineFormReader {
 public:
  LineFormReader(const Source& source, ProblemList& problems) : source_(source), problems_(problems) {}

  Draft Read() {
    for (size_t line = 1; line <= source_.line_count(); ++line) ReadLine(line);
    return std::move(draft_);
  }

 private:
  void ReadLine(size_t number) {
    const std::string_view line = source_.Line(number);
    const std::string_view trimmed = Trim(line);
    if (trimmed.empty()) {
      if (!draft_.characters.empty()) defining_ = false;
      return;
    }
    const size_t start = static_cast<size_t>(trimmed.data() - line.data());
    if (CountCharacters(trimmed) > kMaxLineCharacters) {
      problems_.Error(source_.MarkAt(number, start), "",
                      "the line has " + std::to_string(CountCharacters(trimmed)) + " characters; at most " +
                          std::to_string(kMaxLineCharacters) + " are allowed");
      return;
    }
    if (defining_ && ReadDefinition(number, line)) return;
    if (defining_ && trimmed == kEndOfDefinitions) {
      defining_ = false;
      return;
    }
    defining_ = false;
    if (trimmed.starts_with(kChapterMark)) {
      StartChapter(number, line);
    } else {
      ReadFrame(number, line, start);
    }
  }

  // False where the line is none.
  bool ReadDefinition(size_t number, std::string_view line) {
    const std::optional<BracketLine> split = SplitBracketLine(line);
    if (!split.has_value() || split->name == "NC" || names_.contains(split->name)) return false;
    names_.insert(split->name);
    const std::string path = "characters[" + std::to_string(draft_.characters.size()) + "]";
    DraftCharacter& character = draft_.characters.emplace_back();
    character.name = {std::string(split->name), source_.MarkAt(number, split->name_byte), path + ".name"};
    const std::string_view text = CutCaption(split->rest).text;
    const size_t start = text.empty() ? 0 : static_cast<size_t>(text.data() - line.data());
    character.description = {std::string(text), source_.MarkAt(number, text.empty() ? split->rest_byte : start),
                             path + ".description"};
    return true;
  }

  void StartChapter(size_t number, std::string_view line) {
    const size_t from = line.find_first_not_of(" \t=");
    std::string_view title;
    if (from != std::string_view::npos) title = Trim(line.substr(from, line.find_last_not_of(" \t=") - from + 1));
    const std::string path = "chapters[" + std::to_string(draft_.chapters.size()) + "].title";
    const size_t start = title.empty() ? 0 : static_cast<size_t>(title.data() - line.data());
    draft_.chapters.emplace_back().title = {std::string(title), source_.MarkAt(number, start), path};
  }

  void ReadFrame(size_t number, std::string_view line, size_t start) {
    if (draft_.chapters.empty()) draft_.chapters.emplace_back();
    DraftChapter& chapter = draft_.chapters.back();
    const std::string path = "chapters[" + std::to_string(draft_.chapters.size() - 1) + "].panels[" +
                             std::to_string(chapter.panels.size()) + "]";
    const CutText cut = CutCaption(line);
    DraftPanel& panel = chapter.panels.emplace_back();
    panel.text = {std::string(cut.text), source_.MarkAt(number, start), path + ".text"};
    panel.caption = {std::string(cut.caption), source_.MarkAt(number, cut.caption_byte), path + ".caption"};
  }

  const Source& source_;
  ProblemList& problems_;
  Draft draft_;
  std::set<std::string_view> names_;
  bool defining_ = true;
};

}  // namespace

CutText CutCaption(std::string_view line) {
  const size_t hash = line.rfind('#');
  if (hash == std::string_view::npos) return {Trim(line), {}, line.size()};
  CutText cut{Trim(line.substr(0, hash)), Trim(line.substr(hash + 1)), hash + 1};
  if (!cut.caption.empty()) cut.caption_byte = static_cast<size_t>(cut.caption.data() - line.data());
  return cut;
}

Draft ReadLineForm(const Source& source, ProblemList& problems) { return LineFormReader(source, problems).Read(); }

}  // namespace storyfarm::story
