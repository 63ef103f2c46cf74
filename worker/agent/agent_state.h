// What an Agent is made of. Internal to this folder: agent.cc opens, runs and ends it, agent_actions.cc does what the
// session asks for.
#ifndef STORYFARM_WORKER_AGENT_AGENT_STATE_H_
#define STORYFARM_WORKER_AGENT_AGENT_STATE_H_

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/base/file_store.h"
#include "pipeline/base/transfer.h"
#include "worker/agent/agent.h"
#include "worker/agent/blob_server.h"
#include "worker/agent/blob_sources.h"
#include "worker/agent/data_folder.h"
#include "worker/agent/device_engine.h"
#include "worker/agent/event_queue.h"
#include "worker/agent/outbox_files.h"
#include "worker/agent/pins.h"
#include "worker/agent/speed_file.h"
#include "pipeline/base/task_threads.h"
#include "worker/core/keys.h"
#include "worker/core/session.h"

namespace storyfarm::worker {

inline constexpr size_t kDownloads = 4;  // groups prepared side by side
inline constexpr size_t kUploads = 4;
inline constexpr size_t kFollows = 2;  // one step on its way and the next one

// Under which the blobs of a result are pinned while it waits in the outbox.
std::string OutboxOwner(const farm::v1::FencingToken& token, const farm::v1::TaskId& task);

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

  base::TaskThreads disk{1};
  base::TaskThreads killer{1, base::ThreadRole::kLease};  // an owner who is back does not wait for transfers
  base::TaskThreads downloads{kDownloads};
  base::TaskThreads uploads{kUploads};
  base::TaskThreads follows{kFollows};
  std::vector<std::unique_ptr<DeviceEngine>> engines;  // by device number
  std::unique_ptr<Session> session;
  std::unique_ptr<ControlLink> link;
  std::unique_ptr<OwnerWatch> owner;
  std::optional<AwakeWhileLeased> awake;  // the session's thread's
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

  void Step(int64_t now_ms, Event event);
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
  void Take(Limit& action);
  void Take(Admit& action);
  void Take(KeepSpeeds& action);
  void Take(Drained&) { drained = true; }
  void Take(Note& action);

  // Where blobs come from and go to.
  void OpenBlobs(Self* self);
  // The certificate, where it is time for the next one.
  void Renew();
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_AGENT_STATE_H_
