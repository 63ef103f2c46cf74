// The YAML form: title, author, model, characters, chapters (or panels), settings, page.
#include "absl/strings/str_cat.h"
#include "pipeline/story/draft.h"
#include "pipeline/story/reader.h"
#include "pipeline/story/settings.h"
#include "pipeline/story/settings_reader.h"
#include "pipeline/story/words.h"

namespace storyfarm::story {
namespace {

constexpr uint64_t kMaxGrid = 6;            // panels beside or above one another: smaller ones can't be read
constexpr uint64_t kMinPagePixels = 400;    // captions would not fit
constexpr uint64_t kMaxPagePixels = 6'000;  // A4 at 600 dots an inch is 4,961

constexpr size_t kMaxLineBytesSearched = 16'000;  // for comments; nobody writes longer lines by hand

class YamlFormReader {
 public:
  YamlFormReader(const Source& source, ProblemList& problems) : source_(source), problems_(problems) {}

  Draft Read(const Node& root) {
    MapReader map(root, "", "a story", problems_);
    if (root.kind != Node::Kind::kMap && root.kind != Node::Kind::kNull) draft_.unreadable = true;
    if (const Node* node = map.Get("title")) draft_.title = ReadLine(*node, "title", kMaxTitleCharacters);
    if (const Node* node = map.Get("author")) draft_.author = ReadLine(*node, "author", kMaxTitleCharacters);
    if (const Node* node = map.Get("model")) draft_.model = ReadLine(*node, "model", kMaxNameCharacters);
    if (const Node* node = map.Get("characters")) ReadCharacters(*node);
    const Node* chapters = map.Get("chapters");
    const Node* panels = map.Get("panels");
    if (chapters != nullptr) ReadChapters(*chapters);
    if (panels != nullptr) {
      if (chapters != nullptr) {
        problems_.Error(panels->mark, "panels", "stand beside chapters; put them into one");
      } else {
        DraftChapter& chapter = draft_.chapters.emplace_back();
        chapter.title = {"", panels->mark, "panels"};
        ReadPanels(*panels, "panels", chapter);
      }
    }
    if (const Node* node = map.Get("settings")) {
      draft_.settings_texts = ReadSettings(*node, "settings", draft_.settings, problems_);
    }
    if (const Node* node = map.Get("page")) ReadPage(*node);
    map.RefuseUnknown(&ExplainTopKey);
    return std::move(draft_);
  }

 private:
  static std::string ExplainTopKey(std::string_view key) {
    for (const std::string_view setting :
         {"width", "height", "steps", "guidance_scale", "scheduler", "seed", "id_length", "style", "negative_prompt",
          "consistency", "reproducible", "int8_weights", "dtype"}) {
      if (key == setting) return "; it belongs under 'settings'";
    }
    for (const std::string_view page : {"columns", "rows", "caption", "font_family"}) {
      if (key == page) return "; it belongs under 'page'";
    }
    return "";
  }

  static std::string ExplainPanelKey(std::string_view key) {
    for (const std::string_view setting : {"steps", "guidance_scale", "scheduler", "id_length", "style", "gate",
                                           "freeu", "negative_prompt", "consistency"}) {
      if (key == setting) return "; it holds for the whole story: put it under 'settings'";
    }
    return "";
  }

  // A text of one line.
  Text ReadLine(const Node& node, const std::string& field, size_t max_characters) {
    const auto text = ReadText(node, field, max_characters, problems_);
    return text.has_value() ? Text{CollapseSpace(text->text), text->mark, field} : Text{"", node.mark, field};
  }

  // A plain YAML text ends where " #" starts a comment: an author who meant a caption should hear of it.
  void WarnOfComment(const Node& node, const std::string& field) {
    if (!node.plain) return;
    const std::string_view line = source_.Line(node.mark.line);
    if (line.size() > kMaxLineBytesSearched) return;
    const size_t start = ByteOfCharacter(line, node.mark.column - 1);
    const size_t hash = line.find(" #", start);
    if (hash == std::string_view::npos) return;
    problems_.Warning(source_.MarkAt(node.mark.line, hash + 1), field,
                      "what follows the '#' is a comment in YAML; for a caption put the whole text in quotes");
  }

  void ReadCharacters(const Node& node) {
    if (node.kind == Node::Kind::kMap) {
      for (const auto& [key, value] : node.entries) {
        if (key->kind != Node::Kind::kScalar) {
          problems_.Error(key->mark, "characters", std::string("a name must be a word, not ") + Describe(*key));
          continue;
        }
        const std::string path = "characters." + key->text.substr(0, ByteOfCharacter(key->text, kMaxNameCharacters));
        DraftCharacter& character = draft_.characters.emplace_back();
        character.name = {key->text, key->mark, path};
        ReadCharacter(*value, path, character, /*named_inside=*/false);
      }
      return;
    }
    if (node.kind != Node::Kind::kSequence) {
      problems_.Error(
          node.mark, "characters",
          std::string("must be a map of names and descriptions (Mia: a girl with red hair), not ") + Describe(node));
      return;
    }
    for (size_t i = 0; i < node.items.size(); ++i) {
      const std::string path = absl::StrCat("characters[", i, "]");
      DraftCharacter& character = draft_.characters.emplace_back();
      character.name = {"", node.items[i]->mark, path + ".name"};
      ReadCharacter(*node.items[i], path, character, /*named_inside=*/true);
    }
  }

