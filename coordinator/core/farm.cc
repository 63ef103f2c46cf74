#include "coordinator/core/farm.h"

#include <cstdio>
#include <cstdlib>

#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {

farm::v1::TaskId MakeTask(const std::string& job_id, farm::v1::TaskKind kind, uint32_t number) {
  farm::v1::TaskId task;
  task.set_job_id(job_id);
  task.set_kind(kind);
  task.set_number(number);
  return task;
}

Farm::Farm(const Planner* planner, const Limits& limits, SpecShelf* shelf)
    : parts_(std::make_unique<Parts>(planner, limits, shelf)) {}
Farm::~Farm() = default;

absl::Status Farm::Apply(const farm::v1::Record& record) { return parts_->state.Apply(record); }

uint64_t Farm::last_record() const { return parts_->state.record_count(); }

std::vector<std::string> Farm::SerializeState() const {
  ByteWriter out;
  parts_->state.Write(out);
  const std::string bytes = out.Take();
  std::vector<std::string> pieces;
  for (size_t at = 0; at < bytes.size(); at += kSnapshotPieceBytes) {
    pieces.push_back(bytes.substr(at, kSnapshotPieceBytes));
  }
  return pieces;
}

absl::Status Farm::LoadState(const std::vector<std::string>& pieces) {
  std::string bytes;
  for (const std::string& piece : pieces) bytes += piece;
  ByteReader in(bytes);
  return parts_->state.Read(in);
}

absl::Status Farm::CheckReplay(const Farm& second) const {
  const std::vector<std::string> pieces = SerializeState();
  Farm loaded(parts_->planner, parts_->limits, parts_->shelf);
  if (absl::Status status = loaded.LoadState(pieces); !status.ok()) return status;
  if (loaded.SerializeState() == pieces && second.SerializeState() == pieces) return absl::OkStatus();
  return absl::DataLossError(
      "replaying the log twice gave two different states: a defect of this coordinator; keep the log, it is unharmed");
}

Decisions Farm::Step(const Time& now, Input input) {
  Parts& parts = *parts_;
  parts.now = now;
  // Before Started nothing may be decided: no token could be drawn.
  if (parts.started || std::holds_alternative<Started>(input)) {
    std::visit([&parts](auto& what) { parts.On(what); }, input);
    if (parts.schedule) parts.Schedule();
    parts.schedule = false;
    parts.OfferArchives();
    parts.OfferDrops();
    parts.OfferNotices();
  }
  Decisions out = std::move(parts.out);
  parts.out = Decisions();
  out.changed_jobs.assign(parts.changed.begin(), parts.changed.end());
  parts.changed.clear();
  return out;
}

void Farm::Parts::Commit(farm::v1::Record record) {
  if (const absl::Status status = state.Apply(record); !status.ok()) {
    // The core made a record that can't follow: a defect. Nothing of this Step has left the process; going on could
    // only spread the damage, and a restart begins from what is durable.
    std::fprintf(stderr, "storyfarm: defect in the coordinator's core: %s\n", std::string(status.message()).c_str());
    std::abort();
  }
  Note(record);
  out.records.push_back(std::move(record));
}

