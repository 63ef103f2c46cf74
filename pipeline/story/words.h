// UTF-8 text: characters, white space, names that look alike.
#ifndef STORYFARM_PIPELINE_STORY_WORDS_H_
#define STORYFARM_PIPELINE_STORY_WORDS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace storyfarm::story {

// Bytes of the UTF-8 sequence (RFC 3629) at the start of `text`, 1 to 4; 0 where there is none, an overlong form or a
// surrogate.
size_t Utf8Length(std::string_view text);

// Characters (code points) of valid UTF-8.
size_t CountCharacters(std::string_view text);

// The byte at which character `index` (from 0) starts; the text's size where it has fewer.
size_t ByteOfCharacter(std::string_view text, size_t index);

// `text` without blanks and tabs and line ends at either side.
std::string_view Trim(std::string_view text);

// Trimmed, each run of white space inside turned into one blank: how CLIP reads it.
std::string CollapseSpace(std::string_view text);

// The same for each line of `text`, keeping one line end between lines that hold anything: how captions are read.
std::string CollapseLines(std::string_view text);

// " (did you mean 'x'?)" for the candidate nearest to `word`, or empty where none is near.
std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates);

// At most `max_characters` of a text for a message, in single quotes.
std::string Quote(std::string_view text, size_t max_characters = 40);

}  // namespace storyfarm::story

#endif  // STORYFARM_PIPELINE_STORY_WORDS_H_