  void ReadCharacter(const Node& node, const std::string& path, DraftCharacter& character, bool named_inside) {
    character.description = {"", node.mark, path + ".description"};
    if (node.kind != Node::Kind::kMap && !named_inside) {
      const auto text = ReadText(node, path, kMaxLineCharacters, problems_);
      if (text.has_value()) character.description.text = text->text;
      character.unreadable = !text.has_value() && node.kind != Node::Kind::kNull;
      return;
    }
    MapReader map(node, path, "a character", problems_);
    if (!map.is_map()) {
      character.unreadable = true;
      return;
    }
    if (named_inside) {
      if (const Node* name = map.Get("name")) {
        character.name = {name->text, name->mark, map.Field("name")};
        if (name->kind != Node::Kind::kScalar) ReadText(*name, map.Field("name"), kMaxNameCharacters, problems_);
      }
    }
    if (const Node* description = map.Get("description")) {
      if (auto text = ReadText(*description, map.Field("description"), kMaxLineCharacters, problems_)) {
        character.description = *text;
      } else {
        character.unreadable = true;
      }
    }
    const Node* prompts = map.Get("identity_prompts");
    const Node* identity = map.Get("identity");
    if (prompts != nullptr && identity != nullptr) {
      problems_.Error(identity->mark, map.Field("identity"), "is another word for identity_prompts; give one of them");
    }
    if (prompts != nullptr)
      ReadIdentityPrompts(*prompts, map.Field("identity_prompts"), character);
    else if (identity != nullptr)
      ReadIdentityPrompts(*identity, map.Field("identity"), character);
    if (const Node* pack = map.Get("pack")) character.pack = ReadLine(*pack, map.Field("pack"), kMaxNameCharacters);
    map.RefuseUnknown();
  }

  void ReadIdentityPrompts(const Node& node, const std::string& field, DraftCharacter& character) {
    if (node.kind != Node::Kind::kSequence) {
      if (auto text = ReadText(node, field, kMaxLineCharacters, problems_)) character.identity_prompts.push_back(*text);
      return;
    }
    if (node.items.size() > kMaxIdentityPrompts) {
      problems_.Error(node.mark, field,
                      absl::StrCat("has ", node.items.size(), " texts; at most ", kMaxIdentityPrompts,
                                   " are used, as many as the largest id_length"));
      return;
    }
    for (size_t i = 0; i < node.items.size(); ++i) {
      const std::string item_field = absl::StrCat(field, "[", i, "]");
      if (node.items[i]->kind == Node::Kind::kNull) {
        problems_.Error(node.items[i]->mark, item_field, "is empty; write what the picture shows");
      } else if (auto text = ReadText(*node.items[i], item_field, kMaxLineCharacters, problems_)) {
        character.identity_prompts.push_back(*text);
      }
    }
  }

  void ReadChapters(const Node& node) {
    if (node.kind != Node::Kind::kSequence) {
      problems_.Error(node.mark, "chapters",
                      std::string("must be a list of chapters, each with a title and panels, not ") + Describe(node));
      draft_.unreadable = true;
      return;
    }
    for (size_t i = 0; i < node.items.size(); ++i) {
      const std::string path = absl::StrCat("chapters[", i, "]");
      DraftChapter& chapter = draft_.chapters.emplace_back();
      chapter.title = {"", node.items[i]->mark, path + ".title"};
      MapReader map(*node.items[i], path, "a chapter", problems_);
      if (!map.is_map()) draft_.unreadable = true;
      if (const Node* title = map.Get("title")) {
        chapter.title = ReadLine(*title, map.Field("title"), kMaxTitleCharacters);
      }
      if (const Node* panels = map.Get("panels")) ReadPanels(*panels, map.Field("panels"), chapter);
      map.RefuseUnknown();
    }
  }

  void ReadPanels(const Node& node, const std::string& path, DraftChapter& chapter) {
    if (node.kind != Node::Kind::kSequence) {
      problems_.Error(node.mark, path,
                      std::string("must be a list of panels (- \"[Mia] reading a book\"), not ") + Describe(node));
      draft_.unreadable = true;
      return;
    }
    for (size_t i = 0; i < node.items.size(); ++i) {
      ReadPanel(*node.items[i], absl::StrCat(path, "[", i, "]"), chapter.panels.emplace_back());
    }
  }

