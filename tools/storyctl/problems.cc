#include "tools/storyctl/problems.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "pipeline/story/story.h"

namespace storyfarm::storyctl {
namespace {

// Longer lines are shown without an excerpt: the caret would be lost among wrapped rows.
constexpr size_t kMaxExcerptBytes = 200;

// Line `number` (from 1) of a text, without its end.
std::string LineOf(const std::string& source, uint32_t number) {
  size_t begin = 0;
  for (uint32_t line = 1; line < number; ++line) {
    begin = source.find('\n', begin);
    if (begin == std::string::npos) return "";
    ++begin;
  }
  std::string line = source.substr(begin, source.find('\n', begin) - begin);
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return line;
}

// What stands before column `column` (in characters, from 1), as white space of the same width: tabs stay tabs.
std::string Indent(const std::string& line, uint32_t column) {
  std::string indent;
  uint32_t at = 1;
  for (const char c : line) {
    if ((static_cast<unsigned char>(c) & 0xC0) == 0x80) continue;
    if (at++ >= column) break;
    indent += c == '\t' ? '\t' : ' ';
  }
  return indent;
}

}  // namespace

std::string Excerpt(const farm::v1::Problem& problem, const std::string& source) {
  if (problem.line() == 0) return "";
  const std::string line = LineOf(source, problem.line());
  if (line.empty() || line.size() > kMaxExcerptBytes) return "";
  const std::string number = absl::StrCat(problem.line());
  std::string excerpt = absl::StrCat("  ", number, " | ", line, "\n");
  if (problem.column() > 0) {
    absl::StrAppend(&excerpt, "  ", std::string(number.size(), ' '), " | ", Indent(line, problem.column()), "^\n");
  }
  return excerpt;
}

void PrintProblems(const Console& console, const std::vector<farm::v1::Problem>& problems, const std::string& source,
                   const std::string& file_name) {
  for (const farm::v1::Problem& problem : problems) {
    farm::v1::Problem named = problem;
    if (named.file().empty()) named.set_file(file_name);
    const Colour colour = problem.warning() ? Colour::kYellow : Colour::kRed;
    console.err() << console.Paint(colour, story::FormatProblem(named)) << "\n";
    if (console.live() && named.file() == file_name) console.err() << Excerpt(problem, source);
  }
  console.err() << std::flush;
}

int CountErrors(const std::vector<farm::v1::Problem>& problems) {
  return static_cast<int>(
      std::count_if(problems.begin(), problems.end(), [](const farm::v1::Problem& p) { return !p.warning(); }));
}

}  // namespace storyfarm::storyctl
