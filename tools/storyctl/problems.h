// What is wrong with a person's input, shown as compilers do: where, what, and the line itself.
#ifndef STORYFARM_TOOLS_STORYCTL_PROBLEMS_H_
#define STORYFARM_TOOLS_STORYCTL_PROBLEMS_H_

#include <string>
#include <vector>

#include "farm/v1/problem.pb.h"
#include "tools/storyctl/console.h"

namespace storyfarm::storyctl {

// Prints each problem to stderr; on a terminal with its line of `source` and a caret below the column. `source` is the
// text of the file named `file_name`; problems of other files are shown without a line.
void PrintProblems(const Console& console, const std::vector<farm::v1::Problem>& problems, const std::string& source,
                   const std::string& file_name);

// How many of them are errors, and whether there is none.
int CountErrors(const std::vector<farm::v1::Problem>& problems);

// The excerpt of one problem: the line and, below it, a caret under the column; empty where it has no line.
std::string Excerpt(const farm::v1::Problem& problem, const std::string& source);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_PROBLEMS_H_