  void ReadPanel(const Node& node, const std::string& path, DraftPanel& panel) {
    panel.text = {"", node.mark, path + ".text"};
    if (node.kind != Node::Kind::kMap) {
      ReadPanelText(node, path, /*with_caption=*/true, panel);
      return;
    }
    MapReader map(node, path, "a panel", problems_);
    const Node* caption = map.Get("caption");
    if (caption != nullptr) {
      if (auto text = ReadText(*caption, map.Field("caption"), kMaxCaptionCharacters, problems_)) panel.caption = *text;
    }
    if (const Node* text = map.Get("text")) ReadPanelText(*text, map.Field("text"), caption == nullptr, panel);
    if (const Node* id = map.Get("id")) {
      if (auto text = ReadText(*id, map.Field("id"), kMaxPanelIdCharacters, problems_)) panel.id = *text;
      if (panel.id.text.empty() && id->kind == Node::Kind::kScalar) {
        problems_.Error(id->mark, map.Field("id"), "is empty; give it a name or leave it out");
      }
    }
    ReadSize(map, panel);
    if (const Node* seed = map.Get("seed")) {
      panel.seed = ReadWhole(*seed, map.Field("seed"), 0, UINT64_MAX, problems_);
    }
    map.RefuseUnknown(&ExplainPanelKey);
  }

  void ReadPanelText(const Node& node, const std::string& field, bool with_caption, DraftPanel& panel) {
    panel.text = {"", node.mark, field};
    const auto text = ReadText(node, field, kMaxLineCharacters, problems_);
    if (!text.has_value()) {
      panel.unreadable = node.kind != Node::Kind::kNull;
      return;
    }
    WarnOfComment(node, field);
    if (!with_caption) {
      panel.text.text = text->text;
      return;
    }
    const CutText cut = CutCaption(text->text);
    panel.text.text = std::string(cut.text);
    panel.caption = {std::string(cut.caption), node.mark, field};
  }

  void ReadSize(MapReader& map, DraftPanel& panel) {
    const auto edge = [&](const Node& node, const std::string& field) -> std::optional<uint32_t> {
      const auto value = ReadWhole(node, field, kMinEdgePixels, kMaxEdgePixels, problems_);
      return value.has_value() ? std::optional<uint32_t>(static_cast<uint32_t>(*value)) : std::nullopt;
    };
    const Node* size = map.Get("size");
    const Node* width = map.Get("width");
    const Node* height = map.Get("height");
    if (size != nullptr && (width != nullptr || height != nullptr)) {
      problems_.Error(size->mark, map.Field("size"), "stands beside width or height; give one or the other");
    }
    if (width != nullptr) panel.width = edge(*width, map.Field("width"));
    if (height != nullptr) panel.height = edge(*height, map.Field("height"));
    if (size == nullptr) return;
    const std::string field = map.Field("size");
    if (size->kind == Node::Kind::kSequence && size->items.size() == 2) {
      panel.width = edge(*size->items[0], field + "[0]");
      panel.height = edge(*size->items[1], field + "[1]");
      return;
    }
    const size_t cross = size->kind == Node::Kind::kScalar ? size->text.find('x') : std::string::npos;
    if (cross == std::string::npos) {
      problems_.Error(size->mark, field, "must be width and height in pixels: 1024x768 or [1024, 768]");
      return;
    }
    Node part = *size;
    part.plain = true;
    part.text = Trim(std::string_view(size->text).substr(0, cross));
    panel.width = edge(part, field);
    part.text = Trim(std::string_view(size->text).substr(cross + 1));
    panel.height = edge(part, field);
  }

  void ReadPage(const Node& node) {
    MapReader map(node, "page", "the page", problems_);
    const auto whole = [&](std::string_view key, uint64_t least, uint64_t most) -> uint32_t {
      const Node* value = map.Get(key);
      if (value == nullptr) return 0;
      return static_cast<uint32_t>(ReadWhole(*value, map.Field(key), least, most, problems_).value_or(0));
    };
    draft_.page.set_columns(whole("columns", 1, kMaxGrid));
    draft_.page.set_rows(whole("rows", 1, kMaxGrid));
    draft_.page.set_width(whole("width", kMinPagePixels, kMaxPagePixels));
    if (const Node* caption = map.Get("caption")) {
      if (auto place = ReadName(*caption, map.Field("caption"), {"under", "in"}, problems_)) {
        draft_.page.set_caption(*place == 0 ? farm::v1::CAPTION_UNDER : farm::v1::CAPTION_IN);
      }
    }
    if (const Node* family = map.Get("font_family")) {
      draft_.page.set_font_family(ReadLine(*family, map.Field("font_family"), kMaxTitleCharacters).text);
    }
    map.RefuseUnknown();
  }

  const Source& source_;
  ProblemList& problems_;
  Draft draft_;
};

}  // namespace

std::optional<Draft> ReadYamlForm(const Source& source, bool json, ProblemList& problems) {
  Document document;
  if (!document.Parse(source, json, problems)) return std::nullopt;
  return YamlFormReader(source, problems).Read(document.root());
}

}  // namespace storyfarm::story
