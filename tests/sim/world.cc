#include "tests/sim/world.h"

#include "absl/strings/str_format.h"

namespace storyfarm::sim {

using coordinator::AppendOutcome;
using coordinator::AppendResult;
using coordinator::MemoryDisk;

coordinator::Limits FarmLimits(Mutant mutant) {
  coordinator::Limits limits;
  limits.heartbeat_ms = 700;
  limits.lease_ms = 5000;
  limits.notices = true;
  limits.live_jobs = 3;  // so that submitters are refused and try again
  limits.frames_a_group = 16;
  limits.prefetch_seconds = 4;
  limits.group_seconds = 20;
  limits.turn_seconds = 8;
  limits.backoff_first_ms = 300;
  limits.backoff_most_ms = 10'000;
  limits.set_aside_ms = 20'000;
  limits.finished_jobs_hot = 1;
  if (mutant == Mutant::kGroupsPileUp) limits.groups_a_device = 50;
  if (mutant == Mutant::kGroupsPileUp) limits.prefetch_seconds = 100'000;
  return limits;
}

worker::Limits WorkerLimits(Mutant mutant) {
  worker::Limits limits;
  limits.heartbeat_ms = 700;
  limits.unknown_silence_ms = 40'000;
  limits.least_silence_ms = 8000;
  limits.answer_ms = 3000;
  limits.upload_first_ms = 300;
  limits.upload_most_ms = 10'000;
  limits.engine_first_ms = 200;
  limits.engine_most_ms = 20'000;
  if (mutant == Mutant::kGroupsPileUp) limits.groups_a_device = 50;
  if (mutant == Mutant::kSilentEngineRenewed) limits.unknown_silence_ms = limits.least_silence_ms = INT64_MAX / 4;
  return limits;
}

World::World(const Options& options_in)
    : options(options_in),
      limits(FarmLimits(options.mutant)),
      worker_limits(WorkerLimits(options.mutant)),
      planner(options.mutant != Mutant::kNeedNotCounted),
      judge(&time, &blobs, limits.lease_ms, coordinator::Limits().groups_a_device),
      network(&time, options.seed, options.nodes),
      truth(std::make_unique<coordinator::Farm>(&planner, limits)) {}

MemoryDisk::Accident World::NextAccident() {
  if (trouble.lose_request > 0) {
    --trouble.lose_request;
    return MemoryDisk::Accident::kRequestLost;
  }
  if (trouble.lose_answer > 0) {
    --trouble.lose_answer;
    return MemoryDisk::Accident::kAnswerLost;
  }
  if (trouble.refuse > 0) {
    --trouble.refuse;
    return MemoryDisk::Accident::kRefused;
  }
  return MemoryDisk::Accident::kNone;
}

void World::TroubleNextWrite() {
  const MemoryDisk::Accident accident = NextAccident();
  if (accident != MemoryDisk::Accident::kNone) disk->Break(accident, 1);
}

AppendResult World::Append(coordinator::MemoryStore& store, const farm::v1::RecordBatch& batch) {
  const MemoryDisk::Accident accident = NextAccident();
  if (accident != MemoryDisk::Accident::kNone) disk->Break(accident, 1);
  const AppendResult result = store.Append(batch);
  const bool written = result.outcome == AppendOutcome::kAppended ||
                       (result.outcome == AppendOutcome::kUnknown && accident == MemoryDisk::Accident::kAnswerLost);
  if (!written || batch.sequence() != head + 1) return result;
  head = batch.sequence();
  judge.Durable(batch);
  counts.records += static_cast<uint64_t>(batch.records_size());
  for (const farm::v1::Record& record : batch.records()) {
    counts.pack_hits += record.has_pack_used();
    counts.results += record.has_frame_finished() || record.has_identity_finished() || record.has_page_finished() ||
                      record.has_text_finished();
    if (const absl::Status status = truth->Apply(record); !status.ok())
      return judge.Complain(Rule::kReplaySame, std::string(status.message())), result;
  }
  return result;
}

void World::AddTrace(const std::string& line) {
  if (trace.size() >= 2 * kTraceLines) trace.erase(trace.begin(), trace.begin() + kTraceLines);
  trace.push_back(absl::StrFormat("%10.3f  %s", static_cast<double>(time.now_ms()) / 1000, line));
}

void Counts::Add(const Counts& other) {
  node_failures += other.node_failures;
  holders_failed += other.holders_failed;
  coordinator_starts += other.coordinator_starts;
  steps += other.steps;
  events += other.events;
  records += other.records;
  results += other.results;
  pack_hits += other.pack_hits;
  faults += other.faults;
}

}  // namespace storyfarm::sim
