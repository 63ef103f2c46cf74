// ClientService, the side of CharacterPacks: those that there are, their names, and what a submission takes of them.
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/client_service.h"
#include "coordinator/rpc/packs.h"
#include "coordinator/rpc/status.h"
#include "pipeline/plan/pack.h"

namespace storyfarm::coordinator {

plan::NamedPacks ClientServiceImpl::LookUpPacks(const Farm& farm, const farm::v1::Story& story) {
  plan::NamedPacks packs;
  for (const farm::v1::Character& character : story.characters()) {
    if (character.pack().empty()) continue;
    absl::StatusOr<farm::v1::PackStatus> pack = farm.GetPack(character.pack());
    if (absl::IsNotFound(pack.status())) continue;  // it is told as unknown
    plan::NamedPack& found = packs[character.pack()];
    if (!pack.ok()) {
      found.trouble = std::string(pack.status().message());
    } else {
      found.manifest = std::move(*pack->mutable_manifest());
      if (pack->lost()) found.trouble = FilesMissing(character.pack());
    }
  }
  return packs;
}

std::string ClientServiceImpl::FilesMissing(const std::string& name) {
  return absl::StrCat("files of the pack '", name,
                      "' are missing on the farm, so that it can't be read; submit the story that it was made for "
                      "again, which computes it anew, or remove `pack`");
}

void ClientServiceImpl::CheckPacks(plan::NamedPacks& packs) {
  for (auto& [name, pack] : packs) {
    if (pack.trouble.empty() && !IsWhole(*parts_.blobs, pack.manifest)) pack.trouble = FilesMissing(name);
  }
}

absl::StatusOr<std::vector<LostPack>> ClientServiceImpl::FindLostPacks(const farm::v1::JobSpec& job) {
  std::vector<LostPack> lost;
  if (job.identities().empty()) return lost;
  std::vector<farm::v1::PackManifest> packs;
  std::promise<absl::Status> answered;
  // What follows from it leaves by the job's own input.
  parts_.loop->Peek(
      [&](const Farm& farm) {
        for (const farm::v1::IdentityTask& task : job.identities()) {
          if (const farm::v1::PackManifest* pack = farm.FindPack(task.pack_key())) packs.push_back(*pack);
        }
      },
      [&answered](const absl::Status& status) { answered.set_value(status); });
  if (absl::Status status = answered.get_future().get(); !status.ok()) return status;
  for (const farm::v1::PackManifest& pack : packs) {
    if (!IsWhole(*parts_.blobs, pack)) lost.push_back({pack.key(), pack.job_id()});
  }
  return lost;
}

grpc::ServerUnaryReactor* ClientServiceImpl::ListPacks(grpc::CallbackServerContext* context,
                                                       const farm::v1::ListPacksRequest* request,
                                                       farm::v1::ListPacksResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto found = std::make_shared<absl::Status>();
  const auto look = [request, response, found](const Farm& farm, const Time&) {
    if (request->pack().empty()) {
      for (farm::v1::PackStatus& pack : farm.ListPacks()) *response->add_packs() = std::move(pack);
      return;
    }
    absl::StatusOr<farm::v1::PackStatus> pack = farm.GetPack(request->pack());
    *found = pack.status();
    if (pack.ok()) *response->add_packs() = *std::move(pack);
  };
  parts_.loop->Look(look, [this, reactor, context, found, response](const absl::Status& status) {
    const absl::Status answer = !status.ok() ? status : found->ok() ? CheckSize(*response) : *found;
    reactor->Finish(ToGrpc(answer, context));
  });
  return reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::NamePack(grpc::CallbackServerContext* context,
                                                      const farm::v1::NamePackRequest* request,
                                                      farm::v1::PackStatus* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto answer = [this, reactor, context, response](const Reply& reply) {
    if (!reply.status.ok()) return reactor->Finish(ToGrpc(reply.status, context));
    const auto look = [response, key = reply.job_id](const Farm& farm, const Time&) {
      for (farm::v1::PackStatus& pack : farm.ListPacks()) {
        if (pack.manifest().key() == key) *response = std::move(pack);
      }
    };
    parts_.loop->Look(look,
                      [reactor, context](const absl::Status& status) { reactor->Finish(ToGrpc(status, context)); });
  };
  parts_.loop->Ask(
      [pack = request->pack(), name = request->name()](uint64_t number) {
        return Input(coordinator::NamePack{number, pack, name});
      },
      answer);
  return reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::RemovePack(grpc::CallbackServerContext* context,
                                                        const farm::v1::RemovePackRequest* request,
                                                        farm::v1::RemovePackResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  parts_.loop->Ask(
      [pack = request->pack()](uint64_t number) {
        return Input(ForgetPack{number, pack});
      },
      [reactor, context](const Reply& reply) { reactor->Finish(ToGrpc(reply.status, context)); });
  return reactor;
}

}  // namespace storyfarm::coordinator
