#include "coordinator/core/roster.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {

using farm::v1::Member;
using farm::v1::Record;

const Member* Roster::Find(farm::v1::MemberKind kind, const std::string& member) const {
  for (const auto& [id, known] : members_) {
    if (known.kind() == kind && (id == member || known.name() == member)) return &known;
  }
  return nullptr;
}

const Member* Roster::FindWorker(const std::string& node_id) const {
  for (const auto& [id, known] : members_) {
    if (known.kind() == farm::v1::MEMBER_WORKER && known.node_id() == node_id) return &known;
  }
  return nullptr;
}

std::vector<std::string> Roster::WorkerSerials() const {
  std::vector<std::string> serials;
  for (const auto& [id, known] : members_) {
    if (known.kind() != farm::v1::MEMBER_WORKER) continue;
    serials.insert(serials.end(), known.serials().begin(), known.serials().end());
  }
  return serials;
}

absl::Status Roster::Add(const Member& member) {
  if (authority_digest_.empty()) return absl::DataLossError("a member of a farm that has no authority");
  if (member.member_id().empty() || member.name().empty() || member.serials_size() != 1) {
    return absl::DataLossError("a member without an id, a name or a certificate");
  }
  const Member* before = member.kind() == farm::v1::MEMBER_WORKER ? FindWorker(member.node_id()) : nullptr;
  const Member* namesake = Find(member.kind(), member.name());
  if (members_.count(member.member_id()) > 0 || (namesake != nullptr && namesake != before)) {
    return absl::DataLossError(absl::StrCat("a second member ", member.name()));
  }
  if (before != nullptr) members_.erase(std::string(before->member_id()));
  members_[member.member_id()] = member;
  return absl::OkStatus();
}

absl::Status Roster::Apply(const Record& record) {
  const auto find = [this](const std::string& id) {
    const auto found = members_.find(id);
    return found == members_.end() ? nullptr : &found->second;
  };
  const absl::Status unknown = absl::DataLossError("a change to a member that there is not");
  switch (record.fact_case()) {
    case Record::kAuthorityChosen:
      if (!members_.empty()) return absl::DataLossError("another authority, but members of the one before");
      authority_digest_ = record.authority_chosen().digest();
      return absl::OkStatus();
    case Record::kMemberAdded:
      return Add(record.member_added().member());
    case Record::kMemberRenamed: {
      Member* member = find(record.member_renamed().member_id());
      if (member == nullptr || Find(member->kind(), record.member_renamed().name()) != nullptr) return unknown;
      member->set_name(record.member_renamed().name());
      return absl::OkStatus();
    }
    case Record::kMemberRenewed: {
      Member* member = find(record.member_renewed().member_id());
      if (member == nullptr) return unknown;
      member->clear_serials();
      member->add_serials(record.member_renewed().asked_with_serial());
      member->add_serials(record.member_renewed().serial());
      member->set_expires_unix_ms(record.member_renewed().expires_unix_ms());
      return absl::OkStatus();
    }
    case Record::kMemberRemoved:
      return members_.erase(record.member_removed().member_id()) > 0 ? absl::OkStatus() : unknown;
    default:
      return absl::DataLossError("a fact that is not of a roster");
  }
}

void Roster::Write(ByteWriter& out) const {
  out.String(authority_digest_);
  out.Number(members_.size());
  for (const auto& [id, member] : members_) out.String(member.SerializeAsString());
}

bool Roster::Read(ByteReader& in) {
  authority_digest_ = in.String();
  for (uint64_t left = in.Count(); left > 0; --left) {
    Member member;
    if (!member.ParseFromString(in.String())) return false;
    members_[member.member_id()] = std::move(member);
  }
  return in.ok();
}

}  // namespace storyfarm::coordinator
