#include "worker/agent/agent.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/farm_channel.h"
#include "pipeline/base/file_store.h"
#include "pipeline/base/join_client.h"
#include "pipeline/base/places.h"
#include "pipeline/base/transfer.h"
#include "pipeline/plan/names.h"
#include "pipeline/plan/plan.h"
#include "worker/agent/blob_server.h"
#include "worker/agent/blob_sources.h"
#include "worker/agent/data_folder.h"
#include "worker/agent/device_engine.h"
#include "worker/agent/devices.h"
#include "worker/agent/disk_speed.h"
#include "worker/agent/event_queue.h"
#include "worker/agent/inputs.h"
#include "worker/agent/outbox_files.h"
#include "worker/agent/pins.h"
#include "worker/agent/speed_file.h"
#include "worker/agent/task_threads.h"
#include "worker/core/keys.h"
#include "worker/core/session.h"

namespace storyfarm::worker {
namespace {

constexpr size_t kDownloads = 4;  // groups prepared side by side
constexpr size_t kUploads = 4;
constexpr size_t kFollows = 2;  // one step on its way and the next one
// A step that no peer gives lies at the coordinator as soon as its writer has uploaded it: a minute is long for that.
constexpr int kStepTries = 240;
constexpr auto kStepPause = std::chrono::milliseconds(250);
constexpr uint64_t kLargeBlobBytes = uint64_t{1} << 20;  // smaller ones are not worth a line in Hello
constexpr int64_t kLeaveGraceMs = 2000;
// It has eight months for it.
constexpr int64_t kRenewalEveryMs = int64_t{3600} * 1000;
constexpr int kUploadAttempts = 3;  // the session tries again by itself

std::string OutboxOwner(const farm::v1::FencingToken& token, const farm::v1::TaskId& task) {
  return absl::StrCat("outbox/", plan::TokenName(token), "/", plan::TaskName(task));
}

}  // namespace

struct Agent::State {
  State(AgentOptions options_in, AgentParts parts_in, DataFolder folder_in, std::unique_ptr<base::FileStore> cache_in)
      : options(std::move(options_in)),
        parts(std::move(parts_in)),
        folder(std::move(folder_in)),
        cache(std::move(cache_in)),
        outbox(parts.env, parts.log, base::JoinPath(folder.path, "outbox")),
        speeds(parts.env, parts.log, base::JoinPath(folder.path, "speeds")) {}

  AgentOptions options;
  AgentParts parts;
  DataFolder folder;
  std::unique_ptr<base::FileStore> cache;
  Pins pins;
  EventQueue events;
  OutboxFiles outbox;  // the disk thread's, after Run has loaded it
  SpeedFile speeds;    // likewise
  std::shared_ptr<grpc::Channel> farm;  // not the control stream's
  std::unique_ptr<farm::v1::BlobService::Stub> blobs;
  std::unique_ptr<BlobSources> sources;
  std::unique_ptr<BlobServer> server;  // null: other workers read nothing here
  base::TransferCancel uploads_cancel;

  std::mutex mutex;
  absl::Status refused;                                                                   // by the coordinator
  std::map<TokenKey, std::shared_ptr<base::TransferCancel>> preparing;                    // groups not yet released
  std::map<TokenKey, std::pair<std::string, std::vector<farm::v1::LocalFile>>> prepared;  // model folder and files
  // Of groups that read banks which are still computed: the steps that came, and the run that is to hear of others.
  struct Following {
    std::vector<farm::v1::BankStepHere> steps;
    uint32_t device = 0;
    uint64_t run = 0;  // 0: none yet
  };
  std::map<TokenKey, Following> following;

  TaskThreads disk{1};
  TaskThreads killer{1};
  TaskThreads downloads{kDownloads};
  TaskThreads uploads{kUploads};
  TaskThreads follows{kFollows};
  std::vector<std::unique_ptr<DeviceEngine>> engines;  // by device number
  std::unique_ptr<Session> session;
  std::unique_ptr<ControlLink> link;
  bool drained = false;
  std::vector<farm::v1::DeviceReport> reports;

  std::unique_ptr<DeviceEngine> MakeEngine(const std::string& device, int threads);
  void MeasureCache();
  absl::Status ProbeDevices();
  std::vector<std::string> CachedDigests();
  absl::Status Refused() {
    const std::lock_guard<std::mutex> lock(mutex);
    return refused;
  }

  void Do(Actions actions);
  void Take(Send& action) { link->Send(std::move(action.message)); }
  void Take(Prepare& action);
  void Take(Follow& action);
  void Take(Release& action);
  void Take(Measure& action) { engines[action.device]->Measure(); }
  void Take(StartRun& action);
  void Take(StopEngine& action) { engines[action.device]->StopEngine(); }
  void Take(StartEngine& action) { engines[action.device]->StartEngine(); }
  void Take(Persist& action);
  void Take(Clear& action);
  void Take(Upload& action);
  void Take(KeepSpeeds& action);
  void Take(Drained&) { drained = true; }
  void Take(Note& action);

