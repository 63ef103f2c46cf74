#include "coordinator/rpc/submit.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/rpc/status.h"
#include "pipeline/base/digest.h"
#include "pipeline/model/word_list.h"
#include "pipeline/plan/plan.h"
#include "pipeline/story/prompt_texts.h"
#include "pipeline/story/settings.h"
#include "pipeline/story/story.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::Problem;
using farm::v1::SubmitRequest;

constexpr char kSettingsName[] = "the submission's settings";  // for messages

// Each part with its length before it, so that no two requests read alike.
std::string RequestDigest(const SubmitRequest& request) {
  base::Sha256 hash;
  const auto part = [&hash](std::string_view bytes) {
    hash.Update(absl::StrCat(bytes.size(), ":"));
    hash.Update(bytes);
  };
  part(request.story());
  part(story::IsYamlName(request.file_name()) ? "yaml" : "lines");
  part(request.model());
  part(request.settings());
  for (const farm::v1::FontFile& font : request.fonts()) {
    part(font.file_name());
    part(font.blob().digest());
  }
  return hash.Finish().Bytes();
}

bool AnyError(const std::vector<Problem>& problems) {
  for (const Problem& problem : problems) {
    if (!problem.warning()) return true;
  }
  return false;
}

void MoveTo(std::vector<Problem>& to, std::vector<Problem> from) {
  for (Problem& problem : from) to.push_back(std::move(problem));
}

Problem ModelProblem(const std::string& file_name, std::string message) {
  Problem problem;
  problem.set_file(file_name);
  problem.set_field("model");
  problem.set_message(std::move(message));
  return problem;
}

absl::Status CheckFonts(const SubmitRequest& request, BlobStore& blobs) {
  if (request.fonts_size() > static_cast<int>(kFonts)) {
    return absl::InvalidArgumentError(
        absl::StrCat(request.fonts_size(), " fonts came with the story; at most ", kFonts, " may."));
  }
  for (const farm::v1::FontFile& font : request.fonts()) {
    const std::string& name = font.file_name();
    if (name.empty() || name.size() > 255 || name == "." || name == ".." || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is no file name for a font."));
    }
    const absl::Status there = CheckBlob(blobs, font.blob());
    if (absl::IsNotFound(there)) {
      return absl::FailedPreconditionError(
          absl::StrCat("The font ", name, " has not been uploaded. Upload it, then submit the story again."));
    }
    if (!there.ok()) return there;
  }
  return absl::OkStatus();
}

