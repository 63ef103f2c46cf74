// An input file as text with places: what messages point at.
#ifndef STORYFARM_PIPELINE_STORY_SOURCE_H_
#define STORYFARM_PIPELINE_STORY_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "farm/v1/problem.pb.h"
#include "pipeline/story/story.h"

namespace storyfarm::story {

// A place in a file, both from 1; a column counts characters, not bytes. Line 0: no place.
struct Mark {
  uint32_t line = 0;
  uint32_t column = 0;
};

// Collects problems of one file. Beyond kMaxProblems it only counts.
class ProblemList {
 public:
  explicit ProblemList(std::string file) : file_(std::move(file)) {}

  void Error(Mark mark, std::string_view field, std::string message);
  void Warning(Mark mark, std::string_view field, std::string message);
  // Another problem would only be counted: no need to work out what it says.
  bool full() const { return problems_.size() >= kMaxProblems; }

  // Everything, in the order of the file; what has no place comes last.
  std::vector<farm::v1::Problem> Take();

 private:
  void Add(Mark mark, std::string_view field, std::string message, bool warning);

  std::string file_;
  std::vector<farm::v1::Problem> problems_;
  size_t errors_ = 0;
  size_t left_out_ = 0;
};

// A file's text: a byte order mark dropped, line ends of all three kinds turned into '\n'.
class Source {
 public:
  // False where the bytes are no text: not UTF-8 (each bad place is a problem), or with control characters.
  static bool Read(std::string_view bytes, size_t max_bytes, ProblemList& problems, Source& source);

  const std::string& text() const { return text_; }
  size_t line_count() const { return line_starts_.size(); }
  std::string_view Line(size_t line) const;  // from 1, without its end; empty where there is no such line

  // The mark of a byte of a line. Bytes past the line's end count as one character each.
  Mark MarkAt(size_t line, size_t byte_column) const;

  // Where `needle` stands at or after `from` within the next `max_lines` lines; `from` itself where it does not.
  Mark Locate(Mark from, std::string_view needle, size_t max_lines) const;

 private:
  // Characters of text_ before a byte: a file may be one line of 4 MiB, and every value in it asks for its column.
  size_t CharactersBefore(size_t byte) const;
  // The byte of a line where a column (from 1) starts.
  size_t ByteOfColumn(size_t line, size_t column) const;

  std::string text_;
  std::vector<size_t> line_starts_;
  std::vector<size_t> block_characters_;  // CharactersBefore of every kBlockBytes-th byte
};

}  // namespace storyfarm::story

#endif  // STORYFARM_PIPELINE_STORY_SOURCE_H_
