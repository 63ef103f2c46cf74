// How identities come from packs, and packs come and go.
//
//   a result is taken ── its key is new ─> PackStored ──> every waiting identity of that key: PackUsed
//   a job is accepted ── there is a pack of its identity's key, worth fetching ─────────────> PackUsed
//   a person removes it, or the budget is over and nobody used one longer ago ──> PackRemoved
//   a submission found blobs of it missing ──> PackRemoved; where it has a name: PackLost, until it is computed again
//   a device found blobs of a bank missing ──> the same, and IdentityReopened in its job
//
// Of several jobs that want one identity at a time the first computes it, and the others wait as long as none of them
// would be done sooner by itself (scheduler.cc).
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/offer.h"
#include "coordinator/core/parts.h"
#include "pipeline/plan/names.h"
#include "pipeline/plan/pack.h"

namespace storyfarm::coordinator {

using farm::v1::TASK_IDENTITY;

namespace {

// Blocked ones wait for embeddings, which a pack makes needless.
bool Waits(const Job& job, uint32_t identity) {
  const uint8_t state = job.slot(TASK_IDENTITY, identity)->state;
  return state == farm::v1::TASK_READY || state == farm::v1::TASK_BLOCKED;
}

}  // namespace

bool Farm::Parts::WorthTaking(const Job& job, uint32_t number, const Pack& pack) {
  const farm::v1::IdentityTask& task = job.head().identities(static_cast<int>(number));
  if (!plan::ResultFromPack(task, pack.manifest).has_value()) return false;
  if (!task.pack().empty()) return true;
  const auto shape = planner->ShapeOf(job.View(), TASK_IDENTITY, {&number, 1});
  if (!shape.ok()) return true;
  const farm::v1::ModelManifest& model = job.head().model();
  OfferSource source(&state, &fleet.plans);
  bool asked = false;
  for (const auto& [id, node] : fleet.nodes) {
    if (node.session == 0) continue;
    for (const auto& [index, device] : node.devices) {
      const Offer offer = source.Make(model, *shape, node, device);
      if (!offer.usable) continue;
      asked = true;
      const uint64_t missing_bytes = node.MissingBytes(pack.manifest.bank());
      if (plan::ChooseFetchOrCompute(device.report, missing_bytes, offer.task_s).fetch) return true;
    }
  }
  return !asked;
}

void Farm::Parts::TakePack(const std::string& job_id, uint32_t number) {
  farm::v1::Record record;
  record.mutable_pack_used()->set_job_id(job_id);
  record.mutable_pack_used()->set_number(number);
  record.mutable_pack_used()->set_unix_ms(now.unix_ms);
  Commit(std::move(record));
  const Job& job = *state.FindJob(job_id);
  if (const farm::v1::Bank* bank = job.BankOf(number); bank != nullptr && !bank->steps().empty()) {
    for (const auto& [id, node] : fleet.nodes) {
      if (node.session != 0 && node.MissingBytes(*bank) == 0) fleet.HasBanks(job.ordinal(), id);
    }
  }
  changed.insert(job_id);
  schedule = true;
}

void Farm::Parts::TakePacks(const std::string& job_id) {
  const Job& job = *state.FindJob(job_id);
  for (uint32_t i = 0; i < job.size(TASK_IDENTITY); ++i) {
    if (!Waits(job, i)) continue;
    const Pack* pack = state.packs().Whole(job.head().identities(static_cast<int>(i)).pack_key());
    if (pack != nullptr && WorthTaking(job, i, *pack)) TakePack(job_id, i);
  }
  EndJobIfDone(job_id);
}

std::optional<farm::v1::PackManifest> Farm::Parts::PackOf(const Job& job, const farm::v1::Result& result,
                                                          const Node& node, uint32_t device) const {
  if (!result.has_identity() || result.identity().bank().steps().empty()) return std::nullopt;
  const uint32_t number = result.task().number();
  const farm::v1::IdentityTask& task = job.head().identities(static_cast<int>(number));
  if (task.pack_key().empty() || !task.read_by_others()) return std::nullopt;
  if (state.packs().Whole(task.pack_key()) != nullptr) return std::nullopt;
  farm::v1::PackManifest pack = plan::MakePack(job.View(), number, result.identity());
  pack.set_node(node.name);
  pack.set_device(device);
  pack.set_created_unix_ms(now.unix_ms);
  return pack;
}

void Farm::Parts::KeepPack(farm::v1::PackManifest pack) {
  const std::string key = pack.key();
  farm::v1::Record record;
  *record.mutable_pack_stored()->mutable_manifest() = std::move(pack);
  Commit(std::move(record));
  const auto* same = state.IdentitiesOf(key);
  if (same == nullptr) return;
  const std::set<std::pair<uint64_t, uint32_t>> waiting = *same;
  for (const auto& [ordinal, number] : waiting) {
    const std::string job_id = state.live().at(ordinal);
    const Job& job = *state.FindJob(job_id);
    if (!Waits(job, number)) continue;
    if (!WorthTaking(job, number, *state.packs().Find(key))) continue;
    TakePack(job_id, number);
    EndJobIfDone(job_id);
  }
}

std::optional<PackUnderWay> Farm::Parts::FindPackUnderWay(const Job& job, uint32_t number) const {
  const auto* same = state.IdentitiesOf(job.head().identities(static_cast<int>(number)).pack_key());
  if (same == nullptr) return std::nullopt;
  std::optional<PackUnderWay> soonest;
  for (const auto& [ordinal, identity] : *same) {
    const Job& other = *state.FindJob(state.live().at(ordinal));
    const Slot& slot = *other.slot(TASK_IDENTITY, identity);
    const bool keeps = other.head().identities(static_cast<int>(identity)).read_by_others();
    if (ordinal == job.ordinal() || slot.state != farm::v1::TASK_GRANTED || !keeps) continue;
    const auto node = fleet.nodes.find(other.nodes()[slot.node - 1].id);
    double end_s = 0;  // where nothing has been heard of its node since a restart: its lease bounds the waiting
    if (node != fleet.nodes.end()) {
      for (const Holding& holding : HoldingsOf(node->second, slot.device)) {
        if (holding.token == slot.token) end_s = holding.end_s;
      }
    }
    if (!soonest.has_value() || end_s < soonest->end_s) {
      soonest = {plan::TaskName(other.head().job_id(), TASK_IDENTITY, identity), end_s};
    }
  }
  return soonest;
}

void Farm::Parts::RemovePack(const std::string& key) {
  farm::v1::Record record;
  record.mutable_pack_removed()->set_key(key);
  Commit(std::move(record));
}

void Farm::Parts::LosePacks(const std::vector<LostPack>& lost) {
  for (const LostPack& each : lost) {
    const Pack* pack = state.packs().Whole(each.key);
    // It may have been computed anew since it was looked at.
    if (pack != nullptr && pack->manifest.job_id() == each.job_id) LosePack(*pack);
  }
}

void Farm::Parts::LosePack(const Pack& pack) {
  const std::string key = pack.manifest.key();
  if (pack.name.empty()) return RemovePack(key);
  farm::v1::Record record;
  record.mutable_pack_lost()->set_key(key);
  Commit(std::move(record));
}

void Farm::Parts::ReopenIdentities(const std::string& job_id, const std::string& missing_digest) {
  const Job& job = *state.FindJob(job_id);
  const auto is_missing = [&](const farm::v1::BlobRef& step) { return step.digest() == missing_digest; };
  for (uint32_t i = 0; i < job.size(TASK_IDENTITY) && state.live().count(job.ordinal()) > 0; ++i) {
    const farm::v1::Bank* bank = job.BankOf(i);
    if (bank == nullptr || std::none_of(bank->steps().begin(), bank->steps().end(), is_missing)) continue;
    const farm::v1::IdentityTask& task = job.head().identities(static_cast<int>(i));
    if (const Pack* pack = state.packs().Whole(task.pack_key())) {
      const auto& steps = pack->manifest.bank().steps();
      if (std::any_of(steps.begin(), steps.end(), is_missing)) LosePack(*pack);
    }
    CallBack(job_id, i);
    farm::v1::Record record;
    record.mutable_identity_reopened()->set_job_id(job_id);
    record.mutable_identity_reopened()->set_number(i);
    Commit(std::move(record));
    changed.insert(job_id);
    if (!task.pack().empty()) {
      FailTask(MakeTask(job_id, TASK_IDENTITY, i), farm::v1::BLOB_UNAVAILABLE,
               absl::StrCat("files of the pack '", task.pack(), "' are missing on the farm, and only the story that it "
                            "was made for can compute it again"));
    } else {
      TakePacks(job_id);  // another job may have computed it anew
    }
  }
}

absl::Status Farm::Parts::NeedNamedPacks(const farm::v1::JobSpec& spec) const {
  for (const farm::v1::IdentityTask& task : spec.identities()) {
    if (task.pack().empty() || state.packs().Whole(task.pack_key()) != nullptr) continue;
    return absl::FailedPreconditionError(absl::StrCat("the pack '", task.pack(),
                                                      "' has just been removed, or files of it are missing: see "
                                                      "storyctl characters list, and submit again"));
  }
  return absl::OkStatus();
}

absl::StatusOr<const Pack*> Farm::Parts::FindPack(const std::string& name_or_key) const {
  if (const Pack* named = state.packs().Named(name_or_key)) return named;
  const Pack* found = nullptr;
  if (plan::ReadsAsKey(name_or_key)) {
    for (const auto& [key, pack] : state.packs().packs()) {
      if (!plan::KeyBegins(key, name_or_key)) continue;
      if (found != nullptr) {
        return absl::InvalidArgumentError(
            absl::StrCat("the keys of several packs begin with ", name_or_key, ": write more digits"));
      }
      found = &pack;
    }
  }
  if (found != nullptr) return found;
  return absl::NotFoundError(absl::StrCat("the farm keeps no character pack '", name_or_key,
                                          "': storyctl characters list shows those that it keeps"));
}

void Farm::Parts::On(const NamePack& input) {
  const auto pack = FindPack(input.pack);
  if (!pack.ok()) return Answer(input.request, pack.status());
  if (const std::string wrong = plan::WrongPackName(input.name); !wrong.empty()) {
    return Answer(input.request, absl::InvalidArgumentError(wrong));
  }
  const std::string key = (*pack)->manifest.key();
  const Pack* other = state.packs().Named(input.name);
  if (other == *pack) return Answer(input.request, absl::OkStatus(), key);
  if (other != nullptr) {
    return Answer(input.request,
                  absl::AlreadyExistsError(absl::StrCat("the name ", input.name, " stands for the pack ",
                                                        plan::ShortKey(other->manifest.key()), " of ",
                                                        other->manifest.character(), ": choose another one")));
  }
  if ((*pack)->name.empty() && state.packs().names() >= limits.packs) {
    return Answer(input.request, absl::ResourceExhaustedError(absl::StrCat(
                                     limits.packs, " packs have names already: remove some of them")));
  }
  farm::v1::Record record;
  record.mutable_pack_named()->set_key(key);
  record.mutable_pack_named()->set_name(input.name);
  Commit(std::move(record));
  Answer(input.request, absl::OkStatus(), key);
}

void Farm::Parts::On(const ForgetPack& input) {
  const auto pack = FindPack(input.pack);
  if (!pack.ok()) return Answer(input.request, pack.status());
  const std::string key = (*pack)->manifest.key();
  if (const auto* users = state.IdentitiesOf(key)) {
    const std::string& job_id = state.live().at(users->begin()->first);
    return Answer(input.request, absl::FailedPreconditionError(absl::StrCat(
                                     "job ", job_id, " needs the pack ", plan::ShortKey(key), " of ",
                                     (*pack)->manifest.character(), ": wait for its end, or stop it with storyctl "
                                     "cancel ", job_id, ", and remove the pack then")));
  }
  RemovePack(key);
  Answer(input.request, absl::OkStatus(), key);
}

void Farm::Parts::TrimPacks() {
  const PackShelf& shelf = state.packs();
  for (size_t i = 0; i < limits.forgets_a_tick; ++i) {
    if (shelf.size_bytes() <= limits.pack_budget_bytes && shelf.packs().size() <= limits.packs) return;
    const auto oldest = std::find_if(shelf.disposable().begin(), shelf.disposable().end(), [this](const auto& pack) {
      return state.IdentitiesOf(pack.second) == nullptr;
    });
    if (oldest == shelf.disposable().end()) return;
    RemovePack(std::string(oldest->second));
  }
}

farm::v1::PackStatus Farm::Parts::StatusOf(const Pack& pack) const {
  farm::v1::PackStatus status;
  *status.mutable_manifest() = pack.manifest;
  status.set_name(pack.name);
  status.set_last_used_unix_ms(pack.last_used_unix_ms);
  status.set_lost(pack.lost);
  if (const auto* users = state.IdentitiesOf(pack.manifest.key())) {
    for (const auto& [ordinal, number] : *users) status.add_live_jobs(state.live().at(ordinal));
  }
  return status;
}

std::vector<farm::v1::PackStatus> Farm::ListPacks() const {
  std::vector<const Pack*> packs;
  for (const auto& [key, pack] : parts_->state.packs().packs()) packs.push_back(&pack);
  std::stable_sort(packs.begin(), packs.end(), [](const Pack* a, const Pack* b) {
    return a->last_used_unix_ms > b->last_used_unix_ms;
  });
  std::vector<farm::v1::PackStatus> statuses;
  for (const Pack* pack : packs) {
    farm::v1::PackStatus& status = statuses.emplace_back(parts_->StatusOf(*pack));
    status.mutable_manifest()->mutable_bank()->clear_steps();
    status.mutable_manifest()->clear_frames();
  }
  return statuses;
}

absl::StatusOr<farm::v1::PackStatus> Farm::GetPack(const std::string& name_or_key) const {
  const auto pack = parts_->FindPack(name_or_key);
  if (!pack.ok()) return pack.status();
  return parts_->StatusOf(**pack);
}

const farm::v1::PackManifest* Farm::FindPack(const std::string& key) const {
  const Pack* pack = parts_->state.packs().Whole(key);
  return pack == nullptr ? nullptr : &pack->manifest;
}

}  // namespace storyfarm::coordinator
