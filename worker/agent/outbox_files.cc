#include "worker/agent/outbox_files.h"

#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "pipeline/plan/names.h"
#include "worker/core/session.h"

namespace storyfarm::worker {
namespace {

constexpr char kSuffix[] = ".result";
constexpr uint64_t kMaxResultBytes = uint64_t{4} << 20;  // an identity's bank names 1,000 steps, 50 bytes each

}  // namespace

std::string OutboxFiles::PathOf(const farm::v1::FencingToken& token, const farm::v1::TaskId& task) const {
  const std::string name =
      absl::StrCat(plan::TokenName(token), "-", absl::StrReplaceAll(plan::TaskName(task), {{"/", "-"}}), kSuffix);
  return base::JoinPath(folder_, name);
}

absl::StatusOr<std::vector<farm::v1::Result>> OutboxFiles::Load() {
  if (absl::Status made = env_->CreateFolders(folder_); !made.ok()) return made;
  absl::StatusOr<std::vector<std::string>> names = env_->List(folder_);
  if (!names.ok()) return names.status();
  std::vector<farm::v1::Result> results;
  for (const std::string& name : *names) {
    if (!absl::EndsWith(name, kSuffix)) continue;
    const std::string path = base::JoinPath(folder_, name);
    absl::StatusOr<std::string> bytes = env_->ReadFile(path, kMaxResultBytes);
    farm::v1::Result result;
    if (bytes.ok() && result.ParseFromString(*bytes) && PathOf(result.token(), result.task()) == path) {
      results.push_back(std::move(result));
      continue;
    }
    log_->Warning(
        "a result in the outbox is damaged and set aside; its task will be given out again",
        {{"file", path}, {"why", bytes.ok() ? std::string("it is no result") : std::string(bytes.status().message())}});
    if (absl::Status moved = env_->Rename(path, path + ".damaged"); !moved.ok()) return moved;
  }
  return results;
}

absl::Status OutboxFiles::Write(const farm::v1::Result& result) {
  return env_->WriteFileDurably(PathOf(result.token(), result.task()), result.SerializeAsString());
}

absl::Status OutboxFiles::Remove(const farm::v1::FencingToken& token, const farm::v1::TaskId& task) {
  const absl::Status removed = env_->Remove(PathOf(token, task));
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

}  // namespace storyfarm::worker
