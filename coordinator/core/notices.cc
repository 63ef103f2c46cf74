// How somebody outside hears of each job's end, at least once over all restarts.
//
//   the job ends ── notice_due in the record of its end ─> offered ─> told (coordinator/rpc/webhooks.h)
//                                    again after a restart ──┘          └─ NoticeAnswered ─> NoticeSettled
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {
namespace {

// Of an error that is kept in the log.
constexpr size_t kWhyBytes = 500;

}  // namespace

bool Farm::Parts::NoticeWanted() {
  if (!limits.notices) return false;
  if (state.notices().size() >= limits.notices_due) {
    const auto oldest = std::min_element(
        state.notices().begin(), state.notices().end(),
        [](const auto& a, const auto& b) { return a.second.finished_unix_ms() < b.second.finished_unix_ms(); });
    SettleNotice(std::string(oldest->first), false, 0,
                 absl::StrCat("the ends of ", limits.notices_due, " jobs were waiting to be told"));
  }
  return true;
}

void Farm::Parts::SettleNotice(const std::string& job_id, bool delivered, uint32_t tries, const std::string& why) {
  notices_offered.erase(job_id);
  farm::v1::Record record;
  record.mutable_notice_settled()->set_job_id(job_id);
  record.mutable_notice_settled()->set_delivered(delivered);
  record.mutable_notice_settled()->set_tries(tries);
  record.mutable_notice_settled()->set_why(why.substr(0, kWhyBytes));
  Commit(std::move(record));
}

void Farm::Parts::DropNotices(const std::string& why) {
  while (!state.notices().empty()) SettleNotice(std::string(state.notices().begin()->first), false, 0, why);
}

void Farm::Parts::OfferNotices() {
  if (notices_offered.size() == state.notices().size()) return;
  for (const auto& [job_id, notice] : state.notices()) {
    if (notices_offered.insert(job_id).second) out.notices.push_back({state.record_count(), notice});
  }
}

void Farm::Parts::On(const NoticeAnswered& input) {
  const auto notice = state.notices().find(input.job_id);
  if (notice == state.notices().end() || notice->second.finished_unix_ms() != input.finished_unix_ms) return;
  SettleNotice(input.job_id, input.delivered, input.tries, input.why);
}

}  // namespace storyfarm::coordinator
