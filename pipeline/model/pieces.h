// How CLIP's tokenizer cuts a text before it looks anything up. Internal to this folder.
#ifndef STORYFARM_PIPELINE_MODEL_PIECES_H_
#define STORYFARM_PIPELINE_MODEL_PIECES_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace storyfarm::model {

// Composed (NFC), each run of white space one blank, in lower case.
std::u32string NormalizePrompt(const std::u32string& text);

// Characters [begin, end) of a text.
struct Piece {
  size_t begin = 0;
  size_t end = 0;
};

// The pieces of CLIP's pattern, left to right, in text that NormalizePrompt returned:
//   <|startoftext|> | <|endoftext|> | 's | 't | 're | 've | 'm | 'll | 'd | \p{L}+ | \p{N} | [^\s\p{L}\p{N}]+
// What lies between them is white space.
std::vector<Piece> SplitPieces(std::u32string_view text);

}  // namespace storyfarm::model

#endif  // STORYFARM_PIPELINE_MODEL_PIECES_H_
