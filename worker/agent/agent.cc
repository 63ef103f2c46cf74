#include "worker/agent/agent.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/farm_channel.h"
#include "pipeline/base/places.h"
#include "pipeline/base/thread_role.h"
#include "pipeline/plan/plan.h"
#include "worker/agent/agent_state.h"
#include "worker/agent/devices.h"
#include "worker/agent/disk_speed.h"

namespace storyfarm::worker {
namespace {

constexpr uint64_t kLargeBlobBytes = uint64_t{1} << 20;  // smaller ones are not worth a line in Hello
constexpr int64_t kLeaveGraceMs = 2000;
// It has eight months for it.
constexpr int64_t kRenewalEveryMs = int64_t{3600} * 1000;

}  // namespace

// ---- Devices ------------------------------------------------------------------------------------------------------

std::unique_ptr<DeviceEngine> Agent::State::MakeEngine(const std::string& device, int threads) {
  DeviceEngineOptions engine;
  engine.engine.program = options.engine_program;
  engine.engine.device = device;
  engine.engine.threads = threads;
  engine.engine.memory_limit_bytes = options.memory_limit_bytes;
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

// ---- Blobs --------------------------------------------------------------------------------------------------------

void Agent::State::OpenBlobs(Self* self) {
  // Connections of their own, so that heartbeats never queue behind weights.
  const auto arguments = [link = options.link] {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, static_cast<int>(link.first_pause_ms));
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, static_cast<int>(link.most_pause_ms));
    return arguments;
  };
  const std::string& trust = options.link.trust_folder;
  farm = base::FarmChannel(options.link.coordinator, trust, arguments());
  blobs = farm::v1::BlobService::NewStub(farm);
  PeerPatience patience;
  patience.left = [log = parts.log](const farm::v1::Peer& peer, const absl::Status& why) {
    log->Info("a peer is left alone for a while; others have what it has",
              {{"node", peer.node_id()}, {"address", peer.address()}, {"why", std::string(why.message())}});
  };
  const auto connect_to = [arguments, trust](const farm::v1::Peer& peer) {
    return farm::v1::BlobService::NewStub(
        peer.certificate_host().empty()
            ? base::FarmChannel(peer.address(), "", arguments())
            : base::PeerChannel(peer.address(), peer.certificate_host(), trust, arguments()));
  };
  sources = std::make_unique<BlobSources>(*cache, *blobs, connect_to, std::move(patience));
  const bool joined = base::NeedsCertificate(options.link.coordinator);
  if (joined && options.peers.empty()) return;
  absl::StatusOr<std::unique_ptr<BlobServer>> started =
      joined ? BlobServer::StartForMembers(*cache, options.peers, trust)
             : BlobServer::Start(*cache, base::JoinPath(folder.path, "peers"));
  if (!started.ok()) {
    return parts.log->Warning("other workers can't read this one's cache; they fetch from the coordinator",
                              {{"why", std::string(started.status().message())}});
  }
  server = *std::move(started);
  if (!joined) {
    self->blob_address = server->address();
    return;
  }
  self->peer_port = static_cast<uint32_t>(server->port());
  self->peer_host = options.advertise;
  parts.log->Info("workers of other machines may read this one's cache", {{"port", server->port()}});
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

  Self self;
  self.software_version = state.options.software_version;
  self.node_id = state.folder.node_id;
  self.node_name = state.options.node_name;
  self.process = state.parts.random_bits();
  self.devices = state.reports;
  state.OpenBlobs(&self);
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
  state.owner = std::make_unique<OwnerWatch>(
      state.options.owner,
      OwnerWatchParts{state.parts.machine, state.parts.minute_of_week, &state.events, state.options.owner_every_ms});
  if (state.parts.wakefulness != nullptr) state.awake.emplace(state.parts.wakefulness, state.parts.log);
  const Rest& first = state.owner->first();
  state.Step(state.parts.env->MonotonicMs(), OwnerSays{.resting = first.why, .finish = first.finish});
  for (size_t i = 0; i < state.engines.size(); ++i) state.engines[i]->Attach(static_cast<uint32_t>(i));
  state.link->Start();

  base::TakeRole(base::ThreadRole::kLease);
  base::Env& env = *state.parts.env;
  int64_t next_tick_ms = 0;
  int64_t next_renewal_ms = 0;
  while (!state.drained && state.Refused().ok()) {
    const int64_t now_ms = env.MonotonicMs();
    if (now_ms >= next_tick_ms) {
      next_tick_ms = now_ms + kTickMs;
      state.Step(now_ms, Tick{});
      if (now_ms >= next_renewal_ms && base::NeedsCertificate(state.options.link.coordinator)) {
        next_renewal_ms = now_ms + kRenewalEveryMs;
        state.uploads.Post([&state] { state.Renew(); });
      }
      continue;
    }
    std::optional<Event> event = state.events.Pop(std::chrono::milliseconds(next_tick_ms - now_ms));
    if (event.has_value()) state.Step(env.MonotonicMs(), *std::move(event));
  }

  state.owner.reset();
  state.awake.reset();
  state.link->Stop(kLeaveGraceMs);
  {
    const std::lock_guard<std::mutex> lock(state.mutex);
    for (auto& [token, cancel] : state.preparing) cancel->Cancel();
  }
  state.uploads_cancel.Cancel();
  state.follows.Stop(/*finish=*/false);  // it speaks with engines
  state.engines.clear();
  if (state.server != nullptr) {
    state.parts.log->Info("served", {{"to_peers_bytes", state.server->given_bytes()}});
    state.server.reset();
  }
  state.downloads.Stop(/*finish=*/false);
  state.uploads.Stop(/*finish=*/false);
  state.disk.Stop(/*finish=*/true);  // what was finished is written
  return state.Refused();
}

}  // namespace storyfarm::worker
