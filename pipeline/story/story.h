// Text -> Story: what an author wrote, checked, as the message that the rest of the farm works with.
//
// For storyctl (to check a file before it travels) and for the coordinator (to check it again before it becomes a job).
//
//                      +- line_form.cc   StoryDiffusion's line grammar --+
//   bytes, file name --+                                                 +-- Draft --> finish.cc --> Story + Problems
//                      +- yaml_form.cc   YAML (document.cc: a bounded ---+
//                                        tree that knows its lines)
//
// Both forms yield one Draft; names in brackets, ids, keys and limits are worked out once, from that. Nothing here
// knows the model: sizes are checked against it, and every setting that the author left out is filled in, by
// pipeline/plan. For warnings about words that a model was not taught, prompt_texts.h says what the author wrote where.
#ifndef STORYFARM_PIPELINE_STORY_STORY_H_
#define STORYFARM_PIPELINE_STORY_STORY_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "farm/v1/problem.pb.h"
#include "farm/v1/story.pb.h"

namespace storyfarm::story {

// Bounds on one story. Each is far above what a book needs and keeps the cost of a hostile one finite.
inline constexpr size_t kMaxFileBytes = size_t{4} << 20;  // as in SubmitRequest.story; 20,000 panels of 200 bytes
inline constexpr size_t kMaxPanels = 20'000;              // frames of one job: the core holds a record for each
inline constexpr size_t kMaxChapters = 1'000;             // each starts a page and has a line in `storyctl watch`
inline constexpr size_t kMaxCharacters = 64;              // every one costs a write pass and a bank
inline constexpr size_t kMaxIdentityPrompts = 4;          // as many as the largest id_length
inline constexpr size_t kMaxNameCharacters = 64;          // names of characters and models; labels in tables
inline constexpr size_t kMaxTitleCharacters = 200;        // titles and authors: two lines of a page's heading
inline constexpr size_t kMaxLineCharacters = 4'000;       // one text: CLIP reads 75 tokens, some 300 characters
inline constexpr size_t kMaxCaptionCharacters = 1'000;    // some 20 lines below a panel
inline constexpr size_t kMaxPromptBytes = 16'000;         // a text after descriptions have taken the names' places
inline constexpr size_t kMaxStoryTextBytes = size_t{16} << 20;  // all prompts and captions: 20,000 panels of 800 bytes
inline constexpr size_t kMaxPanelIdCharacters = 64;             // a file name's part
inline constexpr size_t kMaxProblems = 200;  // more help nobody; the last one says how many were left out

// A story and everything that is wrong with it, in the order of the file.
struct ParsedStory {
  farm::v1::Story story;  // of use only where ok()
  std::vector<farm::v1::Problem> problems;

  bool ok() const;  // no problem but warnings
};

// Parses and validates a story file. `file_name` is for messages, and its ending decides the form: ".yaml", ".yml" and
// ".json" are YAML, everything else is StoryDiffusion's grammar (deploy/docs/story.md describes both). Finds all errors
// at once; only text that is not UTF-8 and YAML that cannot be read at all stop it early. Never throws, and its time
// and memory are linear in the size of the input.
//
// Of the result:
//   - Panel.prompt has each [Name] replaced by that character's description and a space, white space collapsed.
//   - Panel.id is the author's, or "p-" and 16 hex digits of the SHA-256 of the author's text with white space
//     collapsed; equal texts get "-2", "-3", ... in order. So panels may move, descriptions, captions, sizes and other
//     panels may change, and a panel keeps its id.
//   - Character.key is the first 16 bytes of the SHA-256 of description and identity prompts. The name is no part of
//   it:
//     a renamed character looks as before. Where a second character has the same definition, its occurrence (from 2)
//     joins the hash, so that keys are unique in a story.
//   - settings and page hold what the author set and nothing else.
ParsedStory ParseStory(std::string_view bytes, const std::string& file_name);

// True where a file of this name is read as YAML.
bool IsYamlName(std::string_view file_name);

// "story.yaml:12:5: chapters[0].panels[2].seed: message" as compilers print it, "warning: " before a warning's message.
std::string FormatProblem(const farm::v1::Problem& problem);

}  // namespace storyfarm::story

#endif  // STORYFARM_PIPELINE_STORY_STORY_H_