// Words of the prompts that the model was not taught, where its files say which it was.
absl::Status WarnOfUnknownWords(const SubmitRequest& request, const farm::v1::ModelManifest& model, BlobStore& blobs,
                                std::vector<Problem>& warnings) {
  const auto is_list = [](const farm::v1::ModelFile& file) { return file.path() == model::kWordsFile; };
  const auto file = std::find_if(model.files().begin(), model.files().end(), is_list);
  if (file == model.files().end()) return absl::OkStatus();
  const absl::StatusOr<base::FilePin> pin = blobs.Pin(file->blob().digest());
  if (!pin.ok()) return pin.status();
  const absl::StatusOr<std::string> bytes = blobs.env().ReadFile(pin->path(), model::kMaxWordsFileBytes);
  if (!bytes.ok()) return bytes.status();
  const absl::StatusOr<model::WordList> list = model::WordList::Parse(*bytes, model::kWordsFile);
  if (!list.ok()) return list.status();
  const story::PromptTexts texts(request.story(), request.file_name(), request.settings(), kSettingsName);
  const model::UnknownWords unknown = list->FindUnknown(texts.texts(), story::kMaxUnknownWords);
  for (const model::UnknownWord& word : unknown.words) {
    warnings.push_back(texts.UnknownWord(word.text, word.byte, word.byte_count, word.nearest));
  }
  if (unknown.left_out > 0) warnings.push_back(texts.MoreUnknownWords(unknown.left_out));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Submission> ReadSubmission(const SubmitRequest& request) {
  const size_t key_bytes = request.idempotency_key().size();
  if (key_bytes == 0 || key_bytes > kKeyBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("A submission needs an idempotency_key of 1 to ", kKeyBytes, " bytes; this one has ", key_bytes,
                     ". It is what keeps a submission that is sent twice from becoming two jobs."));
  }
  if (request.story().size() > story::kMaxFileBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("The story has ", request.story().size(), " bytes; at most ",
                                                     story::kMaxFileBytes, " (4 MiB) are taken. Divide it in two."));
  }
  Submission submission;
  submission.request_digest = RequestDigest(request);
  story::ParsedStory parsed = story::ParseStory(request.story(), request.file_name());
  story::ParsedSettings settings = story::ParseSettings(request.settings(), kSettingsName, parsed.story.settings());
  MoveTo(submission.warnings, std::move(parsed.problems));
  MoveTo(submission.warnings, std::move(settings.problems));
  submission.model = request.model().empty() ? parsed.story.model() : request.model();
  if (submission.model.empty()) {
    submission.warnings.push_back(
        ModelProblem(request.file_name(),
                     "neither the story nor the submission names a model; write \"model: NAME\" at "
                     "the top of a YAML story, or submit with --model NAME"));
  }
  if (AnyError(submission.warnings)) return BadStory(submission.warnings);
  submission.story = std::move(parsed.story);
  *submission.story.mutable_settings() = std::move(settings.settings);
  submission.story.set_model(submission.model);
  submission.fonts.assign(request.fonts().begin(), request.fonts().end());
  return submission;
}

absl::StatusOr<farm::v1::JobSpec> PlanSubmission(const SubmitRequest& request, const farm::v1::ModelManifest& model,
                                                 const plan::NamedPacks& packs, BlobStore& blobs,
                                                 Submission& submission) {
  plan::Expansion expansion = plan::ExpandStory(submission.story, model, packs);
  for (Problem& problem : expansion.problems) {
    if (problem.file().empty()) problem.set_file(request.file_name());
  }
  const bool ok = expansion.ok();
  MoveTo(submission.warnings, std::move(expansion.problems));
  if (!ok) return BadStory(submission.warnings);
  if (absl::Status status = CheckFonts(request, blobs); !status.ok()) return status;
  if (absl::Status status = WarnOfUnknownWords(request, model, blobs, submission.warnings); !status.ok()) return status;
  farm::v1::JobSpec job = std::move(expansion.job);
  plan::AddTextTasks(&job);
  job.set_idempotency_key(request.idempotency_key());
  job.set_priority(request.priority());
  job.set_request_digest(submission.request_digest);
  for (const farm::v1::FontFile& font : submission.fonts) *job.add_fonts() = font;
  for (const Problem& warning : submission.warnings) job.add_warnings(story::FormatProblem(warning));
  return job;
}

absl::Status UnknownModel(const std::string& file_name, const std::string& model,
                          const std::vector<std::string>& known) {
  const std::string has = known.empty() ? "it knows none yet" : absl::StrCat("it knows ", absl::StrJoin(known, ", "));
  return BadStory({ModelProblem(file_name, absl::StrCat("the farm knows no model named \"", model, "\"; ", has,
                                                        ". Add one with: storyctl models add NAME FOLDER"))});
}

std::string JobIdFrom(uint64_t random_bits) {
  static constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  std::string id = "j-";
  for (int i = 0; i < 10; ++i) {  // 36^10 is 3.7e15, well below 2^64: every id is as likely as any other
    id += kDigits[random_bits % 36];
    random_bits /= 36;
  }
  return id;
}

absl::Status CheckBlob(BlobStore& blobs, const farm::v1::BlobRef& blob) {
  const absl::StatusOr<std::vector<farm::v1::BlobRef>> missing = blobs.FindMissing({blob});
  if (!missing.ok()) return missing.status();
  return missing->empty() ? absl::OkStatus() : absl::NotFoundError("The blob has not been uploaded.");
}

}  // namespace storyfarm::coordinator