void Farm::Parts::Note(const farm::v1::Record& record) {
  const auto touch = [this](const std::string& job_id, const std::string& node_id) {
    touched_jobs.insert(job_id);
    if (!node_id.empty()) touched_nodes.insert(node_id);
  };
  switch (record.fact_case()) {
    case farm::v1::Record::kJobAccepted:
      return touch(record.job_accepted().spec().job_id(), "");
    case farm::v1::Record::kGranted:
      return touch(record.granted().job_id(), record.granted().node_id());
    case farm::v1::Record::kFrameFinished:
      return touch(record.frame_finished().job_id(), record.frame_finished().node_id());
    case farm::v1::Record::kIdentityFinished:
      return touch(record.identity_finished().job_id(), record.identity_finished().node_id());
    case farm::v1::Record::kPageFinished:
      return touch(record.page_finished().job_id(), record.page_finished().node_id());
    case farm::v1::Record::kTextFinished:
      return touch(record.text_finished().job_id(), record.text_finished().node_id());
    case farm::v1::Record::kTextTaken:
      return touch(record.text_taken().job_id(), "");
    case farm::v1::Record::kTextReopened:
      return touch(record.text_reopened().job_id(), "");
    case farm::v1::Record::kTaskReturned:
      return touch(record.task_returned().task().job_id(), record.task_returned().node_id());
    case farm::v1::Record::kTaskFailed:
      return touch(record.task_failed().task().job_id(), "");
    case farm::v1::Record::kJobCancelled:
      return touch(record.job_cancelled().job_id(), "");
    case farm::v1::Record::kJobFinished:
      return touch(record.job_finished().job_id(), "");
    case farm::v1::Record::kJobChanged:
      return touch(record.job_changed().job_id(), "");
    case farm::v1::Record::kTasksRetried:
      return touch(record.tasks_retried().job_id(), "");
    case farm::v1::Record::kIdentityReopened:
      return touch(record.identity_reopened().job_id(), "");
    case farm::v1::Record::kPackUsed:
      return touch(record.pack_used().job_id(), "");
    case farm::v1::Record::kNodeDrained:
      touched_nodes.insert(record.node_drained().node_id());
      return;
    case farm::v1::Record::kNodeLimited:
      touched_nodes.insert(record.node_limited().node_id());
      return;
    case farm::v1::Record::kAuthorityChosen:
    case farm::v1::Record::kMemberAdded:
    case farm::v1::Record::kMemberRenamed:
    case farm::v1::Record::kMemberRenewed:
    case farm::v1::Record::kMemberRemoved:
      out.members_changed = true;
      return;
    case farm::v1::Record::kNeedLearned:
      return pool.TouchAllOffers();
    default:
      return;
  }
}

void Farm::Parts::Settle() {
  for (const std::string& id : touched_nodes) {
    if (const auto node = fleet.nodes.find(id); node != fleet.nodes.end()) pool.Touch(node->second);
  }
  touched_nodes.clear();
  for (const std::string& id : touched_jobs) {
    const Job* job = state.FindJob(id);
    if (job == nullptr) continue;
    const bool live = state.live().count(job->ordinal()) > 0;
    const auto held = fleet.held_rates.find(job->ordinal());
    queue.Update(*job, live, held == fleet.held_rates.end() ? 0 : held->second);
    changed_turns.insert(job->ordinal());
    if (!live) fleet.Forget(job->ordinal(), id);
  }
  touched_jobs.clear();
}

void Farm::Parts::Send(uint64_t session, farm::v1::CoordinatorMessage message) {
  if (session == 0) return;
  out.messages.push_back({session, state.record_count(), std::move(message)});
}

void Farm::Parts::CloseWith(uint64_t session, absl::Status status) {
  out.closes.push_back({session, state.record_count(), std::move(status)});
}

void Farm::Parts::Answer(uint64_t request, absl::Status status, const std::string& job_id, bool existed) {
  out.replies.push_back({request, state.record_count(), std::move(status), job_id, existed});
}

farm::v1::JobArchive Archive::Body() const {
  farm::v1::JobArchive body;
  *body.mutable_spec() = spec->Unpack();
  *body.mutable_status() = status;
  return body;
}

void Farm::Parts::OfferArchives() {
  const std::vector<std::string>& ended = state.ended();
  if (ended.size() <= limits.finished_jobs_hot) return;
  const size_t surplus = ended.size() - limits.finished_jobs_hot;
  for (size_t i = 0; i < surplus; ++i) {
    if (!archives_offered.insert(ended[i]).second) continue;
    const Job& job = *state.FindJob(ended[i]);
    Archive archive;
    archive.job_id = ended[i];
    archive.after_record = state.record_count();
    archive.status = StatusOf(job, true);
    archive.spec = job.packed();
    out.archives.push_back(std::move(archive));
  }
}

// SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
uint64_t Farm::Parts::Random() {
  random += 0x9e3779b97f4a7c15u;
  uint64_t z = random;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace storyfarm::coordinator
