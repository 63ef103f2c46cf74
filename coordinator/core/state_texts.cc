// The fold of what happens to text embeddings.
#include "coordinator/core/state.h"

namespace storyfarm::coordinator {

using farm::v1::TASK_TEXT;

absl::Status State::ApplyTextFact(const farm::v1::Record& record) {
  switch (record.fact_case()) {
    case farm::v1::Record::kTextFinished:
      return FinishText(record.text_finished());
    case farm::v1::Record::kTextTaken:
      return TakeText(record.text_taken());
    case farm::v1::Record::kTextReopened:
      return ReopenText(record.text_reopened());
    case farm::v1::Record::kTextDropped:
      return texts_.Drop(record.text_dropped().key());
    default:
      return absl::DataLossError("a fact that is not of texts");
  }
}

absl::Status State::FinishText(const farm::v1::TextFinished& fact) {
  Job* job = LiveJob(fact.job_id());
  const Token token = FromMessage(fact.token());
  if (const absl::Status status = Takes(job, TASK_TEXT, fact.number(), token); !status.ok()) return status;
  Release(*job, token, fact.number());
  job->TextFinished(fact.number(), fact.result());
  texts_.StoreFirst(job->head().texts(static_cast<int>(fact.number())).key(), fact.result().embeddings(),
                    fact.unix_ms());
  return absl::OkStatus();
}

absl::Status State::TakeText(const farm::v1::TextTaken& fact) {
  Job* job = LiveJob(fact.job_id());
  const Slot* slot = job == nullptr ? nullptr : job->slot(TASK_TEXT, fact.number());
  if (slot == nullptr || slot->state != farm::v1::TASK_READY) {
    return absl::DataLossError("embeddings were taken for a text task that is not ready");
  }
  const std::string& key = job->head().texts(static_cast<int>(fact.number())).key();
  const farm::v1::BlobRef* embeddings = texts_.Find(key);
  if (embeddings == nullptr) return absl::DataLossError("embeddings were taken that are not there");
  job->TextTaken(fact.number(), *embeddings);
  texts_.Use(key, fact.unix_ms());
  return absl::OkStatus();
}

absl::Status State::ReopenText(const farm::v1::TextReopened& fact) {
  Job* job = LiveJob(fact.job_id());
  const Slot* slot = job == nullptr ? nullptr : job->slot(TASK_TEXT, fact.number());
  if (slot == nullptr || slot->state != farm::v1::TASK_DONE) {
    return absl::DataLossError("a text task was opened again that is not done");
  }
  job->TextReopened(fact.number());
  return absl::OkStatus();
}

}  // namespace storyfarm::coordinator
