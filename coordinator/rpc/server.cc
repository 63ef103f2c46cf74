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
#include "coordinator/rpc/client_service.h"
#include "coordinator/rpc/collector.h"
#include "coordinator/rpc/disk_watch.h"
#include "coordinator/rpc/job_reader.h"
#include "coordinator/rpc/listening.h"
#include "coordinator/rpc/loop.h"
#include "coordinator/rpc/tally.h"
#include "coordinator/rpc/watch.h"
#include "coordinator/rpc/webhooks.h"
#include "coordinator/rpc/work_pool.h"
#include "coordinator/rpc/worker_service.h"

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
  std::unique_ptr<ClientServiceImpl> clients;
  std::unique_ptr<WorkerServiceImpl> workers;
  std::unique_ptr<BlobServiceImpl> blob_service;
  std::unique_ptr<Listening> listening;

  std::unique_ptr<Collector> collector;
  std::unique_ptr<DiskWatch> disk_watch;
  std::unique_ptr<WebhookSender> webhook_sender;
  std::unique_ptr<Webhooks> webhooks;

  std::mutex mutex;
  std::condition_variable changed;
  std::optional<absl::Status> ended;  // the loop's last word

  std::mutex closing;
  bool closed = false;

  // Where the loop's decisions go. `version`: this program's, as workers are told.
  Loop::Outputs LoopOutputs(const std::string& version) {
    Loop::Outputs outputs;
    outputs.deliver = [this, version](uint64_t session, farm::v1::CoordinatorMessage message) {
      if (message.has_welcome()) message.mutable_welcome()->set_software_version(version);
      workers->Deliver(session, std::move(message));
    };
    outputs.close = [this](uint64_t session, const absl::Status& why) { workers->Close(session, why); };
    outputs.changed = [this](const std::vector<std::string>& job_ids) { watches->Changed(job_ids); };
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
    workers->Stop(why);
    if (listening != nullptr) listening->Stop(grace);
    if (blob_service != nullptr) log->Info("served", {{"blob_bytes_given", blob_service->given_bytes()}});
  }
};

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
  parts->clients = std::make_unique<ClientServiceImpl>(std::move(client_parts));
  WorkerServiceImpl::Limits session_limits{options.limits.sessions, options.limits.unsent_a_session};
  parts->workers =
      std::make_unique<WorkerServiceImpl>(parts->loop.get(), parts->blobs.get(), given.log, session_limits);
  parts->blob_service = std::make_unique<BlobServiceImpl>(*parts->blobs);
  if (given.webhook) {
    parts->webhook_sender = given.webhook();
    parts->webhooks = std::make_unique<Webhooks>(Webhooks::Parts{parts->loop.get(), parts->webhook_sender.get(),
                                                                 given.env, given.log, given.random_bits});
  }

  Parts* raw = parts.get();
  std::unique_ptr<Server> server(new Server(std::move(parts)));
  raw->loop->Run(raw->LoopOutputs(options.software_version));
  if (options.low_disk_bytes > 0) {
    raw->disk_watch = std::make_unique<DiskWatch>(
        DiskWatch::Parts{raw->loop.get(), given.env, given.log, blob_folder, options.low_disk_bytes});
  }
  raw->collector = std::make_unique<Collector>(Collector::Parts{raw->loop.get(), raw->blobs.get(), given.log});
  ListenOptions listen;
  listen.socket_path = options.socket_path;
  listen.listen = options.listen;
  listen.receive_bytes = options.limits.message_bytes;
  listen.send_bytes = options.limits.reply_bytes;
  absl::StatusOr<std::unique_ptr<Listening>> listening =
      Listening::Serve(listen, {raw->clients.get(), raw->workers.get(), raw->blob_service.get()});
  if (!listening.ok()) return listening.status();
  raw->listening = *std::move(listening);
  return server;
}

Server::~Server() { parts_->Close(absl::UnavailableError("The coordinator stopped."), std::chrono::milliseconds(0)); }

int Server::port() const { return parts_->listening->port(); }

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
