#include "tools/storyctl/inputs.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/transfer.h"
#include "pipeline/story/settings.h"
#include "pipeline/story/story.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"
#include "tools/storyctl/problems.h"

namespace storyfarm::storyctl {
namespace {

// A file that is larger than any story is a wrong file, not a lack of room.
absl::Status AsFileInput(const absl::Status& status) {
  return absl::IsResourceExhausted(status) ? absl::InvalidArgumentError(status.message()) : AsInput(status);
}

}  // namespace

bool StoryInputs::ok() const { return CountErrors(problems) == 0; }

absl::StatusOr<StoryInputs> ReadStoryInputs(const Context& context, const std::string& story_path,
                                            const std::string& settings_path) {
  StoryInputs inputs;
  inputs.story_name = base::FileNameOf(story_path);
  auto story_bytes = context.env.ReadFile(story_path, story::kMaxFileBytes);
  if (!story_bytes.ok()) return AsFileInput(story_bytes.status());
  inputs.story_bytes = *std::move(story_bytes);
  story::ParsedStory parsed = story::ParseStory(inputs.story_bytes, inputs.story_name);
  inputs.story = std::move(parsed.story);
  inputs.problems = std::move(parsed.problems);
  if (settings_path.empty()) return inputs;

  inputs.settings_name = base::FileNameOf(settings_path);
  auto settings_bytes = context.env.ReadFile(settings_path, story::kMaxSettingsBytes);
  if (!settings_bytes.ok()) return AsFileInput(settings_bytes.status());
  inputs.settings_bytes = *std::move(settings_bytes);
  story::ParsedSettings settings =
      story::ParseSettings(inputs.settings_bytes, inputs.settings_name, inputs.story.settings());
  *inputs.story.mutable_settings() = std::move(settings.settings);
  inputs.problems.insert(inputs.problems.end(), settings.problems.begin(), settings.problems.end());
  return inputs;
}

Outcome ReportProblems(const Context& context, const StoryInputs& inputs,
                       const std::vector<farm::v1::Problem>& problems) {
  std::vector<farm::v1::Problem> of_story;
  std::vector<farm::v1::Problem> of_settings;
  for (const farm::v1::Problem& problem : problems) {
    const bool settings = !inputs.settings_name.empty() && problem.file() == inputs.settings_name;
    (settings ? of_settings : of_story).push_back(problem);
  }
  PrintProblems(context.console, of_story, inputs.story_bytes, inputs.story_name);
  PrintProblems(context.console, of_settings, inputs.settings_bytes, inputs.settings_name);
  const int errors = CountErrors(problems);
  context.console.Error(absl::StrCat(errors, errors == 1 ? " error in " : " errors in ", inputs.story_name,
                                     of_settings.empty() ? "" : absl::StrCat(" and ", inputs.settings_name)));
  if (context.json) context.console.out() << Print({{"problems", ToJson(problems)}}) << std::endl;
  return ExitCode::kBadInput;
}

absl::Status AsInput(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnimplemented:
      return absl::InvalidArgumentError(status.message());
    default:
      return status;
  }
}

std::string UploadId(const std::string& path) {
  char host[256] = "";
  // Without a name the path alone does: at worst two machines cannot upload one file at once.
  if (gethostname(host, sizeof(host) - 1) != 0) host[0] = '\0';
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(path, error).string();
  return base::Digest::Of(absl::StrCat(host, "\n", absolute)).Hex().substr(0, 32);
}

absl::StatusOr<std::vector<farm::v1::BlobRef>> FindMissingAt(FarmClient& farm,
                                                             const std::vector<farm::v1::BlobRef>& blobs) {
  base::TransferOptions once;
  once.max_attempts = 1;
  auto missing = base::FindMissing(farm.blobs(), blobs, once);
  if (absl::IsUnavailable(missing.status())) {
    return farm.Explain(grpc::Status(grpc::StatusCode::UNAVAILABLE, std::string(missing.status().message())));
  }
  return missing;
}

}  // namespace storyfarm::storyctl
