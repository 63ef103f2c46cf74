#include "coordinator/rpc/join_desk.h"

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/status.h"
#include "pipeline/base/join_code.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {
namespace {

constexpr int64_t kMinuteMs = 60'000;
// Hosts whose wrong codes are counted; with more than these the network is under attack, and all others are refused.
constexpr size_t kMostHosts = 1'000;

std::string AskForAnother(farm::v1::MemberKind kind) {
  return absl::StrCat("Ask for a new one: storyctl ", plan::MemberKindName(kind), " add, on the farm's machine.");
}

}  // namespace

absl::StatusOr<std::string> JoinDesk::Open(const Offer& offer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t now_ms = env_->MonotonicMs();
  ForgetOld(now_ms);
  if (codes_.size() >= kMostCodes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        kMostCodes, " codes were made within a day: use those that are open, or start the coordinator again"));
  }
  std::string secret = env_->RandomBytes(base::kJoinSecretBytes);
  Code& code = codes_[base::Digest::Of(secret)];
  code.offer = offer;
  code.opened_ms = now_ms;
  return secret;
}

absl::Status JoinDesk::CountWrong(const std::string& host, int64_t now_ms) {
  if (wrong_.size() >= kMostHosts && wrong_.count(host) == 0) {
    return Busy("Too many wrong codes came; try again in a minute.", kMinuteMs);
  }
  Wrong& wrong = wrong_[host];
  if (now_ms - wrong.since_ms >= kMinuteMs) wrong = {now_ms, 0};
  if (++wrong.count > kWrongAMinute) {
    return Busy(
        absl::StrCat("More than ", kWrongAMinute, " wrong codes came from there; try again in a minute."), kMinuteMs);
  }
  return absl::NotFoundError(
      "This code is none of this farm's, or was made before its coordinator started last. Ask for a new one: storyctl "
      "worker add or storyctl user add, on the farm's machine.");
}

absl::StatusOr<JoinDesk::Taken> JoinDesk::Take(const std::string& secret, farm::v1::MemberKind kind,
                                               const base::Digest& key, const std::string& host) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t now_ms = env_->MonotonicMs();
  ForgetOld(now_ms);
  const auto found = codes_.find(base::Digest::Of(secret));
  if (found == codes_.end()) return CountWrong(host, now_ms);
  Code& code = found->second;
  if (code.offer.kind != kind) {
    return absl::FailedPreconditionError(absl::StrCat("This code is for a ", plan::MemberKindName(code.offer.kind),
                                                      ", not for a ", plan::MemberKindName(kind), "."));
  }
  const int64_t age_ms = now_ms - code.opened_ms;
  const bool may_ask_again = code.state == State::kUsed && code.key == key && age_ms < kCodeMs;
  if (may_ask_again && !code.answer.certificate_pem().empty()) return Taken{code.offer, true, code.answer};
  if (code.state == State::kUsed) {
    return absl::FailedPreconditionError(
        absl::StrCat("This code has been used; each is good once. ", AskForAnother(kind)));
  }
  if (age_ms >= kCodeMs) {
    return absl::DeadlineExceededError(absl::StrCat("This code is ", age_ms / kMinuteMs,
                                                    " minutes old; each is good for ", kCodeMs / kMinuteMs, ". ",
                                                    AskForAnother(kind)));
  }
  if (code.state == State::kTaken) {
    return absl::FailedPreconditionError(
        absl::StrCat("This code is being used by another machine just now; each is good once. ", AskForAnother(kind)));
  }
  code.state = State::kTaken;
  return Taken{code.offer, false, {}};
}

void JoinDesk::Settle(const std::string& secret, const base::Digest& key, const farm::v1::JoinResponse& answer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = codes_.find(base::Digest::Of(secret));
  if (found == codes_.end()) return;
  found->second.state = State::kUsed;
  found->second.key = key;
  found->second.answer = answer;
}

void JoinDesk::Return(const std::string& secret) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = codes_.find(base::Digest::Of(secret));
  if (found != codes_.end() && found->second.state == State::kTaken) found->second.state = State::kOpen;
}

void JoinDesk::ForgetOld(int64_t now_ms) {
  for (auto code = codes_.begin(); code != codes_.end();) {
    const int64_t age_ms = now_ms - code->second.opened_ms;
    if (age_ms >= kCodeMs) code->second.answer.Clear();
    code = age_ms >= kRememberedMs && code->second.state != State::kTaken ? codes_.erase(code) : std::next(code);
  }
  for (auto host = wrong_.begin(); host != wrong_.end();) {
    host = now_ms - host->second.since_ms >= kMinuteMs ? wrong_.erase(host) : std::next(host);
  }
}

}  // namespace storyfarm::coordinator
