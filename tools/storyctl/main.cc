#include <csignal>
#include <string>
#include <vector>

#include "tools/storyctl/storyctl.h"

int main(int argc, char** argv) {
  // A reader that closed our stdout (head, less) is told by the write, not by a signal that would leave an engine
  // behind.
  std::signal(SIGPIPE, SIG_IGN);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return storyfarm::storyctl::Run(arguments, storyfarm::storyctl::Console::OfProcess(), storyfarm::base::Env::Real(),
                                  storyfarm::base::ProcessVariables());
}
