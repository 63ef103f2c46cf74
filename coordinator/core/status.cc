#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_PAGE;
using farm::v1::TASK_TEXT;

// A job with more kinds of waiting groups tells the first ones; the others wait for the same reasons.
constexpr int kMostRefusals = 8;

}  // namespace

farm::v1::JobStatus Farm::Parts::StatusOf(const Job& job, bool with_tasks) {
  const farm::v1::JobSpec& spec = job.head();
  farm::v1::JobStatus status;
  status.set_job_id(spec.job_id());
  status.set_title(spec.story().title());
  status.set_state(job.state);
  status.set_model(spec.model().name());
  status.set_submitted_unix_ms(spec.submitted_unix_ms());
  status.set_finished_unix_ms(job.finished_unix_ms);
  status.set_paused(job.paused && job.finished_unix_ms == 0);
  status.set_priority(job.priority);
  status.set_frames_total(job.size(TASK_FRAME));
  status.set_frames_done(job.count(TASK_FRAME, farm::v1::TASK_DONE));
  status.set_frames_failed(job.count(TASK_FRAME, farm::v1::TASK_FAILED));
  uint32_t running = job.count(TASK_FRAME, farm::v1::TASK_GRANTED);
  for (uint32_t i = 0; i < job.size(TASK_IDENTITY); ++i) {
    if (job.slot(TASK_IDENTITY, i)->state == farm::v1::TASK_GRANTED) {
      running += spec.identities(static_cast<int>(i)).panels_size();
    }
  }
  status.set_frames_running(running);
  status.set_identities_total(job.size(TASK_IDENTITY));
  status.set_identities_done(job.count(TASK_IDENTITY, farm::v1::TASK_DONE));
  for (uint32_t i = 0; i < job.size(TASK_IDENTITY); ++i) {
    status.set_identity_ms(status.identity_ms() + job.IdentityMsOf(i));
  }
  status.set_identities_reused(static_cast<uint32_t>(job.packs_taken()));
  status.set_pages_total(job.size(TASK_PAGE));
  status.set_pages_done(job.count(TASK_PAGE, farm::v1::TASK_DONE));
  status.set_frames_attempted(static_cast<uint32_t>(job.frame_grants()));
  uint32_t panel = 0;
  for (int chapter = 0; chapter < spec.story().chapters_size(); ++chapter) {
    farm::v1::ChapterProgress& progress = *status.add_chapters();
    progress.set_title(spec.story().chapters(chapter).title());
    progress.set_frames_total(job.packed()->panels_in(chapter));
    for (uint32_t i = 0; i < progress.frames_total(); ++i, ++panel) {
      const uint8_t state = job.slot(TASK_FRAME, panel)->state;
      if (state == farm::v1::TASK_DONE) progress.set_frames_done(progress.frames_done() + 1);
      if (state == farm::v1::TASK_FAILED) progress.set_frames_failed(progress.frames_failed() + 1);
    }
  }
  *status.mutable_warnings() = spec.warnings();
  status.set_seconds_left(-1);
  if (state.live().count(job.ordinal()) > 0) {
    const auto pace = fleet.paces.find(spec.job_id());
    const double a_minute = pace == fleet.paces.end() ? 0 : pace->second.FramesPerMinute(now.monotonic_ms);
    status.set_frames_per_minute(a_minute);
    const uint32_t left = status.frames_total() - status.frames_done() - status.frames_failed();
    if (a_minute > 0) status.set_seconds_left(left * 60.0 / a_minute);
    AddRefusals(job, status);
  }
  if (with_tasks) AddTasks(job, status);
  return status;
}

