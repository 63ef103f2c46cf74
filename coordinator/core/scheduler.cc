#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "coordinator/core/scheduling_round.h"
#include "coordinator/core/spread.h"

namespace storyfarm::coordinator {
namespace {

// Rates assumed of a device that measured none: a plain SSD and a gigabit network.
constexpr double kDiskBytesPerSecond = 500e6;
constexpr double kNetworkBytesPerSecond = 100e6;
// A page takes seconds on anything; the exact figure decides nothing.
constexpr double kPageSeconds = 3.0;
// No prediction is taken as shorter, so that no share grows without bound.
constexpr double kLeastSeconds = 1e-3;
// Shapes are asked for groups of this size when places are compared.
constexpr size_t kSampleFrames = 16;

}  // namespace

void SchedulingRound::CollectPlaces() {
  for (auto& [id, node] : farm_.fleet.nodes) {
    for (auto& [index, device] : node.devices) {
      if (!farm_.WhyIdle(node, device).empty()) continue;
      Place place;
      place.node = &node;
      place.device = &device;
      place.index = index;
      place.free_s = farm_.BusySeconds(node, index);
      size_t groups = 0;
      if (const std::set<Token>* tokens = farm_.state.GrantsOf(id)) {
        for (const Token& token : *tokens) groups += farm_.state.grants().at(token).device == index ? 1 : 0;
      }
      place.room = groups == 0 || (groups < farm_.limits.groups_a_device &&
                                   place.free_s <= static_cast<double>(farm_.limits.prefetch_seconds));
      place.idle = groups == 0;
      rooms_ += place.room ? 1 : 0;
      places_.push_back(place);
    }
  }
}

std::vector<SchedulingRound::Unit> SchedulingRound::UnitsOf(const Job& job) const {
  std::vector<Unit> units;
  for (const auto kind : {farm::v1::TASK_IDENTITY, farm::v1::TASK_PAGE}) {
    if (job.count(kind, farm::v1::TASK_READY) == 0) continue;
    for (uint32_t i = 0; i < job.size(kind); ++i) {
      if (job.slot(kind, i)->state == farm::v1::TASK_READY) units.push_back({kind, i});
    }
  }
  if (job.count(farm::v1::TASK_FRAME, farm::v1::TASK_READY) > 0) {
    for (uint32_t set = 0; set < static_cast<uint32_t>(job.spec().frame_sets_size()); ++set) {
      if (job.ready_in_set(set) > 0) units.push_back({farm::v1::TASK_FRAME, set});
    }
  }
  return units;
}

std::vector<SchedulingRound::Offer>& SchedulingRound::OffersFor(const Job& job, const Unit& unit) {
  const auto [at, fresh] = offers_.try_emplace({job.spec().job_id(), unit.kind, unit.number});
  std::vector<Offer>& offers = at->second;
  if (!fresh) return offers;
  if (unit.kind == farm::v1::TASK_PAGE) {
    for (size_t i = 0; i < places_.size(); ++i) offers.push_back({i, 0, kPageSeconds, 1});
    return offers;
  }
  std::vector<uint32_t> sample;
  if (unit.kind == farm::v1::TASK_FRAME) {
    job.VisitReady(unit.number, [&sample](uint32_t panel) {
      sample.push_back(panel);
      return sample.size() < kSampleFrames;
    });
  } else {
    sample.push_back(unit.number);
  }
  const auto shape = farm_.planner->ShapeOf(job.spec(), unit.kind, sample);
  if (!shape.ok()) return offers;
  for (size_t i = 0; i < places_.size(); ++i) {
    if (std::optional<Offer> offer = OfferOf(job, unit, *shape, i)) offers.push_back(*offer);
  }
  return offers;
}

std::optional<SchedulingRound::Offer> SchedulingRound::OfferOf(const Job& job, const Unit& unit,
                                                               const farm::v1::GroupShape& shape, size_t place_index) {
  const Place& place = places_[place_index];
  const farm::v1::ModelManifest& model = job.spec().model();
  const farm::v1::DeviceReport& report = place.device->report;
  const auto& answer =
      farm_.fleet.plans.Plan(model, *place.device, shape, farm_.state.NeedOf(model.digest(), report.backend()));
  const auto* plan = std::get_if<farm::v1::MemoryPlan>(&answer);
  if (plan == nullptr) return std::nullopt;
  const auto slowness = place.device->slowness.find(model.digest());
  const double tasks = unit.kind == farm::v1::TASK_FRAME ? std::max(1u, shape.frames()) : 1.0;
  Offer offer;
  offer.place = place_index;
  offer.task_s = std::max(kLeastSeconds, plan->predicted_seconds() / tasks *
                                             (slowness == place.device->slowness.end() ? 1.0 : slowness->second));
  offer.batch = std::max(1u, plan->batch());
  uint64_t fetch_bytes = place.node->MissingBytes(model);
  if (unit.kind == farm::v1::TASK_FRAME) {
    for (uint32_t identity : job.spec().frame_sets(static_cast<int>(unit.number)).identities()) {
      if (const farm::v1::Bank* bank = job.BankOf(identity)) fetch_bytes += place.node->MissingBytes(*bank);
    }
  }
  const double network =
      report.network_bytes_per_s() > 0 ? static_cast<double>(report.network_bytes_per_s()) : kNetworkBytesPerSecond;
  const double disk =
      report.disk_read_bytes_per_s() > 0 ? static_cast<double>(report.disk_read_bytes_per_s()) : kDiskBytesPerSecond;
  offer.setup_s = static_cast<double>(fetch_bytes) / network;
  if (place.device->warm_model != model.digest()) {
    offer.setup_s += static_cast<double>(model.profile().stored_bytes()) / disk;
  }
  return offer;
}

bool SchedulingRound::OthersMayTake(const std::set<uint32_t>& aborted_on, const Job& job) const {
  for (const Place& place : places_) {
    bool tried = false;
    for (uint32_t node : aborted_on) tried |= job.nodes()[node].id == place.node->id;
    if (!tried) return true;
  }
  return false;
}

std::vector<uint32_t> SchedulingRound::Cut(const Job& job, const Unit& unit, const Place& place, uint32_t most) const {
  auto barred = [&](farm::v1::TaskKind kind, uint32_t number) {
    const std::set<uint32_t>* aborts = job.AbortsOf({kind, number});
    if (aborts == nullptr || !OthersMayTake(*aborts, job)) return false;
    for (uint32_t node : *aborts) {
      if (job.nodes()[node].id == place.node->id) return true;
    }
    return false;
  };
  std::vector<uint32_t> numbers;
  if (unit.kind != farm::v1::TASK_FRAME) {
    if (!barred(unit.kind, unit.number)) numbers.push_back(unit.number);
    return numbers;
  }
  job.VisitReady(unit.number, [&](uint32_t panel) {
    if (barred(farm::v1::TASK_FRAME, panel)) return true;
    if (job.slot(farm::v1::TASK_FRAME, panel)->alone) {
      if (!numbers.empty()) return true;
      numbers.push_back(panel);
      return false;
    }
    numbers.push_back(panel);
    return numbers.size() < most;
  });
  return numbers;
}

bool SchedulingRound::Grant(const Job& job, const Unit& unit, Offer& offer, std::vector<uint32_t> numbers) {
  Place& place = places_[offer.place];
  const farm::v1::ModelManifest& model = job.spec().model();
  farm::v1::MemoryPlan plan;
  while (unit.kind != farm::v1::TASK_PAGE) {
    const auto shape = farm_.planner->ShapeOf(job.spec(), unit.kind, numbers);
    if (!shape.ok()) return false;
    const auto need = farm_.state.NeedOf(model.digest(), place.device->report.backend());
    const auto& answer = farm_.fleet.plans.Plan(model, *place.device, *shape, need);
    if (const auto* fits = std::get_if<farm::v1::MemoryPlan>(&answer)) {
      plan = *fits;
      break;
    }
    if (numbers.size() == 1) return false;
    numbers.resize(numbers.size() / 2);
  }
  auto work = farm_.planner->WorkFor(job.spec(), unit.kind, numbers, plan, job.InputsFor(unit.kind, numbers));
  if (!work.ok()) {
    const std::string id = job.spec().job_id();
    for (uint32_t number : numbers) {
      farm_.FailTask(MakeTask(id, unit.kind, number), farm::v1::BAD_INPUT, std::string(work.status().message()));
    }
    farm_.EndJobIfDone(id);
    return true;
  }
  const Token token = farm_.state.next_token();
  farm::v1::Record record;
  farm::v1::Granted& fact = *record.mutable_granted();
  fact.set_job_id(job.spec().job_id());
  fact.set_kind(unit.kind);
  for (uint32_t number : numbers) fact.add_numbers(number);
  *fact.mutable_token() = ToMessage(token);
  fact.set_node_id(place.node->id);
  fact.set_node_name(place.node->name);
  fact.set_device(place.index);
  fact.set_planned_bytes(plan.predicted_peak_bytes());
  farm_.Commit(std::move(record));
  farm_.changed.insert(job.spec().job_id());

  Lease& lease = farm_.fleet.leases[token];
  lease.deadline_ms = farm_.now.monotonic_ms + farm_.limits.lease_ms;
  lease.last_event_ms = farm_.now.monotonic_ms;
  lease.planned_task_seconds = plan.predicted_seconds() / static_cast<double>(numbers.size());
  lease.task_seconds = offer.task_s;
  lease.batch = std::max(1u, plan.batch());

  farm::v1::CoordinatorMessage message;
  farm::v1::Grant& grant = *message.mutable_grant();
  *grant.mutable_token() = ToMessage(token);
  grant.set_device(place.index);
  for (uint32_t number : numbers) *grant.add_tasks() = MakeTask(job.spec().job_id(), unit.kind, number);
  *grant.mutable_work() = *std::move(work);
  farm_.Send(place.node->session, std::move(message));

  place.free_s += offer.setup_s + offer.task_s * static_cast<double>(numbers.size());
  offer.setup_s = 0;
  place.idle = false;
  if (unit.kind != farm::v1::TASK_PAGE) {
    place.device->warm_model = model.digest();
    place.node->NowCached(model, farm_.limits);
    for (const auto& bank : job.InputsFor(unit.kind, numbers).banks) place.node->NowCached(bank, farm_.limits);
  }
  size_t groups = 0;
  for (const Token& held : *farm_.state.GrantsOf(place.node->id)) {
    groups += farm_.state.grants().at(held).device == place.index ? 1 : 0;
  }
  place.room =
      groups < farm_.limits.groups_a_device && place.free_s <= static_cast<double>(farm_.limits.prefetch_seconds);
  if (!place.room) --rooms_;
  return true;
}

void SchedulingRound::Share(std::vector<Offer>& offers, uint32_t tasks) const {
  std::vector<Runner> runners;
  for (const Offer& offer : offers) {
    if (offer.usable) runners.push_back({places_[offer.place].free_s + offer.setup_s, offer.task_s});
  }
  const std::vector<uint32_t> shares = Spread(runners, tasks);
  size_t next = 0;
  for (Offer& offer : offers) offer.share = offer.usable ? shares[next++] : 0;
}

bool SchedulingRound::GrantUnit(const Job& job, const Unit& unit) {
  std::vector<Offer>& offers = OffersFor(job, unit);
  const uint32_t tasks = unit.kind == farm::v1::TASK_FRAME ? job.ready_in_set(unit.number) : 1;
  for (;;) {
    Share(offers, tasks);
    Offer* best = nullptr;
    auto first_done = [this](const Offer& offer) { return places_[offer.place].free_s + offer.setup_s + offer.task_s; };
    for (Offer& offer : offers) {
      if (offer.share == 0 || !places_[offer.place].room) continue;
      if (best == nullptr || first_done(offer) < first_done(*best)) best = &offer;
    }
    if (best == nullptr) break;
    const auto by_time = static_cast<uint32_t>(std::min(1e6, static_cast<double>(group_seconds_) / best->task_s));
    uint32_t most = std::min({std::max(best->batch, (best->share + 1) / 2), best->share,
                              static_cast<uint32_t>(farm_.limits.frames_a_group), std::max(best->batch, by_time)});
    if (most > best->batch) most -= most % best->batch;
    std::vector<uint32_t> numbers = Cut(job, unit, places_[best->place], most);
    if (!numbers.empty() && Grant(job, unit, *best, std::move(numbers))) return true;
    best->usable = false;
  }
  for (const Offer& offer : offers) places_[offer.place].free_s += offer.task_s * offer.share;
  return false;
}

bool SchedulingRound::GrantOne(const Job& job) {
  for (const Unit& unit : UnitsOf(job)) {
    if (GrantUnit(job, unit)) return true;
    if (rooms_ == 0) return false;
  }
  return false;
}

void SchedulingRound::Run() {
  CollectPlaces();
  if (rooms_ == 0) return;
  std::set<JobTurn> turns;
  for (const auto& [ordinal, id] : farm_.state.live()) {
    const Job& job = *farm_.state.FindJob(id);
    uint32_t ready = 0;
    for (const auto kind : {farm::v1::TASK_IDENTITY, farm::v1::TASK_FRAME, farm::v1::TASK_PAGE}) {
      ready += job.count(kind, farm::v1::TASK_READY);
    }
    if (ready > 0) turns.insert({job.live_grants, ordinal, id});
  }
  group_seconds_ = farm_.state.live().size() > 1 ? farm_.limits.turn_seconds : farm_.limits.group_seconds;
  size_t grants = 0;
  while (!turns.empty() && rooms_ > 0 && grants < farm_.limits.grants_a_step) {
    JobTurn turn = *turns.begin();
    turns.erase(turns.begin());
    const Job* job = farm_.state.FindJob(turn.id);
    if (!GrantOne(*job)) continue;  // it has its chance again in the next round
    ++grants;
    ++turn.groups;
    if (farm_.state.live().count(turn.ordinal) > 0) turns.insert(turn);
  }
  Steal();
}

void Farm::Parts::Schedule() { SchedulingRound(this).Run(); }

std::string Farm::Parts::WhyIdle(const Node& node, const Device& device) const {
  if (node.session == 0) return "not connected";
  if (node.leaving) return "it is leaving";
  if (now.monotonic_ms - node.last_heard_ms > limits.lease_ms / 2) return "it has not been heard of for a while";
  if (device.not_before_ms > now.monotonic_ms) {
    const int64_t seconds = (device.not_before_ms - now.monotonic_ms + 999) / 1000;
    return absl::StrCat(device.faults_in_a_row >= limits.faults_to_set_aside ? "set aside for " : "waits for ", seconds,
                        " s after ", device.faults_in_a_row,
                        device.faults_in_a_row == 1 ? " fault" : " faults in a row",
                        ", the last one: ", device.last_fault);
  }
  return "";
}

double Farm::Parts::BusySeconds(const Node& node, uint32_t device_index) const {
  const std::set<Token>* tokens = state.GrantsOf(node.id);
  if (tokens == nullptr) return 0;
  double seconds = 0;
  bool running = true;  // the oldest group runs, the others wait
  for (const Token& token : *tokens) {
    const LiveGrant& grant = state.grants().at(token);
    if (grant.device != device_index) continue;
    const auto found = fleet.leases.find(token);
    if (found == fleet.leases.end()) continue;
    const Lease& lease = found->second;
    const double task_s = lease.task_seconds > 0 ? lease.task_seconds : kPageSeconds;
    double left = task_s * static_cast<double>(grant.numbers.size());
    if (running) {
      const PassProgress& pass = node.devices.at(device_index).progress;
      const double elapsed = static_cast<double>(now.monotonic_ms - lease.last_event_ms) / 1000.0;
      const double pass_s = task_s * std::min<double>(lease.batch, static_cast<double>(grant.numbers.size()));
      const double done = pass.token == token && pass.steps > 0 ? pass_s * pass.step / pass.steps : elapsed;
      left -= std::min(done, 0.9 * pass_s);
    }
    running = false;
    seconds += left;
  }
  return seconds;
}

}  // namespace storyfarm::coordinator
