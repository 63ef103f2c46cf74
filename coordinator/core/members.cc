// Whom the farm trusts: members come by codes (coordinator/rpc/join_desk.h), get new names and certificates, and go.
#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {
namespace {

// What a certificate's subject takes (RFC 5280, ub-common-name).
constexpr size_t kMemberNameBytes = 64;

absl::Status NoSuch(farm::v1::MemberKind kind, const std::string& name) {
  const std::string called = plan::MemberKindName(kind);
  return absl::NotFoundError(
      absl::StrCat("no ", called, " ", name, " has joined the farm: storyctl ", called, " list says who has"));
}

// Of certificates with which it may read from workers; empty where it is none.
std::set<std::string> ReaderSerials(const farm::v1::Member* member) {
  if (member == nullptr || member->kind() != farm::v1::MEMBER_WORKER) return {};
  return {member->serials().begin(), member->serials().end()};
}

}  // namespace

absl::Status CheckMemberName(const std::string& name) {
  bool bad = name.empty() || name.size() > kMemberNameBytes || name.front() == ' ' || name.back() == ' ';
  for (const char c : name) bad |= static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '/';
  if (!bad) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a name has 1 to ", kMemberNameBytes, " bytes, no slash and no space at its ends: choose another"));
}

absl::Status Farm::Parts::NeedFreeName(farm::v1::MemberKind kind, const std::string& name) const {
  if (absl::Status status = CheckMemberName(name); !status.ok()) return status;
  if (state.roster().Find(kind, name) == nullptr) return absl::OkStatus();
  const std::string called = plan::MemberKindName(kind);
  return absl::AlreadyExistsError(absl::StrCat("the name ", name, " is taken by another ", called,
                                               ": choose another, or remove that one first (storyctl ", called,
                                               " remove ", name, ")"));
}

void Farm::Parts::On(const ChooseAuthority& input) {
  const Roster& roster = state.roster();
  if (roster.authority_digest() == input.digest) return Answer(input.request, absl::OkStatus());
  if (!roster.members().empty()) {
    return Answer(input.request, absl::FailedPreconditionError(absl::StrCat(
                                     roster.members().size(), " members of this farm trust another authority")));
  }
  farm::v1::Record record;
  record.mutable_authority_chosen()->set_digest(input.digest);
  Commit(std::move(record));
  Answer(input.request, absl::OkStatus());
}

void Farm::Parts::On(AddMember& input) {
  farm::v1::Member& member = input.member;
  const farm::v1::Member* before =
      member.kind() == farm::v1::MEMBER_WORKER ? state.roster().FindWorker(member.node_id()) : nullptr;
  if (state.roster().members().count(member.member_id()) > 0) {
    return Answer(input.request, absl::AbortedError("the drawn member id is taken: join again"));
  }
  // A machine that joins again may keep its name.
  if (before == nullptr || before->name() != member.name()) {
    if (absl::Status status = NeedFreeName(member.kind(), member.name()); !status.ok()) {
      return Answer(input.request, status);
    }
  }
  if (before == nullptr && state.roster().members().size() >= limits.members) {
    return Answer(input.request, absl::ResourceExhaustedError(
                                     absl::StrCat("the farm already has ", limits.members, " members: remove some")));
  }
  const std::string id = member.member_id();
  const std::string node_id = before != nullptr ? member.node_id() : "";
  const std::set<std::string> serials_before = ReaderSerials(before), serials = ReaderSerials(&member);
  farm::v1::Record record;
  *record.mutable_member_added()->mutable_member() = std::move(member);
  Commit(std::move(record));
  TellReaders(serials_before, serials);
  if (!node_id.empty()) {
    CutOff(node_id, absl::AbortedError("this machine joined again: what runs under its earlier certificate ends"));
  }
  Answer(input.request, absl::OkStatus(), id);
}

