#include "coordinator/rpc/access.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::ROLE_ADMIN;
using farm::v1::ROLE_SUBMITTER;
using farm::v1::ROLE_UNSPECIFIED;
using farm::v1::ROLE_VIEWER;

}  // namespace

const std::vector<AccessRow>& AccessTable() {
  static const auto& table = *new std::vector<AccessRow>{
      // FindMissing pins what is there: that changes how long it is kept.
      {"/farm.v1.BlobService/FindMissing", ROLE_SUBMITTER, true, false},
      {"/farm.v1.BlobService/QueryWrite", ROLE_SUBMITTER, true, false},
      {"/farm.v1.BlobService/Read", ROLE_VIEWER, true, false},
      {"/farm.v1.BlobService/Write", ROLE_SUBMITTER, true, false},
      {"/farm.v1.ClientService/AddModel", ROLE_SUBMITTER, false, false},
      {"/farm.v1.ClientService/Backup", ROLE_ADMIN, false, false},
      {"/farm.v1.ClientService/CancelJob", ROLE_SUBMITTER, false, false},
      {"/farm.v1.ClientService/ChangeJob", ROLE_SUBMITTER, false, false},
      {"/farm.v1.ClientService/DrainNode", ROLE_ADMIN, false, false},
      {"/farm.v1.ClientService/ExplainTask", ROLE_VIEWER, false, false},
      {"/farm.v1.ClientService/GetFigures", ROLE_VIEWER, false, false},
      {"/farm.v1.ClientService/GetJob", ROLE_VIEWER, false, false},
      {"/farm.v1.ClientService/LimitNode", ROLE_ADMIN, false, false},
      {"/farm.v1.ClientService/ListJobs", ROLE_VIEWER, false, false},
      {"/farm.v1.ClientService/ListModels", ROLE_VIEWER, false, false},
      {"/farm.v1.ClientService/ListNodes", ROLE_VIEWER, false, false},
      {"/farm.v1.ClientService/ListOutputs", ROLE_VIEWER, false, false},
      {"/farm.v1.ClientService/ListPacks", ROLE_VIEWER, false, false},
      {"/farm.v1.ClientService/NamePack", ROLE_SUBMITTER, false, false},
      // A link that logs in as the caller, or as somebody who may less.
      {"/farm.v1.ClientService/OpenWeb", ROLE_VIEWER, false, false},
      {"/farm.v1.ClientService/ReadLog", ROLE_VIEWER, false, false},
      {"/farm.v1.ClientService/RemoveJob", ROLE_SUBMITTER, false, false},
      {"/farm.v1.ClientService/RemovePack", ROLE_SUBMITTER, false, false},
      {"/farm.v1.ClientService/RetryJob", ROLE_SUBMITTER, false, false},
      {"/farm.v1.ClientService/Submit", ROLE_SUBMITTER, false, false},
      {"/farm.v1.ClientService/WatchJob", ROLE_VIEWER, false, false},
      // What comes through it may do what the caller's role may.
      {"/farm.v1.ClientService/WebTunnel", ROLE_VIEWER, false, false},
      {"/farm.v1.TrustService/Invite", ROLE_ADMIN, false, false},
      {"/farm.v1.TrustService/ListMembers", ROLE_VIEWER, false, false},
      {"/farm.v1.TrustService/RemoveMember", ROLE_ADMIN, false, false},
      {"/farm.v1.TrustService/RenameMember", ROLE_ADMIN, false, false},
      // Nothing but the caller's own certificate.
      {"/farm.v1.TrustService/RenewCertificate", ROLE_VIEWER, true, true},
      {"/farm.v1.WorkerService/Session", ROLE_UNSPECIFIED, true, false},
      // Whether this coordinator leads: whoever knows several asks before each connection.
      {"/grpc.health.v1.Health/Check", ROLE_VIEWER, true, true},
      {"/grpc.health.v1.Health/Watch", ROLE_VIEWER, true, true},
  };
  return table;
}

absl::Status CheckAccess(absl::string_view method, const farm::v1::Member& member) {
  const std::vector<AccessRow>& table = AccessTable();
  const auto row =
      std::lower_bound(table.begin(), table.end(), method,
                       [](const AccessRow& each, absl::string_view wanted) { return each.method < wanted; });
  if (row == table.end() || row->method != method) {
    return absl::UnimplementedError(absl::StrCat("this coordinator has no method ", method));
  }
  switch (member.kind()) {
    case farm::v1::MEMBER_WORKER:
      if (row->workers) return absl::OkStatus();
      break;
    case farm::v1::MEMBER_COORDINATOR:
      if (row->coordinators) return absl::OkStatus();
      break;
    case farm::v1::MEMBER_USER:
      if (row->least != ROLE_UNSPECIFIED && member.role() >= row->least) return absl::OkStatus();
      if (row->least == ROLE_UNSPECIFIED) break;
      return absl::PermissionDeniedError(absl::StrCat(
          member.name(), " is a ", plan::RoleName(member.role()), " of this farm, and this takes the role ",
          plan::RoleName(row->least), ": ask the farm's owner to add you as one (storyctl user add --role ",
          plan::RoleName(row->least), ")"));
    default:
      break;
  }
  return absl::PermissionDeniedError(
      absl::StrCat("the certificate of ", member.name(), " is a ", plan::MemberKindName(member.kind()),
                   "'s, which may not call ", method, ": join with a code for what you want to do"));
}

}  // namespace storyfarm::coordinator
