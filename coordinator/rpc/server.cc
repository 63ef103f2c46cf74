#include "coordinator/rpc/server.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/blob/blob_store.h"
#include "coordinator/rpc/backup.h"
#include "coordinator/rpc/blob_service.h"
#include "coordinator/rpc/certificate_watch.h"
#include "coordinator/rpc/client_service.h"
#include "coordinator/rpc/collector.h"
#include "coordinator/rpc/disk_watch.h"
#include "coordinator/rpc/guard.h"
#include "coordinator/rpc/job_reader.h"
#include "coordinator/rpc/join_desk.h"
#include "coordinator/rpc/join_service.h"
#include "coordinator/rpc/listen.h"
#include "coordinator/rpc/listening.h"
#include "coordinator/rpc/loop.h"
#include "coordinator/rpc/settle_authority.h"
#include "coordinator/rpc/tally.h"
#include "coordinator/rpc/trust_service.h"
#include "coordinator/rpc/watch.h"
#include "coordinator/rpc/web_tunnels.h"
#include "coordinator/rpc/webhooks.h"
#include "coordinator/rpc/work_pool.h"
#include "coordinator/rpc/worker_service.h"
#include "pipeline/base/membership.h"

namespace storyfarm::coordinator {
namespace {

// What calls get to end by themselves after a drain; all that they wait for has been answered by then.
constexpr std::chrono::milliseconds kShutdownGrace{2'000};

}  // namespace

struct Server::Parts {
  base::Log* log = nullptr;
  std::unique_ptr<Tally> tally;
  std::unique_ptr<BlobStore> blobs;
  std::unique_ptr<Loop> loop;
  std::unique_ptr<WorkPool> pool;
  std::unique_ptr<JobReader> reader;
  std::unique_ptr<WatchHub> watches;
  std::unique_ptr<WebTunnels> tunnels;
  std::unique_ptr<ClientServiceImpl> clients;
  std::unique_ptr<WorkerServiceImpl> workers;
  std::unique_ptr<BlobServiceImpl> blob_service;
  // Who may come from other machines; the optional parts are there where it serves them.
  std::shared_ptr<Guard> guard = std::make_shared<Guard>();
  std::optional<FarmAuthority> authority;
  std::unique_ptr<JoinDesk> desk;
  std::unique_ptr<JoinServiceImpl> joins;
  std::unique_ptr<TrustServiceImpl> trust;
  std::unique_ptr<CertificateWatch> certificate_watch;
  std::unique_ptr<Listening> listening;
  std::unique_ptr<Listening> join_listening;

  std::unique_ptr<Collector> collector;
  std::unique_ptr<DiskWatch> disk_watch;
  std::unique_ptr<WebhookSender> webhook_sender;
  std::unique_ptr<Webhooks> webhooks;

  std::mutex mutex;
  std::condition_variable changed;
  std::optional<absl::Status> ended;  // the loop's last word

  std::mutex closing;
  bool closed = false;

  // Opens its addresses. The loop runs.
  absl::Status Listen(const ServerOptions& options, const ServerParts& given);

  // Where the loop's decisions go. `version`: this program's, as workers are told.
  Loop::Outputs LoopOutputs(const std::string& version) {
    Loop::Outputs outputs;
    outputs.deliver = [this, version](uint64_t session, farm::v1::CoordinatorMessage message) {
      if (message.has_welcome()) message.mutable_welcome()->set_software_version(version);
      workers->Deliver(session, std::move(message));
    };
    outputs.close = [this](uint64_t session, const absl::Status& why) { workers->Close(session, why); };
    outputs.changed = [this](const std::vector<std::string>& job_ids) { watches->Changed(job_ids); };
    outputs.members = [this](const std::vector<farm::v1::Member>& members) { guard->SetMembers(members); };
    outputs.notice = [this](const farm::v1::JobNotice& notice) { webhooks->Add(notice); };
    outputs.durable = [this](const farm::v1::RecordBatch& batch) { tally->Count(batch); };
    outputs.committed = [this](int64_t ms) { tally->Committed(ms); };
    outputs.ended = [this](const absl::Status& why) {
      std::lock_guard<std::mutex> lock(mutex);
      ended = why;
      changed.notify_all();
    };
    return outputs;
  }

