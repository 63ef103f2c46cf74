#include "coordinator/rpc/coordinator.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/authority.h"
#include "coordinator/rpc/leader_watch.h"
#include "coordinator/rpc/listen.h"
#include "pipeline/base/membership.h"

namespace storyfarm::coordinator {
namespace {

// Between two tries to lead where the store refuses it.
constexpr int64_t kTryAgainMs = 1'000;
constexpr int64_t kComplainMs = 30'000;

// What may pass by itself or by a person's doing while this process waits: the store is away, full, locked or being
// repaired, or somebody else leads.
bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsAborted(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsFailedPrecondition(status) || absl::IsResourceExhausted(status) || absl::IsPermissionDenied(status);
}

}  // namespace

Coordinator::Coordinator(CoordinatorOptions options, const ServerParts& parts, Events events)
    : options_(std::move(options)), parts_(parts), events_(std::move(events)) {
  options_.server.leader_lease_ms = options_.alone ? 0 : kLeaderLeaseMs;
}

void Coordinator::Stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  if (server_ != nullptr) server_->Drain();
}

bool Coordinator::StoppedWithin(int64_t ms) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return stopping_; });
}

absl::Status Coordinator::Announce(const Ports& ports, bool leads) {
  // The ports that were drawn are kept, so that clients find this one again when it changes between its two states.
  ServerOptions& server = options_.server;
  if (ports.listen > 0) server.listen = WithPort(server.listen, ports.listen);
  if (ports.network > 0) server.network = WithPort(server.network, ports.network);
  if (ports.join > 0) server.join_port = ports.join;
  if (announced_) return absl::OkStatus();
  announced_ = true;
  return events_.listens(ports, leads);
}

absl::Status Coordinator::Run() {
  for (;;) {
    const absl::StatusOr<uint64_t> epoch = WaitForTurn();
    if (absl::IsCancelled(epoch.status())) return absl::OkStatus();
    if (!epoch.ok()) return epoch.status();
    absl::Status ended = Lead(*epoch);
    if (ended.ok()) return ended;
    if (absl::IsAborted(ended)) {
      trouble_.clear();
      parts_.log->Warning("another coordinator leads: what this one held in memory is thrown away",
                          {{"why", std::string(ended.message())}});
    } else if (announced_ && MayPass(ended)) {
      trouble_ = std::string(ended.message());
    } else {
      return ended;
    }
  }
}

absl::Status Coordinator::Refuse(std::unique_ptr<Listening>& door, const std::string& sentence) {
  if (door == nullptr) {
    ListenOptions listen;
    listen.socket_path = options_.server.socket_path;
    listen.listen = options_.server.listen;
    listen.receive_bytes = options_.server.limits.message_bytes;
    if (absl::Status status = StandByForOthers(listen); !status.ok()) return status;
    absl::StatusOr<std::unique_ptr<Listening>> opened = Listening::StandBy(listen);
    if (!opened.ok()) return opened.status();
    door = *std::move(opened);
  }
  door->Say(sentence);
  return Announce({door->port(), door->network_port(), 0}, /*leads=*/false);
}

absl::Status Coordinator::StandByForOthers(ListenOptions& listen) {
  if (options_.server.network.empty()) return absl::OkStatus();
  const std::string trust_folder = base::TrustFolder(options_.server.data_folder);
  const absl::StatusOr<FarmAuthority> authority = FarmAuthority::Open(*parts_.env, trust_folder);
  if (absl::IsNotFound(authority.status())) {
    // The first coordinator of a new farm makes it; another one has to join.
    parts_.log->Warning("other machines can't reach this coordinator while it stands by: it lacks the farm's authority",
                        {{"mend", "storyctl coordinator add where the farm runs, storyfarm-coordinator --join here"}});
    return absl::OkStatus();
  }
  if (!authority.ok()) return authority.status();
  if (const absl::StatusOr<bool> renewed = authority->RenewOwn(*parts_.env); !renewed.ok()) return renewed.status();
  listen.network = options_.server.network;
  listen.trust_folder = trust_folder;
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Coordinator::WaitForTurn() {
  base::Env& env = *parts_.env;
  LeaderWatch watch(options_.name);
  std::unique_ptr<Listening> door;
  int64_t complaint_ms = env.MonotonicMs();  // not before
  std::string leader;
  if (!trouble_.empty()) {
    const std::string sentence =
        absl::StrCat("The coordinator does not serve just now, and goes on trying: ", trouble_);
    if (absl::Status status = Refuse(door, sentence); !status.ok()) return status;
    parts_.log->Error("the store is away: tried again until it answers", {{"why", trouble_}});
    complaint_ms += kComplainMs;
    if (StoppedWithin(kTryAgainMs)) return absl::CancelledError("stopped");
  }
  for (;;) {
    const int64_t asked_ms = env.MonotonicMs();
    const absl::StatusOr<Leadership> seen = parts_.store->Watch();
    std::string sentence;
    if (seen.ok()) {
      if (options_.alone || watch.MayTakeOver(*seen, asked_ms, env.MonotonicMs())) return seen->epoch;
      sentence = absl::StrCat("This coordinator stands by: ", seen->leader,
                              " leads the farm. Ask that one, or name both, with a comma between.");
      if (leader != seen->leader) {
        leader = seen->leader;
        parts_.log->Info("stands by", {{"leader", leader}, {"epoch", seen->epoch}});
      }
    } else {
      if (!announced_) return seen.status();
      watch.NoAnswer();
      sentence = absl::StrCat("This coordinator can't reach the farm's store, and goes on trying: ",
                              std::string(seen.status().message()));
      if (env.MonotonicMs() >= complaint_ms) {
        complaint_ms = env.MonotonicMs() + kComplainMs;
        parts_.log->Error("the store is away: tried again until it answers",
                          {{"why", std::string(seen.status().message())}});
      }
    }
    if (absl::Status status = Refuse(door, sentence); !status.ok()) return status;
    if (StoppedWithin(seen.ok() ? kWatchMs : kTryAgainMs)) return absl::CancelledError("stopped");
  }
}

absl::Status Coordinator::Lead(uint64_t after_epoch) {
  options_.server.take_over_after = after_epoch;
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options_.server, parts_);
  if (!server.ok()) return server.status();
  trouble_.clear();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    server_ = server->get();
    if (stopping_) server_->Drain();
  }
  absl::Status ended = Announce((*server)->ports(), /*leads=*/true);
  if (ended.ok()) ended = (*server)->Wait();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    server_ = nullptr;
  }
  server->reset();
  if (!ended.ok()) return ended;
  if (const absl::Status let_go = parts_.store->LetGo(); !let_go.ok() && !absl::IsAborted(let_go)) {
    parts_.log->Warning("the next coordinator waits a few seconds longer: the lead could not be let go of",
                        {{"why", std::string(let_go.message())}});
  }
  return absl::OkStatus();
}

}  // namespace storyfarm::coordinator
