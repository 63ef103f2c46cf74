#include "pipeline/model/tokenizer.h"

#include <algorithm>
#include <array>
#include <functional>
#include <queue>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/model/pieces.h"
#include "pipeline/model/tokenizer_files.h"
#include "pipeline/model/unicode.h"

namespace storyfarm::model {
namespace {

constexpr char kEndOfWord[] = "</w>";

// GPT-2's alphabet: every byte as one printable character, in UTF-8.
std::array<std::string, 256> ByteAlphabet() {
  std::array<std::string, 256> alphabet;
  char32_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    AppendUtf8(printable ? static_cast<char32_t>(byte) : next++, alphabet[byte]);
  }
  return alphabet;
}

// Byte-pair merging of one word: the pair of lowest rank first, of equal ones the leftmost.
std::vector<int32_t> MergeWord(const TokenizerTables& tables, std::vector<int32_t> symbols) {
  struct Candidate {
    int32_t rank;
    size_t position;
    int32_t id;
    bool operator>(const Candidate& other) const {
      return std::tie(rank, position) > std::tie(other.rank, other.position);
    }
  };
  const size_t count = symbols.size();
  constexpr size_t kNone = static_cast<size_t>(-1);
  std::vector<size_t> next(count), previous(count);
  std::vector<bool> alive(count, true);
  for (size_t i = 0; i < count; ++i) {
    next[i] = i + 1 < count ? i + 1 : kNone;
    previous[i] = i > 0 ? i - 1 : kNone;
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<Candidate>> queue;
  const auto consider = [&](size_t left) {
    if (left == kNone || next[left] == kNone) return;
    const auto merge = tables.merges.find(MergeKey(symbols[left], symbols[next[left]]));
    if (merge != tables.merges.end()) queue.push({merge->second.rank, left, merge->second.id});
  };
  for (size_t i = 0; i + 1 < count; ++i) consider(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const size_t left = best.position;
    if (!alive[left] || next[left] == kNone) continue;
    const size_t right = next[left];
    // The pair may have changed since it was queued.
    const auto merge = tables.merges.find(MergeKey(symbols[left], symbols[right]));
    if (merge == tables.merges.end() || merge->second.id != best.id) continue;
    symbols[left] = best.id;
    alive[right] = false;
    next[left] = next[right];
    if (next[left] != kNone) previous[next[left]] = left;
    consider(previous[left]);
    consider(left);
  }
  std::vector<int32_t> merged;
  for (size_t i = 0; i < count; ++i) {
    if (alive[i]) merged.push_back(symbols[i]);
  }
  return merged;
}

}  // namespace

struct ClipTokenizer::Tables {
  TokenizerTables files;
  std::array<std::string, 256> alphabet = ByteAlphabet();
  struct Special {
    std::u32string content;
    int32_t id;
  };
  std::vector<Special> raw;         // looked for in the text as it came, the longest first
  std::vector<Special> normalized;  // looked for after normalisation

  // What the text became: tokens, and where in `text` the word of each begins.
  struct Run {
    std::vector<int32_t> ids;
    std::vector<size_t> word_starts;
    std::u32string text;  // normalised
  };

  // Calls between(part) for the text around special tokens and special(token) for these, left to right.
  template <typename Between, typename OnSpecial>
  static void SplitAt(const std::vector<Special>& specials, std::u32string_view text, Between between,
                      OnSpecial special) {
    size_t begin = 0;
    for (size_t at = 0; at < text.size();) {
      const auto found = std::find_if(specials.begin(), specials.end(),
                                      [&](const Special& s) { return text.substr(at, s.content.size()) == s.content; });
      if (found == specials.end()) {
        ++at;
        continue;
      }
      if (at > begin) between(text.substr(begin, at - begin));
      special(*found);
      begin = at = at + found->content.size();
    }
    if (begin < text.size()) between(text.substr(begin));
  }

  void AppendWord(std::u32string_view word, size_t word_start, Run& run) const {
    std::string bytes;
    for (char32_t c : word) AppendUtf8(c, bytes);
    std::vector<int32_t> symbols;
    for (size_t i = 0; i < bytes.size(); ++i) {
      std::string symbol = alphabet[static_cast<uint8_t>(bytes[i])];
      if (i + 1 == bytes.size()) symbol += kEndOfWord;
      const auto known = files.vocabulary.find(symbol);
      symbols.push_back(known == files.vocabulary.end() ? files.unknown_id : known->second);
    }
    for (int32_t id : MergeWord(files, std::move(symbols))) {
      run.ids.push_back(id);
      run.word_starts.push_back(word_start);
    }
  }