void Farm::Parts::AddTasks(const Job& job, farm::v1::JobStatus& status) {
  const std::string& id = job.head().job_id();
  for (const auto kind : {TASK_TEXT, TASK_IDENTITY, TASK_FRAME, TASK_PAGE}) {
    for (uint32_t i = 0; i < job.size(kind); ++i) {
      const Slot& slot = *job.slot(kind, i);
      farm::v1::TaskStatus& task = *status.add_tasks();
      *task.mutable_task() = MakeTask(id, kind, i);
      task.set_state(static_cast<farm::v1::TaskState>(slot.state));
      task.set_attempts(slot.attempts);
      task.set_message(job.ProblemOf(kind, i));
      if (slot.node > 0) {
        task.set_node(job.nodes()[slot.node - 1].name);
        task.set_device(slot.device);
      }
      if (slot.state == farm::v1::TASK_GRANTED) {
        const Device* device = fleet.FindDevice(job.nodes()[slot.node - 1].id, slot.device);
        if (device != nullptr && device->progress.token == slot.token && device->progress.task.number() == i) {
          task.set_step(device->progress.step);
          task.set_steps(device->progress.steps);
        }
      }
      if (kind == TASK_IDENTITY) {
        task.set_identity_ms(job.IdentityMsOf(i));
        if (const farm::v1::PackUse* use = job.PackOf(i)) *task.mutable_pack() = *use;
      } else if (kind == TASK_FRAME) {
        if (auto result = job.FrameResultOf(i)) *task.mutable_frame() = *std::move(result);
      } else if (kind == TASK_PAGE) {
        if (const farm::v1::PageResult* result = job.PageResultOf(i)) *task.mutable_page() = *result;
      }
    }
  }
}

void Farm::Parts::AddRefusals(const Job& job, farm::v1::JobStatus& status) {
  bool ready = false;
  for (const auto kind : {TASK_TEXT, TASK_IDENTITY, TASK_FRAME, TASK_PAGE}) {
    ready |= job.count(kind, farm::v1::TASK_READY) > 0;
  }
  if (!ready) return;
  if (!dispatch_held.empty()) {
    status.add_waiting()->set_reason(dispatch_held);
    return;
  }
  bool connected = false;
  std::string idle;  // why the devices that are there get nothing
  bool any_may = false;
  for (const auto& [node_id, node] : fleet.nodes) {
    if (node.session == 0) continue;
    for (const auto& [index, device] : node.devices) {
      connected = true;
      const std::string why = WhyIdle(node, device);
      any_may |= why.empty();
      if (!why.empty() && idle.empty()) idle = absl::StrCat(node.name, ": ", why);
    }
  }
  if (!connected || !any_may) {
    status.add_waiting()->set_reason(
        connected ? absl::StrCat("no connected device takes work just now; ", idle)
                  : "no worker is connected: start storyfarm-worker on a machine that can render");
    return;
  }
  std::vector<std::pair<farm::v1::TaskKind, uint32_t>> units;  // with one task that stands for each
  for (const auto kind : {TASK_TEXT, TASK_IDENTITY}) {
    for (uint32_t i = 0; i < job.size(kind); ++i) {
      if (job.slot(kind, i)->state == farm::v1::TASK_READY) units.emplace_back(kind, i);
    }
  }
  for (uint32_t set = 0; set < static_cast<uint32_t>(job.head().frame_sets_size()); ++set) {
    if (job.ready_in_set(set) == 0) continue;
    job.VisitReady(set, [&units](uint32_t panel) {
      units.emplace_back(TASK_FRAME, panel);
      return false;
    });
  }
  std::set<std::string> told;
  for (const auto& [kind, number] : units) {
    if (status.waiting_size() >= kMostRefusals) return;
    const auto shape = planner->ShapeOf(job.View(), kind, {&number, 1});
    if (!shape.ok()) continue;
    farm::v1::Refusal best;
    best.set_offered_bytes(0);
    bool taken = false;
    bool first = true;
    for (const auto& [node_id, node] : fleet.nodes) {
      if (node.session == 0 || taken) continue;
      for (const auto& [index, device] : node.devices) {
        if (!device.lent) continue;
        const auto need = state.NeedOf(job.head().model().digest(), device.report.backend());
        const auto& answer = fleet.plans.Plan(job.head().model(), device, *shape, need);
        const auto* refusal = std::get_if<farm::v1::Refusal>(&answer);
        taken |= refusal == nullptr;
        if (refusal == nullptr || (!first && refusal->offered_bytes() <= best.offered_bytes())) continue;
        best = *refusal;
        best.set_reason(absl::StrCat(node.name, ": ", WhyRefused(node, *refusal)));
        first = false;
      }
    }
    if (!taken && !first && told.insert(best.reason()).second) *status.add_waiting() = best;
  }
}

