#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/join_client.h"
#include "pipeline/base/places.h"
#include "pipeline/plan/names.h"
#include "worker/agent/agent_state.h"
#include "worker/agent/inputs.h"

// Each action is handed to the thread that may block on it.
namespace storyfarm::worker {
namespace {

// A step that no peer gives lies at the coordinator as soon as its writer has uploaded it: a minute is long for that.
constexpr int kStepTries = 240;
constexpr auto kStepPause = std::chrono::milliseconds(250);
constexpr int kUploadAttempts = 3;  // the session tries again by itself

}  // namespace

std::string OutboxOwner(const farm::v1::FencingToken& token, const farm::v1::TaskId& task) {
  return absl::StrCat("outbox/", plan::TokenName(token), "/", plan::TaskName(task));
}

void Agent::State::Step(int64_t now_ms, Event event) {
  Do(session->Step(now_ms, std::move(event)));
  if (awake.has_value()) awake->Tell(session->leased());
}

void Agent::State::Do(Actions actions) {
  for (Action& action : actions) {
    std::visit([this](auto& item) { Take(item); }, action);
  }
}

void Agent::State::Take(Prepare& action) {
  const auto cancel = std::make_shared<base::TransferCancel>();
  {
    const std::lock_guard<std::mutex> lock(mutex);
    preparing[KeyOf(action.token)] = cancel;
  }
  downloads.Post([this, cancel, token = action.token, work = std::move(action.work), peers = std::move(action.peers)] {
    absl::StatusOr<GroupInputs> inputs =
        FetchInputs(*sources, *cache, base::JoinPath(folder.path, "models"), work, peers, cancel.get());
    if (!inputs.ok()) {
      if (!cancel->cancelled())
        events.Push(PrepareFailed{token, FailureOf(inputs.status(), farm::v1::BLOB_UNAVAILABLE)});
      return;
    }
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (preparing.count(KeyOf(token)) == 0) return;  // released meanwhile
      for (base::FilePin& pin : inputs->pins) pins.Add(plan::TokenName(token), std::move(pin));
      prepared[KeyOf(token)] = {std::move(inputs->model_folder), std::move(inputs->files)};
    }
    const FetchedBytes& fetched = inputs->fetched;
    if (fetched.from_peers + fetched.from_coordinator > 0) {
      parts.log->Info("fetched", {{"token", plan::TokenName(token)},
                                  {"from_peers_bytes", fetched.from_peers},
                                  {"from_coordinator_bytes", fetched.from_coordinator}});
    }
    events.Push(Prepared{token});
  });
}

void Agent::State::Take(Follow& action) {
  std::shared_ptr<base::TransferCancel> cancel;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = preparing.find(KeyOf(action.token));
    if (found == preparing.end()) return;
    cancel = found->second;
  }
  follows.Post([this, cancel, action = std::move(action)] {
    farm::v1::BankStepHere here;
    here.set_character(action.character);
    here.set_step(action.step);
    absl::StatusOr<base::FilePin> pin;
    FetchedBytes fetched;
    for (int tries = 0; !action.blob.digest().empty() && tries < kStepTries && !cancel->cancelled(); ++tries) {
      pin = sources->Fetch(action.blob, {action.writer}, cancel.get(), &fetched);
      if (!absl::IsNotFound(pin.status())) break;
      std::this_thread::sleep_for(kStepPause);
    }
    if (cancel->cancelled()) return;
    if (!action.blob.digest().empty()) {
      if (!pin.ok()) {
        return events.Push(FollowFailed{action.token, FailureOf(pin.status(), farm::v1::BLOB_UNAVAILABLE)});
      }
      here.set_path(pin->path());
    }
    const std::lock_guard<std::mutex> lock(mutex);
    if (preparing.count(KeyOf(action.token)) == 0) return;  // released meanwhile
    if (pin.ok()) pins.Add(plan::TokenName(action.token), *std::move(pin));
    Following& group = following[KeyOf(action.token)];
    group.steps.push_back(here);
    if (group.run != 0) engines[group.device]->TellBankStep(group.run, std::move(here));
  });
}

void Agent::State::Take(Release& action) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    following.erase(KeyOf(action.token));
    const auto found = preparing.find(KeyOf(action.token));
    if (found != preparing.end()) {
      found->second->Cancel();
      preparing.erase(found);
    }
    prepared.erase(KeyOf(action.token));
  }
  disk.Post([this, token = action.token] { pins.Drop(plan::TokenName(token)); });
}

