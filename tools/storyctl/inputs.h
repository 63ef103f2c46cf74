// What a person hands to submit and render: a story, perhaps settings; read and checked before anything else happens.
#ifndef STORYFARM_TOOLS_STORYCTL_INPUTS_H_
#define STORYFARM_TOOLS_STORYCTL_INPUTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "farm/v1/blob.pb.h"
#include "farm/v1/problem.pb.h"
#include "farm/v1/story.pb.h"
#include "tools/storyctl/commands.h"

namespace storyfarm::storyctl {

class FarmClient;

struct StoryInputs {
  std::string story_name;  // the file's name, for messages
  std::string story_bytes;
  std::string settings_name;
  std::string settings_bytes;
  farm::v1::Story story;                    // with the settings file's keys put over its own
  std::vector<farm::v1::Problem> problems;  // of both files

  bool ok() const;  // no problem but warnings
};

// NOT_FOUND and so on where a file cannot be read; what is wrong within them is in `problems`.
absl::StatusOr<StoryInputs> ReadStoryInputs(const Context& context, const std::string& story_path,
                                            const std::string& settings_path);

// Prints problems, as JSON too where asked for, and returns kBadInput.
Outcome ReportProblems(const Context& context, const StoryInputs& inputs,
                       const std::vector<farm::v1::Problem>& problems);

// The same message as bad input: what a person's own files lack is no "not found" of the farm's.
absl::Status AsInput(const absl::Status& status);

// Names this machine's upload of a file, so that a broken-off one is resumed: 32 of [0-9a-f].
std::string UploadId(const std::string& path);

// Which blobs the farm lacks: asked once, so that an absent coordinator is told at once.
absl::StatusOr<std::vector<farm::v1::BlobRef>> FindMissingAt(FarmClient& farm,
                                                             const std::vector<farm::v1::BlobRef>& blobs);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_INPUTS_H_
