// worker, user, coordinator and join: who belongs to the farm, and how others come to.
#include <unistd.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "pipeline/base/join_client.h"
#include "pipeline/base/membership.h"
#include "pipeline/base/secret_prompt.h"
#include "pipeline/plan/limits.h"
#include "pipeline/plan/names.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"

namespace storyfarm::storyctl {
namespace {

using Client = farm::v1::ClientService::StubInterface;
using Trust = farm::v1::TrustService::StubInterface;

farm::v1::MemberKind KindOf(int kind) { return static_cast<farm::v1::MemberKind>(kind); }

absl::StatusOr<farm::v1::Role> ParseRole(const std::string& name) {
  for (const auto role : {farm::v1::ROLE_VIEWER, farm::v1::ROLE_SUBMITTER, farm::v1::ROLE_ADMIN}) {
    if (plan::RoleName(role) == name) return role;
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no role '", name, "': say viewer, submitter or admin"));
}

// What is run on the other machine.
std::string JoinCommand(farm::v1::MemberKind kind) {
  switch (kind) {
    case farm::v1::MEMBER_WORKER:
      return "storyfarm-worker --join";
    case farm::v1::MEMBER_COORDINATOR:
      return "storyfarm-coordinator --join --redis URL --blobs DIR --network ADDRESS";
    default:
      return "storyctl join";
  }
}

nlohmann::json ToJson(const farm::v1::Member& member) {
  nlohmann::json json = {{"member_id", member.member_id()},
                         {"kind", plan::MemberKindName(member.kind())},
                         {"name", member.name()},
                         {"joined_unix_ms", member.joined_unix_ms()},
                         {"certificate_until_unix_ms", member.expires_unix_ms()}};
  if (member.kind() == farm::v1::MEMBER_USER) json["role"] = plan::RoleName(member.role());
  if (member.kind() == farm::v1::MEMBER_WORKER) json["node_id"] = member.node_id();
  return json;
}

std::string Day(uint64_t unix_ms) { return base::FormatUnixMs(static_cast<int64_t>(unix_ms)).substr(0, 10); }

std::string StateOf(const farm::v1::NodeStatus& node) {
  if (!node.connected()) return "away";
  return node.drained() ? "paused" : node.leaving() ? "leaving" : !node.resting().empty() ? "rests" : "connected";
}

std::string DevicesOf(const farm::v1::NodeStatus& node) {
  std::string text;
  for (const auto& device : node.devices()) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", plan::BackendName(device.report().backend()), " ",
                    device.report().name());
  }
  return text;
}

std::string UserAtHost(const Context& context) {
  char host[256] = {};
  if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0') return context.variables("USER");
  const std::string user = context.variables("USER");
  return user.empty() ? host : absl::StrCat(user, "@", host);
}

}  // namespace

Outcome Invite(const Context& context, const InviteOptions& options) {
  farm::v1::InviteRequest request;
  request.set_kind(KindOf(options.kind));
  request.set_name(options.name);
  if (request.kind() == farm::v1::MEMBER_USER) {
    const absl::StatusOr<farm::v1::Role> role = ParseRole(options.role);
    if (!role.ok()) return role.status();
    request.set_role(*role);
  }
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  const auto invited = farm.Call(&Trust::Invite, request);
  if (!invited.ok()) return invited.status();
  const uint64_t minutes = invited->expires_in_ms() / 60'000;
  const std::string command = JoinCommand(request.kind());
  if (context.json) {
    const std::vector<std::string> addresses(invited->addresses().begin(), invited->addresses().end());
    context.console.out() << Print({{"command", command},
                                    {"code", invited->code()},
                                    {"expires_in_s", invited->expires_in_ms() / 1000},
                                    {"addresses", addresses}})
                          << std::endl;
    return ExitCode::kOk;
  }
  context.console.out() << absl::StrCat("On the other machine, where storyfarm is installed, run\n\n    ", command,
                                        "\n\nand give it this code when it asks. It is good once, for ", minutes,
                                        " minutes; whoever has it can join.\n\n    ", invited->code(), "\n")
                        << std::endl;
  return ExitCode::kOk;
}

Outcome ListMembers(const Context& context, int kind) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  const auto response = farm.Call(&Trust::ListMembers, farm::v1::ListMembersRequest());
  if (!response.ok()) return response.status();
  nlohmann::json list = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows = {{"NAME", "ROLE", "JOINED", "CERTIFICATE UNTIL"}};
  for (const farm::v1::Member& member : response->members()) {
    if (member.kind() != KindOf(kind)) continue;
    list.push_back(ToJson(member));
    rows.push_back({member.name(), plan::RoleName(member.role()), Day(member.joined_unix_ms()),
                    Day(member.expires_unix_ms())});
  }
  const std::string called = plan::MemberKindName(KindOf(kind));
  if (context.json) {
    context.console.out() << Print({{absl::StrCat(called, "s"), list}}) << std::endl;
  } else if (rows.size() == 1) {
    context.console.Note(absl::StrCat("no ", called, " of another machine has joined: storyctl ", called, " add"));
  } else {
    context.console.out() << Table(rows) << std::flush;
  }
  return ExitCode::kOk;
}

