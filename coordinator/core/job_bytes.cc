#include "coordinator/core/job.h"

#include <algorithm>

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;

void WriteTask(ByteWriter& out, const TaskKey& task) {
  out.Number(task.first);
  out.Number(task.second);
}

TaskKey ReadTask(ByteReader& in) {
  const auto kind = static_cast<farm::v1::TaskKind>(in.Number());
  return {kind, static_cast<uint32_t>(in.Number())};
}

void WriteSlot(ByteWriter& out, const Slot& slot) {
  out.Number(slot.token.incarnation);
  out.Number(slot.token.number);
  out.Number(slot.node);
  out.Number(slot.attempts);
  out.Number(slot.state);
  out.Number(slot.own_tries);
  out.Number(slot.machine_faults);
  out.Number(slot.device);
  out.Number(slot.alone ? 1 : 0);
  out.Number(slot.ahead ? 1 : 0);
}

Slot ReadSlot(ByteReader& in) {
  Slot slot;
  slot.token.incarnation = in.Number();
  slot.token.number = in.Number();
  slot.node = static_cast<uint32_t>(in.Number());
  slot.attempts = static_cast<uint16_t>(in.Number());
  slot.state = static_cast<uint8_t>(in.Number());
  slot.own_tries = static_cast<uint8_t>(in.Number());
  slot.machine_faults = static_cast<uint8_t>(in.Number());
  slot.device = static_cast<uint8_t>(in.Number());
  slot.alone = in.Number() != 0;
  slot.ahead = in.Number() != 0;
  return slot;
}

}  // namespace

void Job::Write(ByteWriter& out) const {
  panels_.spec().Write(out);
  out.Number(ordinal());
  out.Number(state);
  out.Number(finished_unix_ms);
  out.Number(paused ? 1 : 0);
  out.Number(priority);
  out.Number(frame_grants_);
  out.Number(granted_ever_ ? 1 : 0);
  out.Number(nodes_.size());
  for (const JobNode& node : nodes_) {
    out.String(node.id);
    out.String(node.name);
    out.Number(node.tasks_done);
  }
  for (int kind = kFirstKind; kind <= kLastKind; ++kind) {
    for (uint32_t i = 0; i < slots_[kind].size(); ++i) WriteSlot(out, slots_[kind][i]);
  }
  out.Number(outcomes_.size());
  for (const FrameOutcome& outcome : outcomes_) {
    out.String(absl::string_view(outcome.image.data(), outcome.image.size()));
    out.String(absl::string_view(outcome.latents.data(), outcome.latents.size()));
    out.Number(outcome.image_bytes);
    out.Number(outcome.latents_bytes);
    out.Number(outcome.peak_bytes);
    out.Number(outcome.predicted_peak_bytes);
    out.Number(outcome.finished_unix_ms);
    out.Number(outcome.render_ms);
  }
  for (uint32_t i = 0; i < slots_[TASK_FRAME].size(); ++i) out.Number(slots_[TASK_FRAME][i].outcome);
  out.Number(frame_warnings_.size());
  for (const auto& [panel, warnings] : frame_warnings_) {
    out.Number(panel);
    out.Number(warnings.size());
    for (const std::string& warning : warnings) out.String(warning);
  }
  out.Number(banks_.size());
  for (const auto& [identity, bank] : banks_) {
    out.Number(identity);
    out.String(bank.SerializeAsString());
  }
  out.Number(pack_uses_.size());
  for (const auto& [identity, use] : pack_uses_) {
    out.Number(identity);
    out.String(use.SerializeAsString());
  }
  out.Number(identity_ms_.size());
  for (const auto& [identity, took_ms] : identity_ms_) {
    out.Number(identity);
    out.Number(took_ms);
  }
  out.Number(page_results_.size());
  for (const auto& [page, result] : page_results_) {
    out.Number(page);
    out.String(result.SerializeAsString());
  }
  out.Number(texts_.size());
  for (const auto& [text, embeddings] : texts_) {
    out.Number(text);
    out.String(embeddings.SerializeAsString());
  }
  out.Number(problems_.size());
  for (const auto& [task, problem] : problems_) {
    WriteTask(out, task);
    out.Number(problem.kind);
    out.String(problem.message);
  }
  out.Number(aborts_.size());
  for (const auto& [task, nodes] : aborts_) {
    WriteTask(out, task);
    out.Number(nodes.size());
    for (uint32_t node : nodes) out.Number(node);
  }
}

bool Job::ReadSlots(ByteReader& in) {
  for (int kind = kFirstKind; kind <= kLastKind; ++kind) {
    for (uint32_t i = 0; i < slots_[kind].size(); ++i) {
      const Slot slot = ReadSlot(in);
      if (slot.state < farm::v1::TASK_BLOCKED || slot.state > farm::v1::TASK_CANCELLED) return false;
      if (slot.node > nodes_.size()) return false;
      slots_[kind].Put(i, slot);
    }
  }
  return true;
}

