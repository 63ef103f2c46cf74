// A job's status as lines for a person. Pure.
#ifndef STORYFARM_TOOLS_STORYCTL_PROGRESS_H_
#define STORYFARM_TOOLS_STORYCTL_PROGRESS_H_

#include <string>
#include <vector>

#include "farm/v1/job.pb.h"

namespace storyfarm::storyctl {

// One line: "running, 5 of 12 panels, 1 of 4 pages, 2 at work, 7.5 a minute, 55 s left".
std::string Summary(const farm::v1::JobStatus& status);

// Title, a bar for each chapter, the summary and what is waited for, none wider than `columns`.
std::vector<std::string> ProgressLines(const farm::v1::JobStatus& status, int columns);

// "out of memory", "engine aborted", ... and reasons why groups wait, one a line, each once.
std::vector<std::string> WaitingLines(const farm::v1::JobStatus& status);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_PROGRESS_H_