JobPlace Farm::FindJob(const std::string& job_id) const {
  if (parts_->state.FindJob(job_id) != nullptr) return JobPlace::kHot;
  return parts_->state.archived_ordinals().count(job_id) > 0 ? JobPlace::kArchived : JobPlace::kUnknown;
}

absl::StatusOr<farm::v1::JobStatus> Farm::GetJob(const Time& now, const std::string& job_id, bool with_tasks) const {
  const Job* job = parts_->state.FindJob(job_id);
  if (job == nullptr) return absl::NotFoundError(absl::StrCat("there is no job ", job_id));
  parts_->now = now;
  return parts_->StatusOf(*job, with_tasks);
}

std::shared_ptr<const PackedSpec> Farm::FindSpec(const std::string& job_id) const {
  const Job* job = parts_->state.FindJob(job_id);
  return job == nullptr ? nullptr : job->packed();
}

absl::StatusOr<std::vector<JobListing>> Farm::ListJobs(size_t page_size, const std::string& page_token,
                                                       std::string* next_page_token) const {
  // A token is the ordinal that the page before ended with.
  uint64_t below = std::numeric_limits<uint64_t>::max();
  if (!page_token.empty()) {
    below = 0;
    for (const char c : page_token) {
      if (c < '0' || c > '9' || page_token.size() > 19) {
        return absl::InvalidArgumentError("the page token is not one that this farm gave out");
      }
      below = below * 10 + static_cast<uint64_t>(c - '0');
    }
  }
  std::map<uint64_t, std::string> hot;
  for (const auto& [id, job] : parts_->state.jobs()) {
    if (job.ordinal() < below) hot[job.ordinal()] = id;
  }
  const auto& archived = parts_->state.archived();
  auto cold = archived.lower_bound(below);
  auto warm = hot.end();
  std::vector<JobListing> listing;
  next_page_token->clear();
  uint64_t last = 0;
  while (listing.size() < page_size) {
    const bool more_cold = cold != archived.begin();
    const bool more_warm = warm != hot.begin();
    if (!more_cold && !more_warm) return listing;
    if (more_warm && (!more_cold || std::prev(warm)->first > std::prev(cold)->first)) {
      --warm;
      listing.push_back({warm->second, false});
      last = warm->first;
    } else {
      --cold;
      listing.push_back({cold->second.job_id, true});
      last = cold->first;
    }
  }
  if (cold != archived.begin() || warm != hot.begin()) *next_page_token = absl::StrCat(last);
  return listing;
}

std::vector<std::string> Farm::LiveJobs() const {
  std::vector<std::pair<int64_t, uint64_t>> order;
  for (const auto& [ordinal, id] : parts_->state.live()) {
    order.emplace_back(-static_cast<int64_t>(parts_->state.FindJob(id)->priority), ordinal);
  }
  std::sort(order.begin(), order.end());
  std::vector<std::string> jobs;
  for (const auto& [rank, ordinal] : order) jobs.push_back(parts_->state.live().at(ordinal));
  return jobs;
}

std::optional<std::string> Farm::FindKey(const std::string& idempotency_key, std::string* request_digest) const {
  const State& state = parts_->state;
  const auto known = state.job_of_key().find(idempotency_key);
  if (known == state.job_of_key().end()) return std::nullopt;
  const Job* job = state.FindJob(known->second);
  *request_digest = job != nullptr ? job->head().request_digest()
                                   : state.archived().at(state.archived_ordinals().at(known->second)).request_digest;
  return known->second;
}

