// The texts of a story that become prompts, as their author wrote them and where: for warnings about single words,
// which depend on the model (pipeline/model/word_list.h) and so are nothing that parsing could find.
#ifndef STORYFARM_PIPELINE_STORY_PROMPT_TEXTS_H_
#define STORYFARM_PIPELINE_STORY_PROMPT_TEXTS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "farm/v1/problem.pb.h"
#include "pipeline/story/draft.h"
#include "pipeline/story/source.h"

namespace storyfarm::story {

inline constexpr size_t kMaxUnknownWords = 30;  // warnings; a story in another language has thousands

class PromptTexts {
 public:
  // Of a story and of settings over it (empty: none) that parse without errors; the same arguments as ParseStory and
  // ParseSettings took. Texts that no prompt holds are left out: captions, descriptions and identity prompts of
  // characters that no panel names, settings that others replace, negative prompts without guidance.
  PromptTexts(std::string_view story, const std::string& story_name, std::string_view settings,
              const std::string& settings_name);

  // Characters' descriptions and identity prompts, panels, style and negative prompts. Names in brackets and {prompt}
  // are blank, so that a byte here is a byte of what was written.
  const std::vector<std::string>& texts() const { return texts_; }

  // The warning that a model does not know the word at texts()[text].substr(byte, byte_count). `nearest`: a word that
  // it does know and that may have been meant, or empty.
  farm::v1::Problem UnknownWord(size_t text, size_t byte, size_t byte_count, const std::string& nearest) const;
  // The warning that `count` more were left out.
  farm::v1::Problem MoreUnknownWords(size_t count) const;

 private:
  struct File {
    std::string name;
    Source source;
  };
  struct Origin {
    std::string owner;  // "panel 3"
    Mark mark;
    std::string field;
    bool in_settings;  // stands in the settings' file, not in the story's
  };

  void Add(const Text& text, std::string owner, bool in_settings = false);
  void AddStory(const Draft& draft);

  File story_;
  File settings_;
  std::vector<std::string> texts_;
  std::vector<Origin> origins_;  // of each text
};

}  // namespace storyfarm::story

#endif  // STORYFARM_PIPELINE_STORY_PROMPT_TEXTS_H_
