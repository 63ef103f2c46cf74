#include "coordinator/core/fleet.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/limits.h"
#include "pipeline/plan/live_memory.h"
#include "pipeline/plan/plan.h"

namespace storyfarm::coordinator {
namespace {

// Free memory moves all the time; plans are asked for again only when it moved by this much. Rounded down, so that a
// plan never counts on more than there is. Of a device with less than 4 GiB, which that is too coarse for, a 64th.
constexpr uint64_t kMemoryGrainBytes = uint64_t{64} << 20;
constexpr uint64_t kMemoryGrains = 64;

// Nodes remembered to have banks of one job: so many are compared beside the fastest ones.
constexpr size_t kMostBankNodes = 16;

// Speeds of a device that are taken over: models that a farm draws with in turn.
constexpr size_t kMostSpeeds = 100;
// A device's speed is ranked anew when it moved by this share: less does not change who is faster.
constexpr double kSlownessGrain = 0.02;

// Beyond these factors something else is wrong than a device that is slow.
double ClampSlowness(double slowness) { return std::clamp(slowness, 0.001, 1e5); }

}  // namespace

void Device::TakeReport(const farm::v1::DeviceReport& said) {
  reported = said;
  // What the worker knows of its speed from frames of before this process began; what was seen here since counts more.
  for (const farm::v1::ModelSpeed& speed : said.speeds()) {
    if (!(speed.slowness() > 0) || slowness.size() >= kMostSpeeds) continue;
    const double seen = ClampSlowness(speed.slowness());
    slowness.emplace(speed.model_digest(), Slowness{seen, seen});
  }
  reported.clear_speeds();  // plans do not depend on them
  memory = farm::v1::DeviceMemory();
  progress = PassProgress();
}

void Device::Limit(const farm::v1::WorkerLimits* limits) {
  report = reported;
  lent = limits == nullptr || plan::Lends(*limits, reported);
  if (limits != nullptr) plan::LimitMemory(limits->memory_bytes(), &report);
  UpdatePlanKey();
}

bool Device::LearnSlowness(const std::string& model_digest, double seen) {
  // Old measurements fade with a half-life of two frames: a machine that its owner uses again slows at once.
  seen = ClampSlowness(seen);
  const auto [known, first] = slowness.emplace(model_digest, Slowness{seen, 0});
  Slowness& learned = known->second;
  if (!first) learned.measured = 0.7 * learned.measured + 0.3 * seen;
  if (std::abs(learned.measured - learned.told) <= kSlownessGrain * learned.measured) return false;
  learned.told = learned.measured;
  return true;
}

bool Device::UpdatePlanKey() {
  if (memory.free_bytes() + memory.farm_bytes() + memory.others_bytes() > 0) {  // a heartbeat has told of it
    const uint64_t grain = std::clamp(report.total_bytes() / kMemoryGrains, uint64_t{1}, kMemoryGrainBytes);
    report.set_free_bytes(std::min(plan::UsableBytes(memory) / grain * grain, report.total_bytes()));
  }
  std::string key = report.SerializeAsString();
  if (key == plan_key) return false;
  plan_key = std::move(key);
  return true;
}

uint64_t Node::MissingBytes(const farm::v1::ModelManifest& model, plan::ModelUse use) const {
  uint64_t bytes = 0;
  for (const auto& file : model.files()) {
    if (plan::Needs(use, file) && cached.count(file.blob().digest()) == 0) bytes += file.blob().size_bytes();
  }
  return bytes;
}

uint64_t Node::MissingBytes(const farm::v1::Bank& bank) const {
  // A bank is fetched whole: its first and last steps tell.
  const auto has = [this](const farm::v1::BlobRef& step) { return cached.count(step.digest()) > 0; };
  const auto read = [](const farm::v1::BlobRef& step) { return step.size_bytes() > 0; };
  const auto first = std::find_if(bank.steps().begin(), bank.steps().end(), read);
  const auto last = std::find_if(bank.steps().rbegin(), bank.steps().rend(), read);
  if (first == bank.steps().end() || (has(*first) && has(*last))) return 0;
  uint64_t bytes = 0;
  for (const auto& step : bank.steps()) bytes += step.size_bytes();
  return bytes;
}

bool Node::NowCached(const farm::v1::ModelManifest& model, plan::ModelUse use, const Limits& limits) {
  bool added = false;
  for (const auto& file : model.files()) {
    if (plan::Needs(use, file) && cached.size() < limits.cached_digests) added |= cached.insert(file.blob().digest()).second;
  }
  return added;
}

void Node::NowCached(const farm::v1::Bank& bank, const Limits& limits) {
  for (const auto& step : bank.steps()) {
    if (step.size_bytes() > 0 && cached.size() < limits.cached_digests) cached.insert(step.digest());
  }
}

void Node::NowCached(const farm::v1::BlobRef& blob, const Limits& limits) {
  if (blob.size_bytes() > 0 && cached.size() < limits.cached_digests) cached.insert(blob.digest());
}

void Pace::Add(int64_t now_ms) {
  if (first_ms_ < 0) first_ms_ = now_ms;
  const int64_t bucket = now_ms / kBucketMs;
  const int64_t cell = bucket % kBuckets;
  if (bucket_[cell] != bucket) {
    bucket_[cell] = bucket;
    frames_[cell] = 0;
  }
  ++frames_[cell];
}

double Pace::FramesPerMinute(int64_t now_ms) const {
  const int64_t newest = now_ms / kBucketMs;
  uint32_t frames = 0;
  for (int64_t cell = 0; cell < kBuckets; ++cell) {
    if (bucket_[cell] > newest - kBuckets && bucket_[cell] <= newest) frames += frames_[cell];
  }
  // The first frame only starts the clock.
  const int64_t window_ms = std::min(now_ms - first_ms_, kBucketMs * kBuckets);
  if (frames < 2 || window_ms < 1) return 0;
  const bool whole_window = window_ms == kBucketMs * kBuckets;
  return (frames - (whole_window ? 0.0 : 1.0)) * 60000.0 / static_cast<double>(window_ms);
}

const plan::PlanOrRefusal& PlanCache::Plan(const farm::v1::ModelManifest& model, const Device& device,
                                           const farm::v1::GroupShape& shape, const plan::LearnedNeed& learned) {
  auto key = std::make_tuple(model.digest(), device.plan_key, shape.SerializeAsString(), learned.planned_bytes,
                             learned.needed_bytes);
  const auto known = plans_.find(key);
  if (known != plans_.end()) return known->second;
  if (plans_.size() >= kMostPlans) plans_.clear();
  return plans_.emplace(std::move(key), planner_->PlanGroup(model.profile(), device.report, shape, learned))
      .first->second;
}

Node* Fleet::OfSession(uint64_t session) {
  const auto id = node_of_session.find(session);
  if (id == node_of_session.end()) return nullptr;
  return &nodes.at(id->second);
}

Device* Fleet::FindDevice(const std::string& node_id, uint32_t index) {
  const auto node = nodes.find(node_id);
  if (node == nodes.end()) return nullptr;
  const auto device = node->second.devices.find(index);
  return device == node->second.devices.end() ? nullptr : &device->second;
}

void Fleet::Renew(const Token& token, int64_t deadline_ms) {
  Lease& lease = leases[token];
  lease.deadline_ms = deadline_ms;
  if (lease.armed) return;
  lease.armed = true;
  deadlines.emplace(deadline_ms, token);
}

void Fleet::EndLease(const Token& token) {
  const auto lease = leases.find(token);
  if (lease == leases.end()) return;
  if (const auto held = held_rates.find(lease->second.job_ordinal); held != held_rates.end()) {
    held->second -= lease->second.work_rate;
    if (held->second == 0) held_rates.erase(held);
  }
  writers.erase(token);
  leases.erase(lease);
}

std::vector<Token> Fleet::TakeExpired(int64_t now_ms) {
  std::vector<Token> expired;
  while (!deadlines.empty() && deadlines.begin()->first <= now_ms) {
    const Token token = deadlines.begin()->second;
    deadlines.erase(deadlines.begin());
    const auto lease = leases.find(token);
    if (lease == leases.end()) continue;
    if (lease->second.deadline_ms > now_ms) {
      deadlines.emplace(lease->second.deadline_ms, token);
      continue;
    }
    lease->second.armed = false;
    expired.push_back(token);
  }
  return expired;
}

void Fleet::OffersChanged(Node& node) {
  for (auto& [index, device] : node.devices) device.version = ++last_version;
}

void Fleet::Serves(const Node& node) {
  ServesNoMore(node.id);
  if (!node.blob_address.empty()) serving[node.elsewhere ? 1 : 0].insert(node.id);
}

void Fleet::ServesNoMore(const std::string& node_id) {
  for (std::set<std::string>& side : serving) side.erase(node_id);
}

void Fleet::HasBanks(uint64_t job_ordinal, const std::string& node_id) {
  std::set<std::string>& nodes_with = bank_nodes[job_ordinal];
  if (nodes_with.size() < kMostBankNodes) nodes_with.insert(node_id);
}

void Fleet::Forget(uint64_t job_ordinal, const std::string& job_id) {
  paces.erase(job_id);
  bank_nodes.erase(job_ordinal);
  held_since_s.erase(job_ordinal);
  units.erase(units.lower_bound({job_ordinal, Unit{}}), units.lower_bound({job_ordinal + 1, Unit{}}));
}

void Fleet::Prune(size_t most_nodes) {
  while (nodes.size() > most_nodes) {
    auto oldest = nodes.end();
    for (auto node = nodes.begin(); node != nodes.end(); ++node) {
      if (node->second.session != 0) continue;
      if (oldest == nodes.end() || node->second.last_heard_ms < oldest->second.last_heard_ms) oldest = node;
    }
    if (oldest == nodes.end()) return;
    nodes.erase(oldest);
  }
}

}  // namespace storyfarm::coordinator