void Farm::Parts::On(const RenameMember& input) {
  const farm::v1::Member* member = state.roster().Find(input.kind, input.member);
  if (member == nullptr) return Answer(input.request, NoSuch(input.kind, input.member));
  const std::string id = member->member_id();
  if (member->name() == input.name) return Answer(input.request, absl::OkStatus(), id);
  if (absl::Status status = NeedFreeName(input.kind, input.name); !status.ok()) return Answer(input.request, status);
  const auto node = fleet.nodes.find(member->node_id());
  farm::v1::Record record;
  record.mutable_member_renamed()->set_member_id(id);
  record.mutable_member_renamed()->set_name(input.name);
  Commit(std::move(record));
  if (node != fleet.nodes.end()) node->second.name = input.name;
  Answer(input.request, absl::OkStatus(), id);
}

void Farm::Parts::On(const RenewMember& input) {
  const auto member = state.roster().members().find(input.member_id);
  if (member == state.roster().members().end()) {
    return Answer(input.request, absl::NotFoundError("the member was removed from the farm meanwhile"));
  }
  const std::set<std::string> serials_before = ReaderSerials(&member->second);
  farm::v1::Record record;
  farm::v1::MemberRenewed& fact = *record.mutable_member_renewed();
  fact.set_member_id(input.member_id);
  fact.set_asked_with_serial(input.asked_with_serial);
  fact.set_serial(input.serial);
  fact.set_expires_unix_ms(input.expires_unix_ms);
  Commit(std::move(record));
  TellReaders(serials_before, ReaderSerials(&member->second));
  Answer(input.request, absl::OkStatus(), input.member_id);
}

void Farm::Parts::On(const RemoveMember& input) {
  const farm::v1::Member* member = state.roster().Find(input.kind, input.member);
  if (member == nullptr) return Answer(input.request, NoSuch(input.kind, input.member));
  const std::string id = member->member_id();
  const std::string node_id = member->kind() == farm::v1::MEMBER_WORKER ? member->node_id() : "";
  const std::set<std::string> serials_before = ReaderSerials(member);
  farm::v1::Record record;
  record.mutable_member_removed()->set_member_id(id);
  Commit(std::move(record));
  TellReaders(serials_before, {});
  if (!node_id.empty()) CutOff(node_id, absl::UnauthenticatedError(kRemovedFromFarm));
  Answer(input.request, absl::OkStatus(), id);
}

void Farm::Parts::TellReaders(const std::set<std::string>& before, const std::set<std::string>& after) {
  farm::v1::CoordinatorMessage message;
  farm::v1::ReadersChanged& change = *message.mutable_readers();
  for (const std::string& serial : after) {
    if (before.count(serial) == 0) change.add_added(serial);
  }
  for (const std::string& serial : before) {
    if (after.count(serial) == 0) change.add_removed(serial);
  }
  if (change.added().empty() && change.removed().empty()) return;
  for (const std::string& id : fleet.ServingElsewhere()) Send(fleet.nodes.at(id).session, message);
}

void Farm::Parts::CutOff(const std::string& node_id, const absl::Status& why) {
  const auto found = fleet.nodes.find(node_id);
  if (const std::set<Token>* held = state.GrantsOf(node_id)) {
    farm::v1::Failure failure;
    failure.set_kind(farm::v1::PREEMPTED);
    failure.set_message(absl::StrCat(found == fleet.nodes.end() ? node_id : found->second.name,
                                     " lost its place in the farm while it worked on it"));
    const std::set<Token> tokens = *held;
    for (const Token& token : tokens) {
      const LiveGrant grant = state.grants().at(token);
      for (const uint32_t number : grant.numbers) {
        GiveBack(token, MakeTask(grant.job_id, grant.kind, number), failure, false);
      }
    }
  }
  schedule = true;
  if (found == fleet.nodes.end()) return;
  Node& node = found->second;
  pool.Leave(node);
  fleet.ServesNoMore(node_id);
  if (node.session != 0) {
    fleet.node_of_session.erase(node.session);
    CloseWith(node.session, why);
  }
  fleet.nodes.erase(found);
}

std::vector<farm::v1::Member> Farm::ListMembers() const {
  std::vector<farm::v1::Member> members;
  for (const auto& [id, member] : parts_->state.roster().members()) members.push_back(member);
  return members;
}

const std::string& Farm::AuthorityDigest() const { return parts_->state.roster().authority_digest(); }

absl::Status Farm::CheckFreeName(farm::v1::MemberKind kind, const std::string& name) const {
  return parts_->NeedFreeName(kind, name);
}

}  // namespace storyfarm::coordinator
