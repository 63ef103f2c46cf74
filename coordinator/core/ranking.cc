#include "coordinator/core/ranking.h"

#include <algorithm>

namespace storyfarm::coordinator {

void Ranking::Remove(Seat seat) {
  Entry& entry = entries_[seat];
  if (!entry.ranked) return;
  if (entry.room != Room::kNone) SetOf(entry.room).erase({entry.key, seat});
  nano_rate_ -= static_cast<int64_t>(1e9 / entry.offer.task_s);
  --size_;
  entry.ranked = false;
}

void Ranking::Refresh(OfferSource& source, const std::vector<Seated>& seats) {
  if (entries_.size() < seats.size()) entries_.resize(seats.size());
  for (const Seat seat : dirty_) {
    const Seated& seated = seats[seat];
    Entry& entry = entries_[seat];
    Remove(seat);
    if (seated.node == nullptr) {
      entry = Entry();
      continue;
    }
    if (!seated.available) continue;
    if (entry.version != seated.device->version) {
      entry.version = seated.device->version;
      entry.offer = model_.digest().empty() ? Offer{true, 0, kPageSeconds, 1}
                                            : source.Make(model_, shape_, *seated.node, *seated.device);
    }
    if (!entry.offer.usable) continue;
    entry.ranked = true;
    entry.room = seated.room;
    entry.free_s = seated.free_s;
    entry.key = entry.offer.setup_s + entry.offer.task_s + (entry.room == Room::kSoon ? entry.free_s : 0);
    if (entry.room != Room::kNone) SetOf(entry.room).emplace(entry.key, seat);
    nano_rate_ += static_cast<int64_t>(1e9 / entry.offer.task_s);
    ++size_;
  }
  dirty_.clear();
}

Candidate Ranking::MakeCandidate(Seat seat, double now_s) const {
  const Entry& entry = entries_[seat];
  Candidate candidate;
  candidate.seat = seat;
  candidate.offer = entry.offer;
  candidate.start_s = std::max(now_s, entry.free_s) + entry.offer.setup_s;
  candidate.finish_s = candidate.start_s + entry.offer.task_s;
  return candidate;
}

bool Ranking::CandidateAt(Seat seat, double now_s, Candidate* candidate) const {
  if (seat >= entries_.size() || !entries_[seat].ranked || entries_[seat].room == Room::kNone) return false;
  *candidate = MakeCandidate(seat, now_s);
  return true;
}

std::vector<Candidate> Ranking::Nearest(double now_s, size_t most) const {
  std::vector<Candidate> nearest;
  auto idle = idle_.begin();
  auto soon = soon_.begin();
  while (nearest.size() < most && (idle != idle_.end() || soon != soon_.end())) {
    const bool take_idle = soon == soon_.end() || (idle != idle_.end() && now_s + idle->first <= soon->first);
    auto& next = take_idle ? idle : soon;
    nearest.push_back(MakeCandidate(next->second, now_s));
    ++next;
  }
  return nearest;
}

}  // namespace storyfarm::coordinator
