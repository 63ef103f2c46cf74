// What the tests of this folder say about problems.
#ifndef STORYFARM_TESTS_PIPELINE_STORY_PROBLEMS_H_
#define STORYFARM_TESTS_PIPELINE_STORY_PROBLEMS_H_

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "farm/v1/problem.pb.h"
#include "pipeline/story/story.h"

namespace storyfarm::story {

// Every problem as FormatProblem prints it, one a line: what a failing test shows.
inline std::string Printed(const std::vector<farm::v1::Problem>& problems) {
  std::string text;
  for (const auto& problem : problems) text += FormatProblem(problem) + "\n";
  return text;
}

// A problem (error or warning) at a place, whose message has these words in it.
MATCHER_P3(ProblemAt, line, column, words, "") {
  *result_listener << FormatProblem(arg);
  return static_cast<int>(arg.line()) == line && static_cast<int>(arg.column()) == column &&
         arg.message().find(words) != std::string::npos;
}

}  // namespace storyfarm::story

#endif  // STORYFARM_TESTS_PIPELINE_STORY_PROBLEMS_H_
