// Where the running program lies: what is shipped beside it (the engine, Redis, fonts) is found from there.
#ifndef STORYFARM_PIPELINE_BASE_PROGRAM_FOLDER_H_
#define STORYFARM_PIPELINE_BASE_PROGRAM_FOLDER_H_

#include <string>
#include <string_view>

namespace storyfarm::base {

// The folder of this process's program, links resolved; empty where the system does not tell.
std::string ProgramFolder();

// A program of this name in that folder; empty where there is none that this process may run.
std::string ProgramBeside(std::string_view name);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_PROGRAM_FOLDER_H_