Outcome ListWorkers(const Context& context) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  const auto members = farm.Call(&Trust::ListMembers, farm::v1::ListMembersRequest());
  if (!members.ok()) return members.status();
  const auto nodes = farm.Call(&Client::ListNodes, farm::v1::ListNodesRequest());
  if (!nodes.ok()) return nodes.status();
  std::map<std::string, const farm::v1::NodeStatus*> by_id;
  for (const farm::v1::NodeStatus& node : nodes->nodes()) by_id[node.node_id()] = &node;
  nlohmann::json list = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows = {{"NAME", "STATE", "JOINED", "CERTIFICATE UNTIL", "DEVICES", "LIMITS"}};
  for (const farm::v1::Member& member : members->members()) {
    if (member.kind() != farm::v1::MEMBER_WORKER) continue;
    const auto node = by_id.find(member.node_id());
    nlohmann::json json = ToJson(member);
    const farm::v1::NodeStatus known = node == by_id.end() ? farm::v1::NodeStatus() : *node->second;
    json["state"] = StateOf(known);
    json["limits"] = ToJson(known.limits());
    list.push_back(json);
    rows.push_back({member.name(), StateOf(known), Day(member.joined_unix_ms()), Day(member.expires_unix_ms()),
                    DevicesOf(known), plan::LimitsInWords(known.limits())});
    by_id.erase(member.node_id());
  }
  for (const auto& [id, node] : by_id) {
    list.push_back({{"name", node->name()},
                    {"node_id", id},
                    {"state", StateOf(*node)},
                    {"kind", "worker"},
                    {"limits", ToJson(node->limits())}});
    rows.push_back({node->name(), StateOf(*node), "on the farm's machine", "", DevicesOf(*node),
                    plan::LimitsInWords(node->limits())});
  }
  if (context.json) {
    context.console.out() << Print({{"workers", list}}) << std::endl;
  } else if (rows.size() == 1) {
    context.console.Note("no worker yet: start storyfarm-worker here, or storyctl worker add for another machine");
  } else {
    context.console.out() << Table(rows) << std::flush;
  }
  return ExitCode::kOk;
}

Outcome RenameMember(const Context& context, int kind, const std::string& member, const std::string& name) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::RenameMemberRequest request;
  request.set_kind(KindOf(kind));
  request.set_member(member);
  request.set_name(name);
  const auto renamed = farm.Call(&Trust::RenameMember, request);
  if (!renamed.ok()) return renamed.status();
  if (context.json) {
    context.console.out() << Print(ToJson(*renamed)) << std::endl;
  } else {
    context.console.out() << absl::StrCat(member, " is ", name, " from now on") << std::endl;
  }
  return ExitCode::kOk;
}

Outcome RemoveMember(const Context& context, int kind, const std::string& member) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::RemoveMemberRequest request;
  request.set_kind(KindOf(kind));
  request.set_member(member);
  const auto removed = farm.Call(&Trust::RemoveMember, request);
  if (!removed.ok()) return removed.status();
  if (context.json) {
    context.console.out() << Print({{"member_id", removed->member_id()}, {"removed", true}}) << std::endl;
  } else {
    const char* what = KindOf(kind) == farm::v1::MEMBER_WORKER ? "; what it was drawing goes to others" : "";
    context.console.out() << absl::StrCat(member, " is no member of the farm any more", what) << std::endl;
  }
  return ExitCode::kOk;
}

Outcome Join(const Context& context, const JoinOptions& options) {
  const absl::StatusOr<std::string> data = base::DefaultDataFolder(context.variables, "storyctl");
  if (!data.ok()) return data.status();
  const absl::StatusOr<std::string> code = base::ReadSecretLine("Code (from storyctl user add): ");
  if (!code.ok()) return code.status();
  base::JoinOptions join;
  join.code = *code;
  join.kind = farm::v1::MEMBER_USER;
  join.name = options.name.empty() ? UserAtHost(context) : options.name;
  join.trust_folder = base::TrustFolder(*data);
  const absl::StatusOr<base::Joined> joined = base::JoinFarm(context.env, join);
  if (!joined.ok()) return joined.status();
  if (context.json) {
    nlohmann::json json = ToJson(joined->member);
    json["farm"] = joined->farm;
    context.console.out() << Print(json) << std::endl;
  } else {
    context.console.out() << absl::StrCat("Joined the farm at ", joined->farm, " as ", joined->member.name(), ", ",
                                          plan::RoleName(joined->member.role()),
                                          ". storyctl asks that farm from now on; --farm or STORYFARM_FARM names "
                                          "another.")
                          << std::endl;
  }
  return ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
