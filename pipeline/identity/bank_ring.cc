#include "pipeline/identity/bank_ring.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::identity {

BankRing::BankRing(base::Env& env, Options options, std::vector<LoadSlot*> slots)
    : env_(env), options_(std::move(options)), slots_(std::move(slots)), arrived_(slots_.size()) {
  const int threads = std::clamp<int>(options_.threads, 1, static_cast<int>(slots_.size()));
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { ReadAhead(); });
}

BankRing::~BankRing() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void BankRing::ReadAhead() {
  while (const std::optional<Claim> claim = ClaimNext()) {
    absl::StatusOr<Loaded> loaded = Load(*claim);
    {
      const std::lock_guard lock(mutex_);
      if (loaded.ok()) {
        arrived_[loaded->slot] = *loaded;
      } else if (!failed_at_ || claim->number < *failed_at_) {
        failed_at_ = claim->number;
        failure_ = loaded.status();
      }
    }
    changed_.notify_all();
  }
}

std::optional<BankRing::Claim> BankRing::ClaimNext() {
  const std::lock_guard claiming(claiming_);
  Claim claim;
  {
    std::unique_lock lock(mutex_);
    const auto over = [&] { return stopping_ || failed_at_ || claimed_ == options_.loads.size(); };
    changed_.wait(lock, [&] { return over() || claimed_ < released_ + slots_.size(); });
    if (over()) return std::nullopt;
    claim.number = claimed_++;
  }
  claim.file = FileOf(options_.loads[claim.number].step);
  return claim;
}

absl::StatusOr<std::shared_ptr<const BankStepFile>> BankRing::FileOf(int64_t step) {
  if (open_step_ == step) return open_file_;
  const absl::StatusOr<std::string> path = options_.path_of(step);
  if (!path.ok()) return path.status();
  if (path->empty()) return std::shared_ptr<const BankStepFile>();
  auto file = BankStepFile::Open(env_, *path, options_.origin, static_cast<int>(step));
  if (!file.ok()) return file.status();
  if ((*file)->halves() != options_.halves) {
    return absl::InvalidArgumentError(absl::StrCat("identity bank ", *path, ": it was made with guidance ",
                                                   (*file)->halves() == 2 ? "on" : "off", ", this run has it ",
                                                   options_.halves == 2 ? "on" : "off"));
  }
  open_step_ = step;
  open_file_ = *std::move(file);
  return open_file_;
}

std::string BankRing::PlaceOf(const BankLoad& load) const {
  const size_t layer = static_cast<size_t>(load.layer);
  return absl::StrCat("step ", load.step, ", layer ", load.layer,
                      layer < options_.layer_names.size() ? absl::StrCat(" (", options_.layer_names[layer], ")") : "");
}

absl::Status BankRing::Lacks(const BankLoad& load, const std::string& path) const {
  return absl::InvalidArgumentError(
      absl::StrCat("identity bank", path.empty() ? "" : absl::StrCat(" ", path), ": no entry for ", PlaceOf(load),
                   ", which this run reads: it was written under other gates or steps. Render the character's identity "
                   "frames again"));
}

absl::StatusOr<BankRing::Loaded> BankRing::Load(const Claim& claim) {
  const BankLoad& load = options_.loads[claim.number];
  if (!claim.file.ok()) {
    return absl::Status(claim.file.status().code(),
                        absl::StrCat(claim.file.status().message(), " (", PlaceOf(load), ")"));
  }
  if (*claim.file == nullptr) return Lacks(load, "");
  const BankStepFile& file = **claim.file;
  Loaded loaded{.slot = claim.number % slots_.size()};
  for (int64_t h = 0; h < load.halves; ++h) {
    const BankPart* part = file.Find(load.layer, load.first_half + h);
    if (part == nullptr) return Lacks(load, file.path());
    if (h > 0 && part->shape != loaded.shape) {
      return absl::DataLossError(absl::StrCat("identity bank ", file.path(), ": the halves of ", PlaceOf(load),
                                              " differ in shape: the program that wrote it is at fault"));
    }
    loaded.shape = part->shape;
  }
  const uint64_t part_bytes = loaded.shape.Bytes(), all_bytes = part_bytes * static_cast<uint64_t>(load.halves);
  absl::StatusOr<std::span<std::byte>> to = slots_[loaded.slot]->Prepare(all_bytes);
  if (!to.ok()) return to.status();
  for (int64_t h = 0; h < load.halves; ++h) {
    const auto half = to->subspan(static_cast<uint64_t>(h) * part_bytes, part_bytes);
    if (absl::Status status = file.Read(*file.Find(load.layer, load.first_half + h), half); !status.ok()) {
      return absl::Status(status.code(), absl::StrCat(status.message(), " (", PlaceOf(load), ")"));
    }
  }
  if (absl::Status status = slots_[loaded.slot]->Send(all_bytes); !status.ok()) return status;
  return loaded;
}

absl::StatusOr<BankRing::Loaded> BankRing::Next(const BankLoad& wanted) {
  Release();
  std::unique_lock lock(mutex_);
  if (given_ == options_.loads.size() || options_.loads[given_] != wanted) {
    return absl::InternalError(absl::StrCat("identity bank: ", PlaceOf(wanted), " was asked for out of its turn"));
  }
  const size_t slot = given_ % slots_.size();
  changed_.wait(lock, [&] { return arrived_[slot] || (failed_at_ && *failed_at_ <= given_); });
  if (!arrived_[slot]) return failure_;
  ++given_;
  return *std::exchange(arrived_[slot], std::nullopt);
}

void BankRing::Release() {
  {
    const std::lock_guard lock(mutex_);
    if (released_ == given_) return;
    released_ = given_;
  }
  changed_.notify_all();
}

}  // namespace storyfarm::identity
