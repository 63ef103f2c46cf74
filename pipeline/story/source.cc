#include "pipeline/story/source.h"

#include <algorithm>
#include <cstdio>
#include <limits>

#include "pipeline/story/story.h"
#include "pipeline/story/words.h"

namespace storyfarm::story {
namespace {

constexpr size_t kBlockBytes = 512;
constexpr size_t kMaxBadPlaces = 10;  // a file in another encoding has thousands

}  // namespace

void ProblemList::Error(Mark mark, std::string_view field, std::string message) {
  Add(mark, field, std::move(message), false);
}

void ProblemList::Warning(Mark mark, std::string_view field, std::string message) {
  Add(mark, field, std::move(message), true);
}

void ProblemList::Add(Mark mark, std::string_view field, std::string message, bool warning) {
  if (!warning) ++errors_;
  if (problems_.size() >= kMaxProblems) {
    ++left_out_;
    return;
  }
  farm::v1::Problem& problem = problems_.emplace_back();
  problem.set_file(file_);
  problem.set_line(mark.line);
  problem.set_column(mark.column);
  problem.set_field(std::string(field));
  problem.set_message(std::move(message));
  problem.set_warning(warning);
}

std::vector<farm::v1::Problem> ProblemList::Take() {
  auto place = [](const farm::v1::Problem& problem) {
    uint64_t line = problem.line() == 0 ? std::numeric_limits<uint32_t>::max() : problem.line();
    return line << 32 | problem.column();
  };
  std::stable_sort(problems_.begin(), problems_.end(),
                   [&](const auto& a, const auto& b) { return place(a) < place(b); });
  if (left_out_ > 0) {
    farm::v1::Problem& more = problems_.emplace_back();
    more.set_file(file_);
    more.set_message("and " + std::to_string(left_out_) + " more; the first " + std::to_string(kMaxProblems) +
                     " are listed");
    more.set_warning(errors_ == 0);
  }
  return std::move(problems_);
}

bool Source::Read(std::string_view bytes, size_t max_bytes, ProblemList& problems, Source& source) {
  if (bytes.size() > max_bytes) {
    problems.Error({}, "",
                   "the file has " + std::to_string(bytes.size()) + " bytes; at most " + std::to_string(max_bytes) +
                       " are allowed");
    return false;
  }
  if (bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF")) {
    problems.Error({1, 1}, "", "the file is UTF-16; save it as UTF-8");
    return false;
  }
  if (bytes.starts_with("\xEF\xBB\xBF")) bytes.remove_prefix(3);

  size_t bad_places = 0;
  Mark mark{1, 1};
  source.text_.clear();
  source.text_.reserve(bytes.size());
  source.line_starts_.assign(1, 0);
  for (size_t i = 0; i < bytes.size() && bad_places < kMaxBadPlaces;) {
    const unsigned char byte = static_cast<unsigned char>(bytes[i]);
    if (byte == '\r' || byte == '\n') {
      i += bytes.substr(i, 2) == "\r\n" ? 2 : 1;
      source.text_.push_back('\n');
      source.line_starts_.push_back(source.text_.size());
      mark = {mark.line + 1, 1};
      continue;
    }
    const size_t length = Utf8Length(bytes.substr(i));
    if (length == 0) {
      char hex[8];
      std::snprintf(hex, sizeof hex, "0x%02X", byte);
      problems.Error(mark, "", std::string("byte ") + hex + " is not UTF-8; save the file as UTF-8");
      ++bad_places;
    } else if ((byte < 0x20 && byte != '\t') || byte == 0x7F) {
      char code[8];
      std::snprintf(code, sizeof code, "U+%04X", byte);
      problems.Error(mark, "", std::string("control character ") + code + "; remove it");
      ++bad_places;
    }
    source.text_.append(bytes.substr(i, std::max<size_t>(length, 1)));
    i += std::max<size_t>(length, 1);
    ++mark.column;
  }
  source.block_characters_.clear();
  for (size_t at = 0, characters = 0; at <= source.text_.size(); at += kBlockBytes) {
    source.block_characters_.push_back(characters);
    characters += CountCharacters(std::string_view(source.text_).substr(at, kBlockBytes));
  }
  return bad_places == 0;
}

size_t Source::CharactersBefore(size_t byte) const {
  const size_t block = byte / kBlockBytes;
  return block_characters_[block] +
         CountCharacters(std::string_view(text_).substr(block * kBlockBytes, byte % kBlockBytes));
}

size_t Source::ByteOfColumn(size_t line, size_t column) const {
  // Binary search: characters grow with bytes.
  const size_t start = line_starts_[line - 1];
  const size_t target = CharactersBefore(start) + column - 1;
  size_t low = start;
  size_t high = start + Line(line).size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (CharactersBefore(middle + 1) <= target) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low - start;
}

std::string_view Source::Line(size_t line) const {
  if (line == 0 || line > line_starts_.size()) return {};
  const size_t start = line_starts_[line - 1];
  const size_t end = line < line_starts_.size() ? line_starts_[line] - 1 : text_.size();
  return std::string_view(text_).substr(start, end - start);
}

Mark Source::MarkAt(size_t line, size_t byte_column) const {
  const std::string_view text = Line(line);
  const size_t inside = std::min(byte_column, text.size());
  const size_t start = line == 0 || line > line_starts_.size() ? text_.size() : line_starts_[line - 1];
  const size_t characters = CharactersBefore(start + inside) - CharactersBefore(start);
  return {static_cast<uint32_t>(line), static_cast<uint32_t>(characters + (byte_column - inside) + 1)};
}

Mark Source::Locate(Mark from, std::string_view needle, size_t max_lines) const {
  if (from.line == 0 || from.line > line_starts_.size()) return from;
  size_t start = ByteOfColumn(from.line, from.column);
  for (size_t line = from.line; line < from.line + max_lines && line <= line_starts_.size(); ++line) {
    const size_t found = Line(line).find(needle, start);
    if (found != std::string_view::npos) return MarkAt(line, found);
    start = 0;
  }
  return from;
}

}  // namespace storyfarm::story
