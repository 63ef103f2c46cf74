// What both forms of a story file are read into: the author's texts with their places, nothing worked out yet.
#ifndef STORYFARM_PIPELINE_STORY_DRAFT_H_
#define STORYFARM_PIPELINE_STORY_DRAFT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "farm/v1/settings.pb.h"
#include "farm/v1/story.pb.h"
#include "pipeline/story/source.h"
#include "pipeline/story/story.h"

namespace storyfarm::story {

// A value and where it stands.
struct Text {
  std::string text;
  Mark mark;
  std::string field;
};

struct DraftCharacter {
  Text name;  // without brackets
  Text description;
  std::vector<Text> identity_prompts;
  Text pack;
  bool unreadable = false;  // the description was of a wrong type: that problem is enough
};

struct DraftPanel {
  Text text;  // with [Name] and [NC], without the caption
  Text caption;
  Text id;  // empty: derived
  std::optional<uint32_t> width;
  std::optional<uint32_t> height;
  std::optional<uint64_t> seed;
  bool unreadable = false;  // the text was of a wrong type: that problem is enough
};

struct DraftChapter {
  Text title;
  std::vector<DraftPanel> panels;
};

// The texts among settings. Absent: the key was not given; empty: it was given as null or holds no such text.
struct SettingsTexts {
  std::optional<Text> style;
  std::optional<Text> style_negative;
  std::optional<Text> negative_prompt;
};

struct Draft {
  Text title;
  Text author;
  Text model;
  std::vector<DraftCharacter> characters;
  std::vector<DraftChapter> chapters;
  farm::v1::RenderSettings settings;
  SettingsTexts settings_texts;
  farm::v1::PageSettings page;
  bool unreadable = false;  // panels or chapters were of a wrong type: "no panels" need not be said
};

// A frame's text and its caption, which starts at the last '#'. `caption_byte` is where the caption's text starts.
struct CutText {
  std::string_view text;
  std::string_view caption;
  size_t caption_byte = 0;
};
CutText CutCaption(std::string_view line);

// StoryDiffusion's line grammar (line_form.cc).
Draft ReadLineForm(const Source& source, ProblemList& problems);

// YAML (yaml_form.cc). Nothing where the file is no YAML at all, which is then a problem.
std::optional<Draft> ReadYamlForm(const Source& source, bool json, ProblemList& problems);

// Either of them, as the file's name says. Nothing where the file is no YAML at all.
std::optional<Draft> ReadDraft(const Source& source, const std::string& file_name, ProblemList& problems);

// Works out names, ids and keys, checks what does not depend on the form (finish.cc). `file_name` gives the title where
// the author gave none.
farm::v1::Story FinishStory(const Draft& draft, const Source& source, const std::string& file_name,
                            ProblemList& problems);

}  // namespace storyfarm::story

#endif  // STORYFARM_PIPELINE_STORY_DRAFT_H_