  // The certificate, where it is time for the next one.
  void Renew();
};

// ---- Devices ------------------------------------------------------------------------------------------------------

std::unique_ptr<DeviceEngine> Agent::State::MakeEngine(const std::string& device, int threads) {
  DeviceEngineOptions engine;
  engine.engine.program = options.engine_program;
  engine.engine.device = device;
  engine.engine.threads = threads;
  engine.runs_folder = base::JoinPath(folder.path, "runs");
  engine.memory_every_ms = options.limits.heartbeat_ms;
  engine.memory_limit_bytes = options.memory_limit_bytes;
  return std::make_unique<DeviceEngine>(
      engine, DeviceEngineParts{parts.log, &events, cache.get(), &pins, &killer,
                                [this](const std::vector<std::string>& digests) { return sources->DropDamaged(digests); }});
}

absl::Status Agent::State::ProbeDevices() {
  std::vector<std::string> names = options.devices;
  int cpu_threads = options.threads;
  if (names.empty()) {
    const absl::StatusOr<std::vector<farm::v1::DeviceReport>> all =
        MakeEngine("cpu", options.threads)->ProbeAll();
    if (!all.ok())
      return absl::Status(all.status().code(),
                          absl::StrCat("The engine could not list this machine's devices: ", all.status().message()));
    names = ChooseDevices(*all);
    if (cpu_threads == 0) cpu_threads = CpuThreadsBeside(names.size() - 1, *all);
  }
  for (const std::string& name : names) {
    std::unique_ptr<DeviceEngine> engine = MakeEngine(name, name == "cpu" ? cpu_threads : options.threads);
    absl::StatusOr<farm::v1::DeviceReport> probed = engine->Probe(options.measure_speed);
    if (!probed.ok())
      return absl::Status(probed.status().code(),
                          absl::StrCat("The engine for ", name, " does not work: ", probed.status().message()));
    farm::v1::DeviceReport report = *std::move(probed);
    report.set_index(static_cast<uint32_t>(reports.size()));
    plan::LimitMemory(options.memory_limit_bytes, &report);
    parts.log->Info("device", {{"device", report.index()},
                               {"name", report.name()},
                               {"as", name},
                               {"free_mb", report.free_bytes() / 1'000'000},
                               {"gflops", static_cast<int64_t>(report.speed_tflops() * 1000)}});
    reports.push_back(std::move(report));
    engines.push_back(std::move(engine));
  }
  speeds.Recall(reports);
  if (options.measure_speed) MeasureCache();
  return absl::OkStatus();
}

void Agent::State::MeasureCache() {
  const absl::StatusOr<DiskSpeed> disk = MeasureDisk(folder.path);
  if (!disk.ok()) {
    parts.log->Warning("the cache's disk could not be measured", {{"why", std::string(disk.status().message())}});
    return;
  }
  parts.log->Info("cache disk", {{"read_mb_s", disk->read_bytes_per_s / 1'000'000},
                                 {"write_mb_s", disk->write_bytes_per_s / 1'000'000}});
  for (farm::v1::DeviceReport& report : reports) {
    report.set_disk_read_bytes_per_s(disk->read_bytes_per_s);
    report.set_disk_write_bytes_per_s(disk->write_bytes_per_s);
  }
}

std::vector<std::string> Agent::State::CachedDigests() {
  std::vector<base::StoredFile> files = cache->List();
  files.erase(std::remove_if(files.begin(), files.end(),
                             [](const base::StoredFile& file) { return file.size_bytes < kLargeBlobBytes; }),
              files.end());
  std::sort(files.begin(), files.end(), [](const base::StoredFile& a, const base::StoredFile& b) {
    return a.last_used_unix_ms != b.last_used_unix_ms ? a.last_used_unix_ms > b.last_used_unix_ms : a.digest < b.digest;
  });
  if (files.size() > options.limits.cached_digests) files.resize(options.limits.cached_digests);
  std::vector<std::string> digests;
  digests.reserve(files.size());
  for (const base::StoredFile& file : files) digests.push_back(file.digest.Bytes());
  return digests;
}

// ---- Actions: each is handed to the thread that may block on it -----------------------------------------------------

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

// ---- The agent ----------------------------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<Agent>> Agent::Open(const AgentOptions& options, const AgentParts& parts) {
  absl::StatusOr<DataFolder> folder = OpenDataFolder(*parts.env, options.data_folder);
  if (!folder.ok()) return folder.status();
  base::FileStoreOptions store;
  store.budget_bytes = options.cache_bytes;
  absl::StatusOr<std::unique_ptr<base::FileStore>> cache =
      base::FileStore::Open(*parts.env, base::JoinPath(folder->path, "cache"), store);
  if (!cache.ok()) return cache.status();
  const std::string runs = base::JoinPath(folder->path, "runs");
  if (absl::Status removed = parts.env->RemoveTree(runs); !removed.ok()) return removed;
  if (absl::Status made = parts.env->CreateFolders(runs); !made.ok()) return made;
  return std::unique_ptr<Agent>(
      new Agent(std::make_unique<State>(options, parts, *std::move(folder), *std::move(cache))));
}

