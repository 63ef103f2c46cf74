#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/file_store.h"
#include "pipeline/base/transfer.h"
#include "pipeline/model/model_folder.h"
#include "pipeline/plan/names.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/inputs.h"
#include "tools/storyctl/json.h"

namespace storyfarm::storyctl {
namespace {

using Client = farm::v1::ClientService::StubInterface;

// Brings outputs into a folder. Each file appears under its name when it is whole; what is already there stays.
class Fetcher {
 public:
  static absl::StatusOr<std::unique_ptr<Fetcher>> Open(const Context& context, FarmClient& farm,
                                                       const std::string& out) {
    if (absl::Status made = context.env.CreateFolders(out); !made.ok()) return AsInput(made);
    auto lock = context.env.LockFile(base::JoinPath(out, kLockName));
    if (absl::IsAlreadyExists(lock.status())) {
      return absl::FailedPreconditionError(absl::StrCat("another storyctl fetches into ", out));
    }
    if (!lock.ok()) return AsInput(lock.status());
    auto store = base::FileStore::Open(context.env, base::JoinPath(out, kPartsName));
    if (!store.ok()) return store.status();
    return std::unique_ptr<Fetcher>(new Fetcher(context, farm, out, *std::move(lock), *std::move(store)));
  }

  absl::Status Fetch(const farm::v1::Output& output) {
    if (!model::IsModelPath(output.path())) {
      return absl::DataLossError(absl::StrCat("the farm names an output '", output.path(),
                                              "' that would lie outside the folder; nothing was written there"));
    }
    const auto digest = base::Digest::FromBytes(output.blob().digest());
    if (!digest.ok()) return digest.status();
    const std::string path = base::JoinPath(out_, output.path());
    const auto there = base::HashFile(context_.env, path);
    if (there.ok() && there->digest == *digest) {
      ++kept_;
      return absl::OkStatus();
    }
    if (absl::Status made = context_.env.CreateFolders(base::FolderOf(path)); !made.ok()) return made;
    auto pin = base::DownloadTo(farm_.blobs(), *store_, output.blob());
    if (!pin.ok()) return pin.status();
    if (absl::Status moved = context_.env.Rename(pin->path(), path); !moved.ok()) return moved;
    ++fetched_;
    return absl::OkStatus();
  }

  // Nothing is left to be resumed.
  absl::Status Close() {
    store_.reset();
    if (absl::Status parts = context_.env.RemoveTree(base::JoinPath(out_, kPartsName)); !parts.ok()) return parts;
    return context_.env.Remove(base::JoinPath(out_, kLockName));
  }

  int fetched() const { return fetched_; }
  int kept() const { return kept_; }

 private:
  static constexpr char kLockName[] = ".fetch.lock";
  static constexpr char kPartsName[] = ".fetch";

  Fetcher(const Context& context, FarmClient& farm, std::string out, std::unique_ptr<base::FileLock> lock,
          std::unique_ptr<base::FileStore> store)
      : context_(context), farm_(farm), out_(std::move(out)), lock_(std::move(lock)), store_(std::move(store)) {}

  const Context& context_;
  FarmClient& farm_;
  const std::string out_;
  std::unique_ptr<base::FileLock> lock_;
  std::unique_ptr<base::FileStore> store_;
  int fetched_ = 0;
  int kept_ = 0;
};

// Tasks whose outputs are not there, in words.
std::vector<std::string> Missing(const farm::v1::JobStatus& job) {
  std::vector<std::string> missing;
  for (const farm::v1::TaskStatus& task : job.tasks()) {
    const bool has_outputs =
        task.task().kind() == farm::v1::TASK_FRAME || task.task().kind() == farm::v1::TASK_PAGE;
    if (task.state() == farm::v1::TASK_DONE || !has_outputs) continue;
    std::string line = absl::StrCat(plan::TaskName(task.task()), ": ", plan::StateName(task.state()));
    if (!task.message().empty()) absl::StrAppend(&line, ", ", task.message());
    missing.push_back(std::move(line));
  }
  return missing;
}

void Report(const Context& context, const FetchOptions& options, const Fetcher& fetcher, const farm::v1::JobStatus& job,
            const std::vector<std::string>& missing) {
  if (context.json) {
    context.console.out() << Print({{"job_id", options.job},
                                    {"state", plan::StateName(job.state())},
                                    {"out", options.out},
                                    {"fetched", fetcher.fetched()},
                                    {"kept", fetcher.kept()},
                                    {"missing", missing}})
                          << std::endl;
    return;
  }
  context.console.out() << options.out << ": " << fetcher.fetched() << " files fetched";
  if (fetcher.kept() > 0) context.console.out() << ", " << fetcher.kept() << " were there";
  context.console.out() << std::endl;
  for (const std::string& line : missing) context.console.Warning(absl::StrCat("missing: ", line));
}

}  // namespace

Outcome Fetch(const Context& context, const FetchOptions& options) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::GetJobRequest get;
  get.set_job_id(options.job);
  get.set_with_tasks(true);
  const auto job = farm.Call(&Client::GetJob, get);
  if (!job.ok()) return job.status();
  farm::v1::ListOutputsRequest list;
  list.set_job_id(options.job);
  const auto outputs = farm.Call(&Client::ListOutputs, list);
  if (!outputs.ok()) return outputs.status();

  auto fetcher = Fetcher::Open(context, farm, options.out);
  if (!fetcher.ok()) return fetcher.status();
  LiveLines lines(context.console);
  int done = 0;
  for (const farm::v1::Output& output : outputs->outputs()) {
    lines.Show(
        {absl::StrCat("fetching ", Bar(static_cast<uint64_t>(done), static_cast<uint64_t>(outputs->outputs_size()), 24),
                      " ", output.path())});
    ++done;
    if (!options.latents && absl::StartsWith(output.path(), "latents/")) continue;
    if (absl::Status fetched = (*fetcher)->Fetch(output); !fetched.ok()) {
      lines.Clear();
      return fetched;
    }
  }
  lines.Clear();
  if (absl::Status written =
          context.env.WriteFileDurably(base::JoinPath(options.out, "metadata.json"), outputs->metadata_json());
      !written.ok()) {
    return written;
  }
  const std::vector<std::string> missing = Missing(*job);
  if (absl::Status closed = (*fetcher)->Close(); !closed.ok()) return closed;
  Report(context, options, **fetcher, *job, missing);
  return missing.empty() ? ExitCode::kOk : ExitCode::kFailed;
}

}  // namespace storyfarm::storyctl