  // Answers or refuses everything that is under way, then ends the streams and gRPC itself. Once.
  void Close(const absl::Status& why, std::chrono::milliseconds grace) {
    std::lock_guard<std::mutex> lock(closing);
    if (closed) return;
    closed = true;
    loop->Stop();
    collector.reset();
    disk_watch.reset();
    if (webhooks != nullptr) webhooks->Stop();
    pool->Stop();
    watches->Stop(why);
    tunnels->Stop(why);
    workers->Stop(why);
    certificate_watch.reset();
    if (join_listening != nullptr) join_listening->Stop(grace);
    if (listening != nullptr) listening->Stop(grace);
    if (blob_service != nullptr) log->Info("served", {{"blob_bytes_given", blob_service->given_bytes()}});
  }
};

absl::Status Server::Parts::Listen(const ServerOptions& options, const ServerParts& given) {
  const std::string trust_folder = base::TrustFolder(options.data_folder);
  if (!options.network.empty()) {
    absl::StatusOr<FarmAuthority> settled = SettleAuthority(*loop, *given.env, trust_folder);
    if (settled.ok()) {
      authority = *std::move(settled);
    } else if (absl::IsUnauthenticated(settled.status()) && options.leader_lease_ms > 0) {
      // It leads because another one died: half of the farm is better than none.
      given.log->Error("leads for this machine only", {{"why", std::string(settled.status().message())}});
    } else {
      return settled.status();
    }
  }
  TrustServiceImpl::Parts trust_parts{loop.get(), given.env, nullptr, nullptr, guard.get()};
  ListenOptions listen;
  listen.socket_path = options.socket_path;
  listen.listen = options.listen;
  listen.receive_bytes = options.limits.message_bytes;
  listen.send_bytes = options.limits.reply_bytes;
  if (authority.has_value()) {
    listen.network = options.network;
    listen.trust_folder = trust_folder;
    listen.guard = guard;
    desk = std::make_unique<JoinDesk>(given.env);
    joins = std::make_unique<JoinServiceImpl>(
        JoinServiceImpl::Parts{loop.get(), desk.get(), &*authority, given.env, given.random_bits});
    trust_parts.desk = desk.get();
    trust_parts.authority = &*authority;
    certificate_watch = std::make_unique<CertificateWatch>(CertificateWatch::Parts{&*authority, given.env, given.log});
  }
  trust = std::make_unique<TrustServiceImpl>(trust_parts);
  absl::StatusOr<std::unique_ptr<Listening>> opened =
      Listening::Serve(listen, {clients.get(), workers.get(), blob_service.get(), trust.get()});
  if (!opened.ok()) return opened.status();
  listening = *std::move(opened);
  if (!authority.has_value()) return absl::OkStatus();
  joins->SetFarmPort(listening->network_port());
  opened = Listening::ServeAnybody(WithPort(options.network, options.join_port), trust_folder, joins.get());
  if (!opened.ok()) return opened.status();
  join_listening = *std::move(opened);
  std::vector<std::string> addresses;
  for (const std::string& host : options.advertise.empty() ? ReachableHosts(options.network) : options.advertise) {
    addresses.push_back(absl::StrCat(host, ":", join_listening->network_port()));
  }
  trust->SetJoinAddresses(std::move(addresses));
  return absl::OkStatus();
}

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options, const ServerParts& given) {
  if (absl::Status status = RemoveBrokenBackups(*given.env, options.data_folder); !status.ok()) return status;
  auto parts = std::make_unique<Parts>();
  parts->log = given.log;
  parts->tally = std::make_unique<Tally>(given.env);
  Loop::Options loop_options;
  loop_options.farm = options.farm;
  loop_options.farm.notices = static_cast<bool>(given.webhook);
  loop_options.queued_inputs = options.limits.queued_inputs;
  loop_options.leader_lease_ms = options.leader_lease_ms;
  loop_options.take_over_after = options.take_over_after;
  loop_options.before_replay = [&](Store& store) { return RestoreBackup(*given.env, options.data_folder, store); };
  absl::StatusOr<std::unique_ptr<Loop>> loop =
      Loop::Load(loop_options, {given.env, given.log, given.store, given.random_bits});
  if (!loop.ok()) return loop.status();
  parts->loop = *std::move(loop);

  // After the take-over: whatever a leader before this one said to be there is seen.
  BlobStoreOptions blob_options;
  blob_options.quota_bytes = options.blob_quota_bytes;
  blob_options.condemned = parts->loop->CondemnedBlobs();
  if (options.blobs_shared) blob_options.writer = absl::StrCat(absl::Hex(given.random_bits(), absl::kZeroPad16));
  const std::string blob_folder =
      options.blob_folder.empty() ? base::JoinPath(options.data_folder, "blobs") : options.blob_folder;
  absl::StatusOr<std::unique_ptr<BlobStore>> blobs = BlobStore::Open(*given.env, blob_folder, blob_options);
  if (!blobs.ok()) return blobs.status();
  parts->blobs = *std::move(blobs);
  parts->pool = std::make_unique<WorkPool>();
  parts->reader = std::make_unique<JobReader>(parts->loop.get(), parts->pool.get());
  parts->watches =
      std::make_unique<WatchHub>(parts->reader.get(), given.env, options.limits.watch_ms, options.limits.watches);
  ClientServiceImpl::Parts client_parts;
  client_parts.loop = parts->loop.get();
  client_parts.reader = parts->reader.get();
  client_parts.watches = parts->watches.get();
  client_parts.pool = parts->pool.get();
  client_parts.blobs = parts->blobs.get();
  client_parts.log_book = given.log_book;
  client_parts.env = given.env;
  client_parts.backup = {parts->loop.get(), parts->pool.get(), given.env, options.data_folder,
                         options.software_version};
  client_parts.random_bits = given.random_bits;
  client_parts.reply_bytes = options.limits.reply_bytes;
  client_parts.tally = parts->tally.get();
  client_parts.open_web = given.open_web;
  client_parts.guard = parts->guard.get();
  parts->tunnels = std::make_unique<WebTunnels>(
      [socket = given.visitor_socket](farm::v1::Role role) { return socket ? socket(role) : std::string(); });
  client_parts.tunnels = parts->tunnels.get();
  parts->clients = std::make_unique<ClientServiceImpl>(std::move(client_parts));
  WorkerServiceImpl::Limits session_limits{options.limits.sessions, options.limits.unsent_a_session};
  parts->workers =
      std::make_unique<WorkerServiceImpl>(parts->loop.get(), parts->blobs.get(), parts->guard.get(), given.log,
                                          session_limits);
  parts->blob_service = std::make_unique<BlobServiceImpl>(*parts->blobs);
  if (given.webhook) {
    parts->webhook_sender = given.webhook();
    parts->webhooks = std::make_unique<Webhooks>(Webhooks::Parts{parts->loop.get(), parts->webhook_sender.get(),
                                                                 given.env, given.log, given.random_bits});
  }

  parts->guard->SetMembers(parts->loop->Members());

  Parts* raw = parts.get();
  std::unique_ptr<Server> server(new Server(std::move(parts)));
  raw->loop->Run(raw->LoopOutputs(options.software_version));
  if (options.low_disk_bytes > 0) {
    raw->disk_watch = std::make_unique<DiskWatch>(
        DiskWatch::Parts{raw->loop.get(), given.env, given.log, blob_folder, options.low_disk_bytes});
  }
  raw->collector = std::make_unique<Collector>(Collector::Parts{raw->loop.get(), raw->blobs.get(), given.log});
  if (absl::Status status = raw->Listen(options, given); !status.ok()) return status;
  return server;
}

Server::~Server() { parts_->Close(absl::UnavailableError("The coordinator stopped."), std::chrono::milliseconds(0)); }

Ports Server::ports() const {
  return {parts_->listening->port(), parts_->listening->network_port(),
          parts_->join_listening == nullptr ? 0 : parts_->join_listening->network_port()};
}

absl::Status Server::Wait() {
  absl::Status why;
  {
    std::unique_lock<std::mutex> lock(parts_->mutex);
    parts_->changed.wait(lock, [this] { return parts_->ended.has_value(); });
    why = *parts_->ended;
  }
  parts_->Close(absl::UnavailableError("The coordinator is going down; connect again when it is back."),
                why.ok() ? kShutdownGrace : std::chrono::milliseconds(0));
  return why;
}

void Server::Drain() { parts_->loop->Drain(); }

}  // namespace storyfarm::coordinator
