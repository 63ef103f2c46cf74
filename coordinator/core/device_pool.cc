#include "coordinator/core/device_pool.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {
namespace {

// A time of getting free that moved by less than this, or by less than this share of what is left, is not told on.
constexpr double kFreeGrainSeconds = 0.5;
constexpr double kFreeGrainShare = 0.1;
// Kinds of work ranked at the same time; the one not asked for longest makes room. A kind more only costs its making.
constexpr size_t kMostRankings = 48;
// Ready frames that a group's shape is taken from: plans differ where batches are full or not, so three sizes do.
constexpr uint32_t kSampleSizes[] = {16, 4, 1};

int64_t Milliseconds(double seconds) { return static_cast<int64_t>(std::ceil(seconds * 1000)); }

}  // namespace

DevicePool::~DevicePool() = default;

void DevicePool::Join(Node& node) {
  for (auto& [index, device] : node.devices) {
    Seat seat = static_cast<Seat>(seats_.size());
    if (free_seats_.empty()) {
      seats_.emplace_back();
    } else {
      seat = free_seats_.back();
      free_seats_.pop_back();
    }
    seats_[seat] = Seated{&node, &device, index};
    device.seat = seat;
    device.seated = true;
    device.version = ++farm_.fleet.last_version;
    ++changes_;
    Update(seat);
  }
}

void DevicePool::Leave(Node& node) {
  for (auto& [index, device] : node.devices) {
    if (device.seated) Free(device.seat);
    device.seated = false;
  }
}

void DevicePool::Free(Seat seat) {
  Seated& seated = seats_[seat];
  if (seated.room != Room::kNone) --rooms_;
  if (seated.room == Room::kIdle) --idle_;
  if (seated.wake_ms > 0) timers_.erase({seated.wake_ms, seat});
  seated = Seated();
  free_seats_.push_back(seat);
  ++changes_;
  MarkEverywhere(seat);
}

void DevicePool::MarkEverywhere(Seat seat) {
  for (auto& [key, ranking] : rankings_) ranking->Mark(seat);
}

void DevicePool::Touch(Node& node) {
  for (auto& [index, device] : node.devices) {
    if (device.seated) Update(device.seat);
  }
}

void DevicePool::TouchAllOffers() {
  for (Seat seat = 0; seat < seats_.size(); ++seat) {
    if (seats_[seat].node == nullptr) continue;
    seats_[seat].device->version = ++farm_.fleet.last_version;
    Update(seat);
  }
}

void DevicePool::Update(Seat seat) {
  Seated& seated = seats_[seat];
  const double now_s = static_cast<double>(farm_.now.monotonic_ms) / 1000;
  const std::vector<Holding> holdings = farm_.HoldingsOf(*seated.node, seated.index);
  for (const Holding& holding : holdings) farm_.NoteStealable(holding);
  const size_t groups = holdings.size();
  const double free_s = groups == 0 ? now_s : holdings.back().end_s;
  const bool available = farm_.WhyIdle(*seated.node, *seated.device).empty();
  Room room = Room::kNone;
  if (available && groups == 0) room = Room::kIdle;
  if (available && groups > 0 && groups < farm_.limits.groups_a_device &&
      free_s - now_s <= static_cast<double>(farm_.limits.prefetch_seconds)) {
    room = Room::kSoon;
  }
  const double grain_s = std::max(kFreeGrainSeconds, kFreeGrainShare * std::abs(seated.free_s - now_s));
  const bool moved = groups > 0 && std::abs(free_s - seated.free_s) > grain_s;
  const bool offers_more = seated.version != seated.device->version;
  if (available != seated.available || room != seated.room || moved || offers_more) {
    if (room != Room::kNone && (room != seated.room || offers_more)) opened_ = true;
    rooms_ += (room != Room::kNone ? 1 : 0) - (seated.room != Room::kNone ? 1 : 0);
    idle_ += (room == Room::kIdle ? 1 : 0) - (seated.room == Room::kIdle ? 1 : 0);
    seated.available = available;
    seated.room = room;
    seated.free_s = free_s;
    seated.version = seated.device->version;
    ++changes_;
    MarkEverywhere(seat);
  }
  Rearm(seat, groups);
}

