// The fold of what happens to CharacterPacks.
#include "absl/strings/str_cat.h"
#include "coordinator/core/state.h"
#include "pipeline/plan/pack.h"

namespace storyfarm::coordinator {

const std::set<std::pair<uint64_t, uint32_t>>* State::IdentitiesOf(const std::string& pack_key) const {
  const auto identities = identities_of_pack_.find(pack_key);
  return identities == identities_of_pack_.end() ? nullptr : &identities->second;
}

void State::AddIdentities(const Job& job) {
  for (uint32_t i = 0; i < job.size(farm::v1::TASK_IDENTITY); ++i) {
    const std::string& key = job.head().identities(static_cast<int>(i)).pack_key();
    if (!key.empty()) identities_of_pack_[key].emplace(job.ordinal(), i);
  }
}

void State::RemoveIdentities(const Job& job) {
  for (uint32_t i = 0; i < job.size(farm::v1::TASK_IDENTITY); ++i) {
    const auto of_key = identities_of_pack_.find(job.head().identities(static_cast<int>(i)).pack_key());
    if (of_key == identities_of_pack_.end()) continue;
    of_key->second.erase({job.ordinal(), i});
    if (of_key->second.empty()) identities_of_pack_.erase(of_key);
  }
}

absl::Status State::ApplyPackFact(const farm::v1::Record& record) {
  switch (record.fact_case()) {
    case farm::v1::Record::kPackStored:
      return packs_.Store(record.pack_stored().manifest());
    case farm::v1::Record::kPackUsed:
      return UsePack(record.pack_used());
    case farm::v1::Record::kPackNamed:
      return packs_.Name(record.pack_named().key(), record.pack_named().name());
    case farm::v1::Record::kPackRemoved:
      return packs_.Remove(record.pack_removed().key());
    case farm::v1::Record::kPackLost:
      return packs_.Lose(record.pack_lost().key());
    case farm::v1::Record::kIdentityReopened:
      return Reopen(record.identity_reopened());
    default:
      return absl::DataLossError("a fact that is not of packs");
  }
}

absl::Status State::UsePack(const farm::v1::PackUsed& fact) {
  Job* job = LiveJob(fact.job_id());
  const Slot* slot = job == nullptr ? nullptr : job->slot(farm::v1::TASK_IDENTITY, fact.number());
  if (slot == nullptr || (slot->state != farm::v1::TASK_READY && slot->state != farm::v1::TASK_BLOCKED)) {
    return absl::DataLossError("a pack stood in for an identity that does not wait");
  }
  const farm::v1::IdentityTask& task = job->head().identities(static_cast<int>(fact.number()));
  const Pack* pack = packs_.Whole(task.pack_key());
  if (pack == nullptr) {
    return absl::DataLossError(absl::StrCat("pack ", plan::ShortKey(task.pack_key()), " was taken, but is not there"));
  }
  std::optional<farm::v1::IdentityResult> result = plan::ResultFromPack(task, pack->manifest);
  if (!result.has_value()) {
    return absl::DataLossError(absl::StrCat("pack ", plan::ShortKey(task.pack_key()), " lacks identity frames"));
  }
  for (auto& frame : *result->mutable_frames()) frame.set_finished_unix_ms(fact.unix_ms());
  farm::v1::PackUse use;
  use.set_key(task.pack_key());
  use.set_name(pack->name);
  use.set_job_id(pack->manifest.job_id());
  use.set_saved_ms(pack->manifest.render_ms());
  job->IdentityTaken(fact.number(), *result, use);
  packs_.Use(task.pack_key(), fact.unix_ms());
  return absl::OkStatus();
}

absl::Status State::Reopen(const farm::v1::IdentityReopened& fact) {
  Job* job = LiveJob(fact.job_id());
  const Slot* slot = job == nullptr ? nullptr : job->slot(farm::v1::TASK_IDENTITY, fact.number());
  if (slot == nullptr || slot->state != farm::v1::TASK_DONE) {
    return absl::DataLossError("an identity was opened again that is not done");
  }
  job->IdentityReopened(fact.number());
  return absl::OkStatus();
}

}  // namespace storyfarm::coordinator