farm::v1::NodeStatus Farm::GetNode(const Time& now, const std::string& node_id) const {
  Parts& parts = *parts_;
  parts.now = now;
  farm::v1::NodeStatus status;
  status.set_node_id(node_id);
  status.set_drained(parts.state.drained().count(node_id) > 0);
  if (const farm::v1::WorkerLimits* limited = parts.state.LimitsOf(node_id)) *status.mutable_limits() = *limited;
  const auto found = parts.fleet.nodes.find(node_id);
  if (found == parts.fleet.nodes.end()) {
    const farm::v1::Member* member = parts.state.roster().FindWorker(node_id);
    status.set_name(member == nullptr ? node_id.substr(0, 8) : member->name());
    status.set_note("it has not been there since the coordinator started");
    return status;
  }
  const Node& node = found->second;
  status.set_name(node.name);
  status.set_connected(node.session != 0);
  status.set_software_version(node.software_version);
  status.set_last_heard_ms(static_cast<uint64_t>(std::max<int64_t>(0, now.monotonic_ms - node.last_heard_ms)));
  status.set_leaving(node.leaving);
  status.set_resting(node.resting);
  for (const auto& [index, device] : node.devices) {
    farm::v1::DeviceStatus& shown = *status.add_devices();
    *shown.mutable_report() = device.report;
    *shown.mutable_memory() = device.memory;
    // What its last heartbeat said may be from before the node's limits.
    shown.mutable_memory()->set_free_bytes(std::min(device.memory.free_bytes(), device.report.total_bytes()));
    shown.set_frames_done(device.frames_done);
    shown.set_frames_per_minute(device.pace.FramesPerMinute(now.monotonic_ms));
    uint32_t granted = 0;
    if (const std::set<Token>* tokens = parts.state.GrantsOf(node_id)) {
      for (const Token& token : *tokens) {
        const LiveGrant& grant = parts.state.grants().at(token);
        if (grant.device != index) continue;
        granted += static_cast<uint32_t>(grant.numbers.size());
        if (device.progress.token != token || grant.numbers.count(device.progress.task.number()) == 0) continue;
        shown.set_task(plan::TaskName(device.progress.task));
        shown.set_planned_bytes(grant.planned_bytes);
        const auto placed = parts.fleet.placements.find(token);
        if (placed != parts.fleet.placements.end() && placed->second.plan.predicted_peak_bytes() > 0) {
          *shown.mutable_plan() = placed->second.plan;
        }
        shown.set_step(device.progress.step);
        shown.set_steps(device.progress.steps);
      }
    }
    shown.set_queued(granted - (shown.task().empty() || granted == 0 ? 0 : 1));
    const std::string why = node.session == 0 ? "" : parts.WhyIdle(node, device);
    if (!why.empty() && status.note().empty()) {
      status.set_note(node.devices.size() > 1 ? absl::StrCat("device ", index, ": ", why) : why);
    }
  }
  return status;
}

std::vector<farm::v1::NodeStatus> Farm::ListNodes(const Time& now) const {
  std::vector<farm::v1::NodeStatus> statuses;
  std::set<std::string> ids;
  for (const auto& [id, node] : parts_->fleet.nodes) ids.insert(id);
  // Those that a person limited are told while they are away, too.
  for (const auto& [id, limited] : parts_->state.node_limits()) ids.insert(id);
  for (const std::string& id : ids) statuses.push_back(GetNode(now, id));
  return statuses;
}

std::vector<farm::v1::ModelManifest> Farm::ListModels() const {
  std::vector<farm::v1::ModelManifest> models;
  for (const auto& [name, model] : parts_->state.models()) models.push_back(model);
  return models;
}

const farm::v1::ModelManifest* Farm::FindModel(const std::string& name) const {
  const auto model = parts_->state.models().find(name);
  return model == parts_->state.models().end() ? nullptr : &model->second;
}

}  // namespace storyfarm::coordinator
