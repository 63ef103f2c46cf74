// The Unicode that CLIP's tokenizer needs, exactly as the `tokenizers` library knows it. Internal to this folder.
#ifndef STORYFARM_PIPELINE_MODEL_UNICODE_H_
#define STORYFARM_PIPELINE_MODEL_UNICODE_H_

#include <string>
#include <string_view>

namespace storyfarm::model {

enum class CharClass { kLetter, kNumber, kSpace, kOther };  // \p{L}, \p{N}, \s and the rest
CharClass ClassOf(char32_t c);

// Each maximal ill-formed part becomes one U+FFFD (Unicode 15, section 3.9, "substitution of maximal subparts").
std::u32string DecodeUtf8(std::string_view text);
void AppendUtf8(char32_t c, std::string& text);

// Normalization form C (Unicode Standard Annex 15).
std::u32string ComposeNfc(const std::u32string& text);
// Character by character, without context: a final sigma stays a plain one.
std::u32string LowerCase(const std::u32string& text);

}  // namespace storyfarm::model

#endif  // STORYFARM_PIPELINE_MODEL_UNICODE_H_