void Agent::State::Take(StartRun& action) {
  farm::v1::RunRequest request;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    const auto& [model_folder, files] = prepared.at(KeyOf(action.token));
    request.set_model_folder(model_folder);
    for (const farm::v1::LocalFile& file : files) *request.add_files() = file;
  }
  *request.mutable_work() = action.work;
  parts.log->Info("run", {{"job", action.task.job_id()},
                          {"task", plan::TaskName(action.task)},
                          {"token", plan::TokenName(action.token)},
                          {"device", action.device},
                          {"run", action.run}});
  const uint32_t device = action.device;
  const uint64_t run = action.run;
  const TokenKey token = KeyOf(action.token);
  bool follows_writer = false;
  for (const farm::v1::Bank& bank : action.work.frames().banks()) follows_writer |= bank.growing();
  engines[device]->StartRun(std::move(action), std::move(request));
  if (!follows_writer) return;
  const std::lock_guard<std::mutex> lock(mutex);
  Following& group = following[token];
  group.device = device;
  group.run = run;
  for (const farm::v1::BankStepHere& step : group.steps) engines[device]->TellBankStep(run, step);
}

void Agent::State::Take(Persist& action) {
  disk.Post([this, result = std::move(action.result)] {
    absl::Status done;
    const std::string owner = OutboxOwner(result.token(), result.task());
    for (const farm::v1::BlobRef& blob : BlobsOf(result)) {
      absl::StatusOr<base::Digest> digest = base::Digest::FromBytes(blob.digest());
      absl::StatusOr<base::FilePin> pin = digest.ok() ? cache->PinFile(*digest) : digest.status();
      if (!pin.ok()) {
        done = pin.status();
        break;
      }
      pins.Add(owner, *std::move(pin));
    }
    if (done.ok()) done = outbox.Write(result);
    if (done.ok()) return events.Push(Persisted{result.token(), result.task()});
    pins.Drop(owner);
    events.Push(PersistFailed{result.token(), result.task(), FailureOf(done, farm::v1::INTERNAL)});
  });
}

void Agent::State::Take(Clear& action) {
  disk.Post([this, token = action.token, task = action.task] {
    const absl::Status removed = outbox.Remove(token, task);
    // Sent again after a restart, and then answered as stale.
    if (!removed.ok())
      parts.log->Warning("an answered result stays in the outbox",
                         {{"job", task.job_id()},
                          {"task", plan::TaskName(task)},
                          {"token", plan::TokenName(token)},
                          {"why", std::string(removed.message())}});
    pins.Drop(OutboxOwner(token, task));
  });
}

void Agent::State::Take(Upload& action) {
  uploads.Post([this, blob = std::move(action.blob)] {
    const absl::StatusOr<base::Digest> digest = base::Digest::FromBytes(blob.digest());
    const absl::StatusOr<base::FilePin> pin = digest.ok() ? cache->PinFile(*digest) : digest.status();
    if (!pin.ok()) return events.Push(UploadFailed{blob.digest(), std::string(pin.status().message()), /*lost=*/true});
    base::TransferOptions transfer;
    transfer.cancel = &uploads_cancel;
    transfer.max_attempts = kUploadAttempts;
    const absl::Status done = base::UploadFile(*blobs, *parts.env, pin->path(), blob, folder.node_id, transfer);
    if (done.ok()) return events.Push(Uploaded{blob.digest()});
    events.Push(UploadFailed{blob.digest(), std::string(done.message()), absl::IsDataLoss(done)});
  });
}

void Agent::State::Take(Limit& action) {
  for (const std::unique_ptr<DeviceEngine>& engine : engines) engine->SetFarmLimit(action.limits.memory_bytes());
  owner->SetFarmRules(action.number, RulesOf(action.limits));
}

void Agent::State::Take(Admit& action) {
  if (server != nullptr) server->Admit(action.whole, action.change);
}

void Agent::State::Take(KeepSpeeds& action) {
  reports[action.device].mutable_speeds()->Assign(action.speeds.begin(), action.speeds.end());
  disk.Post([this, reports = reports] {
    const absl::Status kept = speeds.Keep(reports);
    // The next start begins from an older guess.
    if (!kept.ok())
      parts.log->Warning("the devices' speeds could not be kept", {{"why", std::string(kept.message())}});
  });
}

void Agent::State::Take(Note& action) {
  base::LogFields fields;
  if (!action.task.job_id().empty()) {
    fields.push_back({"job", action.task.job_id()});
    fields.push_back({"task", plan::TaskName(action.task)});
    fields.push_back({"token", plan::TokenName(action.token)});
  }
  if (action.warning) {
    parts.log->Warning(action.text, fields);
  } else {
    parts.log->Info(action.text, fields);
  }
}

void Agent::State::Renew() {
  const absl::StatusOr<bool> renewed = base::RenewIfDue(*parts.env, options.link.trust_folder, farm);
  if (!renewed.ok()) {
    parts.log->Warning("this machine's certificate can't be renewed, which is tried again in an hour",
                       {{"why", std::string(renewed.status().message())}});
  } else if (*renewed) {
    parts.log->Info("this machine's certificate was renewed");
  }
}

}  // namespace storyfarm::worker
