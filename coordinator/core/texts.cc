// How text embeddings come and go.
//
//   a result is taken ── TextFinished: kept for later jobs too, where its key is new
//   a text task's turn comes, and there are embeddings of its key ──> TextTaken instead of a grant
//   all that would read them came from packs, or failed ──> its task is over without any
//   a device found their file missing ──> TextDropped, and TextReopened in its job
//   more are kept than the budget allows ──> TextDropped for those used longest ago; jobs that live keep their own
#include <utility>

#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {

using farm::v1::TASK_TEXT;

bool Farm::Parts::TakeText(const Job& job, uint32_t number) {
  if (state.texts().Find(job.head().texts(static_cast<int>(number)).key()) == nullptr) return false;
  const std::string job_id = job.head().job_id();
  farm::v1::Record record;
  record.mutable_text_taken()->set_job_id(job_id);
  record.mutable_text_taken()->set_number(number);
  record.mutable_text_taken()->set_unix_ms(now.unix_ms);
  Commit(std::move(record));
  changed.insert(job_id);
  return true;
}

void Farm::Parts::ReopenTexts(const std::string& job_id, const std::string& missing_digest) {
  const auto drop = [this](const std::string& key) {
    farm::v1::Record record;
    record.mutable_text_dropped()->set_key(key);
    Commit(std::move(record));
  };
  for (const std::string& key : state.texts().KeysOf(missing_digest)) drop(key);
  const Job& job = *state.FindJob(job_id);
  for (uint32_t i = 0; i < job.size(TASK_TEXT) && state.live().count(job.ordinal()) > 0; ++i) {
    const farm::v1::BlobRef* embeddings = job.EmbeddingsOf(i);
    if (embeddings == nullptr || embeddings->digest() != missing_digest || !job.IsTextNeeded(i)) continue;
    farm::v1::Record record;
    record.mutable_text_reopened()->set_job_id(job_id);
    record.mutable_text_reopened()->set_number(i);
    Commit(std::move(record));
    changed.insert(job_id);
  }
}

void Farm::Parts::TrimTexts() {
  const TextShelf& shelf = state.texts();
  for (size_t i = 0; i < limits.forgets_a_tick; ++i) {
    if (shelf.size_bytes() <= limits.text_budget_bytes && shelf.entries().size() <= limits.texts) return;
    farm::v1::Record record;
    record.mutable_text_dropped()->set_key(shelf.oldest());
    Commit(std::move(record));
  }
}

}  // namespace storyfarm::coordinator
