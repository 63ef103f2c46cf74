// Why a task waits, or went where it went, as text.
#ifndef STORYFARM_TOOLS_STORYCTL_EXPLANATION_H_
#define STORYFARM_TOOLS_STORYCTL_EXPLANATION_H_

#include <string>

#include "farm/v1/client.pb.h"

namespace storyfarm::storyctl {

// Sentences, then a table of the devices that were compared; lines that end with a newline.
std::string ExplanationText(const farm::v1::Explanation& explanation);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_EXPLANATION_H_