// The next time at which the seat's state changes by itself.
void DevicePool::Rearm(Seat seat, size_t groups) {
  Seated& seated = seats_[seat];
  const int64_t now_ms = farm_.now.monotonic_ms;
  // Silence is looked for at its time; a node that was heard since is only armed again.
  int64_t wake_ms = seated.node->last_heard_ms + farm_.limits.lease_ms / 2 + 1;
  if (seated.device->not_before_ms > now_ms) wake_ms = std::min(wake_ms, seated.device->not_before_ms);
  if (seated.available && seated.room == Room::kNone && groups > 0 && groups < farm_.limits.groups_a_device) {
    const int64_t room_ms = Milliseconds(seated.free_s - static_cast<double>(farm_.limits.prefetch_seconds));
    // Behind its time already: the estimate was off by its grain.
    wake_ms = std::min(wake_ms, std::max(room_ms, now_ms + kTickMs));
  }
  if (wake_ms <= now_ms) wake_ms = 0;  // silent already: it wakes by being heard
  if (wake_ms == seated.wake_ms) return;
  if (seated.wake_ms > 0) timers_.erase({seated.wake_ms, seat});
  seated.wake_ms = wake_ms;
  if (wake_ms > 0) timers_.emplace(wake_ms, seat);
}

void DevicePool::Wake() {
  while (!timers_.empty() && timers_.begin()->first <= farm_.now.monotonic_ms) {
    const Seat seat = timers_.begin()->second;
    timers_.erase(timers_.begin());
    seats_[seat].wake_ms = 0;
    Update(seat);
  }
}

bool DevicePool::TakeOpened() { return std::exchange(opened_, false); }

std::vector<uint32_t> DevicePool::SampleOf(const Job& job, const Unit& unit) {
  const uint32_t ready = unit.kind == farm::v1::TASK_FRAME ? job.ready_in_set(unit.number) : 1;
  const uint32_t* size = std::find_if(std::begin(kSampleSizes), std::end(kSampleSizes) - 1,
                                      [ready](uint32_t sample) { return ready >= sample; });
  return job.FirstReady(unit, *size);
}

Ranking* DevicePool::RankingFor(const Job& job, const Unit& unit, const std::vector<uint32_t>& sample) {
  if (sample.empty()) return nullptr;
  farm::v1::GroupShape shape;
  std::string key;  // empty: pages
  const farm::v1::ModelManifest& model = job.head().model();
  if (unit.kind != farm::v1::TASK_PAGE) {
    const auto answer = farm_.planner->ShapeOf(job.View(), unit.kind, sample);
    if (!answer.ok()) return nullptr;
    shape = *answer;
    key = absl::StrCat(model.digest(), shape.SerializeAsString());
  }
  auto found = rankings_.find(key);
  if (found == rankings_.end()) {
    if (rankings_.size() >= kMostRankings) {
      rankings_.erase(std::min_element(rankings_.begin(), rankings_.end(), [](const auto& a, const auto& b) {
        return a.second->asked_ms < b.second->asked_ms;
      }));
    }
    auto ranking = key.empty() ? std::make_unique<Ranking>() : std::make_unique<Ranking>(model, std::move(shape));
    for (Seat seat = 0; seat < seats_.size(); ++seat) ranking->Mark(seat);
    found = rankings_.emplace(std::move(key), std::move(ranking)).first;
  }
  OfferSource source(&farm_.state, &farm_.fleet.plans);
  found->second->asked_ms = farm_.now.monotonic_ms;
  found->second->Refresh(source, seats_);
  return found->second.get();
}

}  // namespace storyfarm::coordinator