Agent::Agent(std::unique_ptr<State> state) : state_(std::move(state)) {}
Agent::~Agent() = default;

const std::string& Agent::node_id() const { return state_->folder.node_id; }

void Agent::Drain() { state_->events.Push(worker::Drain{}); }

absl::Status Agent::Run() {
  State& state = *state_;
  absl::StatusOr<std::vector<farm::v1::Result>> outbox = state.outbox.Load();
  if (!outbox.ok()) return outbox.status();
  for (const farm::v1::Result& result : *outbox) {
    for (const farm::v1::BlobRef& blob : BlobsOf(result)) {
      const absl::StatusOr<base::Digest> digest = base::Digest::FromBytes(blob.digest());
      if (!digest.ok()) continue;
      // One that is gone is found out when it is to be uploaded.
      absl::StatusOr<base::FilePin> pin = state.cache->PinFile(*digest);
      if (pin.ok()) state.pins.Add(OutboxOwner(result.token(), result.task()), *std::move(pin));
    }
  }
  if (absl::Status probed = state.ProbeDevices(); !probed.ok()) return probed;

  // Blobs have connections of their own, so that heartbeats never queue behind weights.
  const auto connect = [options = state.options.link](const std::string& target) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, static_cast<int>(options.first_pause_ms));
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, static_cast<int>(options.most_pause_ms));
    return base::FarmChannel(target, options.trust_folder, std::move(arguments));
  };
  const auto connect_to = [connect](const std::string& target) {
    return farm::v1::BlobService::NewStub(connect(target));
  };
  state.farm = connect(state.options.link.coordinator);
  state.blobs = farm::v1::BlobService::NewStub(state.farm);
  state.sources = std::make_unique<BlobSources>(*state.cache, *state.blobs, connect_to);
  absl::StatusOr<std::unique_ptr<BlobServer>> server =
      BlobServer::Start(*state.cache, base::JoinPath(state.folder.path, "peers"));
  if (server.ok()) {
    state.server = *std::move(server);
  } else {
    state.parts.log->Warning("other workers can't read this one's cache; they fetch from the coordinator",
                             {{"why", std::string(server.status().message())}});
  }

  Self self;
  self.software_version = state.options.software_version;
  self.node_id = state.folder.node_id;
  self.node_name = state.options.node_name;
  self.process = state.parts.random_bits();
  self.devices = state.reports;
  if (state.server != nullptr) self.blob_address = state.server->address();
  state.session = std::make_unique<Session>(std::move(self), *std::move(outbox), state.options.limits);

  LinkParts link;
  link.log = state.parts.log;
  link.events = &state.events;
  link.random_bits = state.parts.random_bits;
  link.cached = [&state] { return state.CachedDigests(); };
  link.on_refused = [&state](const absl::Status& why) {
    const std::lock_guard<std::mutex> lock(state.mutex);
    state.refused = why;
  };
  state.link = std::make_unique<ControlLink>(state.options.link, std::move(link));
  const OwnerWatch owner(state.options.owner, {state.parts.machine, state.parts.minute_of_week, &state.events,
                                              state.options.owner_every_ms});
  state.Do(state.session->Step(state.parts.env->MonotonicMs(), OwnerSays{owner.first()}));
  for (size_t i = 0; i < state.engines.size(); ++i) state.engines[i]->Attach(static_cast<uint32_t>(i));
  state.link->Start();

  base::Env& env = *state.parts.env;
  int64_t next_tick_ms = 0;
  int64_t next_renewal_ms = 0;
  while (!state.drained && state.Refused().ok()) {
    const int64_t now_ms = env.MonotonicMs();
    if (now_ms >= next_tick_ms) {
      next_tick_ms = now_ms + kTickMs;
      state.Do(state.session->Step(now_ms, Tick{}));
      if (now_ms >= next_renewal_ms && base::NeedsCertificate(state.options.link.coordinator)) {
        next_renewal_ms = now_ms + kRenewalEveryMs;
        state.uploads.Post([&state] { state.Renew(); });
      }
      continue;
    }
    std::optional<Event> event = state.events.Pop(std::chrono::milliseconds(next_tick_ms - now_ms));
    if (event.has_value()) state.Do(state.session->Step(env.MonotonicMs(), *std::move(event)));
  }

  state.link->Stop(kLeaveGraceMs);
  {
    const std::lock_guard<std::mutex> lock(state.mutex);
    for (auto& [token, cancel] : state.preparing) cancel->Cancel();
  }
  state.uploads_cancel.Cancel();
  state.follows.Stop(/*finish=*/false);  // it speaks with engines
  state.engines.clear();
  state.server.reset();
  state.downloads.Stop(/*finish=*/false);
  state.uploads.Stop(/*finish=*/false);
  state.disk.Stop(/*finish=*/true);  // what was finished is written
  return state.Refused();
}

}  // namespace storyfarm::worker