  Run Tokenize(std::string_view text) const {
    Run run;
    const auto on_special = [&](const Special& special) {
      run.ids.push_back(special.id);
      run.word_starts.push_back(run.text.size());
      run.text += special.content;
    };
    const std::u32string decoded = DecodeUtf8(text);
    SplitAt(
        raw, decoded,
        [&](std::u32string_view part) {
          const std::u32string normal = NormalizePrompt(std::u32string(part));
          SplitAt(
              normalized, normal,
              [&](std::u32string_view plain) {
                const size_t base = run.text.size();
                run.text += plain;
                for (const Piece& piece : SplitPieces(plain)) {
                  AppendWord(plain.substr(piece.begin, piece.end - piece.begin), base + piece.begin, run);
                }
              },
              on_special);
        },
        on_special);
    return run;
  }
};

ClipTokenizer::ClipTokenizer(std::unique_ptr<const Tables> tables) : tables_(std::move(tables)) {}
ClipTokenizer::ClipTokenizer(ClipTokenizer&&) noexcept = default;
ClipTokenizer& ClipTokenizer::operator=(ClipTokenizer&&) noexcept = default;
ClipTokenizer::~ClipTokenizer() = default;

absl::StatusOr<ClipTokenizer> ClipTokenizer::Load(const ModelFolder& model, const std::string& folder) {
  TokenizerFiles files;
  files.folder = folder;
  const bool has_vocabulary = model.Has(folder + "/vocab.json") || !model.Has(folder + "/tokenizer.json");
  const struct {
    const char* name;
    std::string* text;
    bool needed;
  } parts[] = {{"vocab.json", &files.vocab_json, has_vocabulary},
               {"merges.txt", &files.merges_txt, has_vocabulary},
               {"tokenizer.json", &files.tokenizer_json, false},
               {"tokenizer_config.json", &files.tokenizer_config_json, false},
               {"special_tokens_map.json", &files.special_tokens_map_json, false},
               {"added_tokens.json", &files.added_tokens_json, false}};
  for (const auto& part : parts) {
    const std::string path = absl::StrCat(folder, "/", part.name);
    if (!part.needed && !model.Has(path)) continue;
    absl::StatusOr<std::string> text = model.Read(path, kMaxTokenizerFileBytes);
    if (!text.ok()) return text.status();
    *part.text = *std::move(text);
  }
  return Create(files);
}

absl::StatusOr<ClipTokenizer> ClipTokenizer::Create(const TokenizerFiles& files) {
  absl::StatusOr<TokenizerTables> read = ReadTokenizerTables(files);
  if (!read.ok()) return read.status();
  auto tables = std::make_unique<Tables>();
  tables->files = *std::move(read);
  for (const AddedToken& token : tables->files.added) {
    const std::u32string content = DecodeUtf8(token.content);
    if (token.normalized) {
      tables->normalized.push_back({NormalizePrompt(content), token.id});
    } else {
      tables->raw.push_back({content, token.id});
    }
  }
  for (std::vector<Tables::Special>* specials : {&tables->raw, &tables->normalized}) {
    std::stable_sort(specials->begin(), specials->end(), [](const Tables::Special& a, const Tables::Special& b) {
      return a.content.size() > b.content.size();
    });
  }
  return ClipTokenizer(std::move(tables));
}

std::vector<int32_t> ClipTokenizer::EncodeUnbounded(std::string_view text) const { return tables_->Tokenize(text).ids; }

Encoding ClipTokenizer::Encode(std::string_view text) const {
  Tables::Run run = tables_->Tokenize(text);
  Encoding encoding;
  const size_t room = max_length() - 2;
  encoding.token_count = std::min(run.ids.size(), room);
  encoding.dropped_tokens = run.ids.size() - encoding.token_count;
  if (encoding.dropped_tokens > 0) {
    const size_t cut = run.word_starts[encoding.token_count];
    for (char32_t c : run.text.substr(cut)) AppendUtf8(c, encoding.dropped_text);
  }
  encoding.ids.reserve(max_length());
  encoding.ids.push_back(start_id());
  encoding.ids.insert(encoding.ids.end(), run.ids.begin(),
                      run.ids.begin() + static_cast<ptrdiff_t>(encoding.token_count));
  encoding.ids.push_back(end_id());
  encoding.ids.resize(max_length(), pad_id());
  return encoding;
}

size_t ClipTokenizer::max_length() const { return tables_->files.max_length; }
int32_t ClipTokenizer::start_id() const { return tables_->files.start_id; }
int32_t ClipTokenizer::end_id() const { return tables_->files.end_id; }
int32_t ClipTokenizer::pad_id() const { return tables_->files.pad_id; }
size_t ClipTokenizer::vocabulary_size() const { return tables_->files.vocabulary.size(); }

}  // namespace storyfarm::model