bool Job::ReadIdentities(ByteReader& in) {
  for (uint64_t left = in.Count(); left > 0; --left) {
    const auto identity = static_cast<uint32_t>(in.Number());
    if (!banks_[identity].ParseFromString(in.String())) return false;
  }
  for (uint64_t left = in.Count(); left > 0; --left) {
    const auto identity = static_cast<uint32_t>(in.Number());
    if (!pack_uses_[identity].ParseFromString(in.String())) return false;
  }
  for (uint64_t left = in.Count(); left > 0; --left) {
    const auto identity = static_cast<uint32_t>(in.Number());
    identity_ms_[identity] = in.Number();
  }
  return in.ok();
}

bool Job::ReadTexts(ByteReader& in) {
  for (uint64_t left = in.Count(); left > 0; --left) {
    const auto text = static_cast<uint32_t>(in.Number());
    if (!texts_[text].ParseFromString(in.String())) return false;
  }
  return in.ok();
}

std::optional<Job> Job::Read(ByteReader& in, SpecShelf* shelf, PanelCache* cache) {
  std::optional<PackedSpec> spec = PackedSpec::Read(in);
  if (!spec.has_value()) return std::nullopt;
  Limits unbounded;
  unbounded.spec_bytes = SIZE_MAX;
  unbounded.frames_a_job = SIZE_MAX;
  if (!Validate(spec->head(), spec->panels(), unbounded).ok()) return std::nullopt;
  const uint64_t ordinal = in.Number();
  Job job(shelf != nullptr ? shelf->Keep(*std::move(spec)) : std::make_shared<const PackedSpec>(*std::move(spec)),
          ordinal, cache);
  job.state = static_cast<farm::v1::JobState>(in.Number());
  job.finished_unix_ms = in.Number();
  job.paused = in.Number() != 0;
  job.priority = static_cast<uint32_t>(in.Number());
  job.frame_grants_ = in.Number();
  job.granted_ever_ = in.Number() != 0;
  for (uint64_t left = in.Count(); left > 0; --left) {
    JobNode node;
    node.id = in.String();
    node.name = in.String();
    node.tasks_done = static_cast<uint32_t>(in.Number());
    job.nodes_.push_back(std::move(node));
  }
  if (!job.ReadSlots(in)) return std::nullopt;
  for (uint64_t left = in.Count(); left > 0; --left) {
    FrameOutcome outcome;
    for (auto* digest : {&outcome.image, &outcome.latents}) {
      const std::string bytes = in.String();
      if (bytes.size() != digest->size()) return std::nullopt;
      std::copy(bytes.begin(), bytes.end(), digest->begin());
    }
    outcome.image_bytes = in.Number();
    outcome.latents_bytes = in.Number();
    outcome.peak_bytes = in.Number();
    outcome.predicted_peak_bytes = in.Number();
    outcome.finished_unix_ms = in.Number();
    outcome.render_ms = in.Number();
    job.outcomes_.push_back(outcome);
  }
  for (uint32_t i = 0; i < job.slots_[TASK_FRAME].size(); ++i) {
    const auto at = static_cast<uint32_t>(in.Number());
    if (at > job.outcomes_.size()) return std::nullopt;
    if (at > 0) job.slots_[TASK_FRAME].Mutable(i).outcome = at;
  }
  for (uint64_t left = in.Count(); left > 0; --left) {
    auto& warnings = job.frame_warnings_[static_cast<uint32_t>(in.Number())];
    for (uint64_t lines = in.Count(); lines > 0; --lines) warnings.push_back(in.String());
  }
  if (!job.ReadIdentities(in)) return std::nullopt;
  for (uint64_t left = in.Count(); left > 0; --left) {
    const auto page = static_cast<uint32_t>(in.Number());
    if (!job.page_results_[page].ParseFromString(in.String())) return std::nullopt;
  }
  if (!job.ReadTexts(in)) return std::nullopt;
  for (uint64_t left = in.Count(); left > 0; --left) {
    TaskProblem& problem = job.problems_[ReadTask(in)];
    problem.kind = static_cast<farm::v1::FailureKind>(in.Number());
    problem.message = in.String();
  }
  for (uint64_t left = in.Count(); left > 0; --left) {
    auto& nodes = job.aborts_[ReadTask(in)];
    for (uint64_t count = in.Count(); count > 0; --count) nodes.insert(static_cast<uint32_t>(in.Number()));
  }
  if (!in.ok()) return std::nullopt;
  job.Reindex();
  return job;
}

}  // namespace storyfarm::coordinator
