#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/transfer.h"
#include "pipeline/story/settings.h"
#include "pipeline/story/story.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/fonts.h"
#include "tools/storyctl/inputs.h"
#include "tools/storyctl/json.h"
#include "tools/storyctl/problems.h"

namespace storyfarm::storyctl {
namespace {

constexpr int kSubmitTries = 5;  // with one key they make one job

absl::Status UploadFonts(const Context& context, FarmClient& farm, const farm::v1::Story& story,
                         farm::v1::SubmitRequest* request) {
  const auto choice = FontsFor(context, story);
  if (!choice.ok()) return choice.status();
  std::vector<farm::v1::BlobRef> refs;
  for (const std::string& path : choice->files) {
    const auto hashed = base::HashFile(context.env, path);
    if (!hashed.ok()) return hashed.status();
    refs.push_back(base::MakeBlobRef(hashed->digest, hashed->size_bytes));
    farm::v1::FontFile* font = request->add_fonts();
    font->set_file_name(base::FileNameOf(path));
    *font->mutable_blob() = refs.back();
  }
  const auto missing = FindMissingAt(farm, refs);
  if (!missing.ok()) return missing.status();
  for (const farm::v1::BlobRef& blob : *missing) {
    const auto same = [&](const farm::v1::BlobRef& ref) { return ref.digest() == blob.digest(); };
    const auto at = std::find_if(refs.begin(), refs.end(), same) - refs.begin();
    const std::string& path = choice->files[static_cast<size_t>(at)];
    const absl::Status sent = base::UploadFile(farm.blobs(), context.env, path, blob, UploadId(path));
    if (!sent.ok()) return sent;
  }
  return absl::OkStatus();
}

// Sent again while the coordinator is away for a moment: the key makes sure that it stays one job.
absl::StatusOr<farm::v1::SubmitResponse> Send(FarmClient& farm, const farm::v1::SubmitRequest& request) {
  absl::StatusOr<farm::v1::SubmitResponse> response;
  for (int attempt = 0; attempt < kSubmitTries; ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    response = farm.Call(&farm::v1::ClientService::StubInterface::Submit, request);
    if (!absl::IsUnavailable(response.status()) && !absl::IsDeadlineExceeded(response.status())) break;
  }
  return response;
}

}  // namespace

Outcome Submit(const Context& context, const SubmitOptions& options) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  const auto inputs = ReadStoryInputs(context, options.story, options.settings);
  if (!inputs.ok()) return inputs.status();
  if (!inputs->ok()) return ReportProblems(context, *inputs, inputs->problems);
  PrintProblems(context.console, inputs->problems, inputs->story_bytes, inputs->story_name);

  FarmClient farm(*target);
  farm::v1::SubmitRequest request;
  request.set_idempotency_key(options.key.empty() ? absl::BytesToHexString(context.env.RandomBytes(16)) : options.key);
  request.set_story(inputs->story_bytes);
  request.set_file_name(inputs->story_name);
  request.set_model(options.model);
  request.set_priority(options.priority);
  request.set_settings(inputs->settings_bytes);
  if (absl::Status fonts = UploadFonts(context, farm, inputs->story, &request); !fonts.ok()) return fonts;

  const auto response = Send(farm, request);
  if (!response.ok()) {
    const std::vector<farm::v1::Problem> problems = ProblemsOf(response.status());
    if (!problems.empty()) return ReportProblems(context, *inputs, problems);
    if (absl::IsUnavailable(response.status()) || absl::IsDeadlineExceeded(response.status())) {
      context.console.Note(absl::StrCat("the story may have been accepted: submit it again with --key ",
                                        request.idempotency_key(), ", which never makes a second job"));
    }
    return response.status();
  }
  std::vector<farm::v1::Problem> warnings;
  for (const farm::v1::Problem& warning : response->warnings()) {
    const auto known = [&](const farm::v1::Problem& p) {
      return p.message() == warning.message() && p.line() == warning.line();
    };
    if (std::none_of(inputs->problems.begin(), inputs->problems.end(), known)) warnings.push_back(warning);
  }
  PrintProblems(context.console, warnings, inputs->story_bytes, inputs->story_name);

  if (context.json) {
    context.console.out() << Print({{"job_id", response->job_id()},
                                    {"idempotency_key", request.idempotency_key()},
                                    {"existed", response->existed()}},
                                   options.wait)
                          << std::endl;
  } else {
    context.console.out() << response->job_id() << std::endl;
    context.console.Note(absl::StrCat(
        response->existed() ? "known since an earlier submission, key " : "accepted, key ", request.idempotency_key()));
  }
  if (!options.wait) return ExitCode::kOk;
  return Watch(context, {response->job_id()});
}

}  // namespace storyfarm::storyctl
