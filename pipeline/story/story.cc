#include "pipeline/story/story.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "pipeline/story/draft.h"
#include "pipeline/story/source.h"

namespace storyfarm::story {
namespace {

bool HasEnding(std::string_view file_name, std::string_view ending) {
  if (file_name.size() < ending.size()) return false;
  std::string tail(file_name.substr(file_name.size() - ending.size()));
  absl::AsciiStrToLower(&tail);
  return tail == ending;
}

}  // namespace

bool ParsedStory::ok() const {
  return std::all_of(problems.begin(), problems.end(), [](const auto& problem) { return problem.warning(); });
}

bool IsYamlName(std::string_view file_name) {
  return HasEnding(file_name, ".yaml") || HasEnding(file_name, ".yml") || HasEnding(file_name, ".json");
}

std::optional<Draft> ReadDraft(const Source& source, const std::string& file_name, ProblemList& problems) {
  if (!IsYamlName(file_name)) return ReadLineForm(source, problems);
  return ReadYamlForm(source, HasEnding(file_name, ".json"), problems);
}

ParsedStory ParseStory(std::string_view bytes, const std::string& file_name) {
  ParsedStory parsed;
  ProblemList problems(file_name);
  Source source;
  if (Source::Read(bytes, kMaxFileBytes, problems, source)) {
    const std::optional<Draft> draft = ReadDraft(source, file_name, problems);
    if (draft.has_value()) parsed.story = FinishStory(*draft, source, file_name, problems);
  }
  parsed.problems = problems.Take();
  return parsed;
}

std::string FormatProblem(const farm::v1::Problem& problem) {
  std::string text = problem.file();
  if (problem.line() != 0) absl::StrAppend(&text, ":", problem.line());
  if (problem.line() != 0 && problem.column() != 0) absl::StrAppend(&text, ":", problem.column());
  if (!text.empty()) text += ": ";
  if (problem.warning()) text += "warning: ";
  if (!problem.field().empty()) absl::StrAppend(&text, problem.field(), ": ");
  return text + problem.message();
}

}  // namespace storyfarm::story
