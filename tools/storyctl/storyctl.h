// storyctl: what a person has of the farm. Submits stories, watches jobs, fetches pages, adds models; and renders
// without any farm.
//
//   arguments --storyctl.cc--> Context + one command (commands.h)
//        submit, jobs, status, watch, fetch, cancel, nodes, models, backup --farm_client.h--> coordinator
//        render --> pipeline/story, pipeline/plan --local_job.h--> storyfarm-engine, a child process
//
// Results go to stdout, as JSON with --json; progress and problems to stderr; exit_code.h says how it went.
#ifndef STORYFARM_TOOLS_STORYCTL_STORYCTL_H_
#define STORYFARM_TOOLS_STORYCTL_STORYCTL_H_

#include <string>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/base/places.h"
#include "tools/storyctl/console.h"

namespace storyfarm::storyctl {

// Runs one command line, without the program's name, and returns the process's exit code.
int Run(const std::vector<std::string>& arguments, const Console& console, base::Env& env,
        const base::Variables& variables);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_STORYCTL_H_
