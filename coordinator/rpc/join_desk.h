// Codes to join with that are open: each good once and for a quarter of an hour. Kept in memory only, so that none
// outlives the coordinator that made it. Behind server.h.
//
//   Open ──> open ──Take──> taken ──Settle──> used    (and the answer again, for the key that used it)
//             │  <──Return──┘
//             └── its time is over ──> expired
#ifndef STORYFARM_COORDINATOR_RPC_JOIN_DESK_H_
#define STORYFARM_COORDINATOR_RPC_JOIN_DESK_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/join.pb.h"
#include "farm/v1/trust.pb.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"

namespace storyfarm::coordinator {

// Long enough to walk to the other machine, short enough that a code on a screen is worth little.
inline constexpr int64_t kCodeMs = int64_t{15} * 60 * 1000;
// So long one that was used or is too old is told from one that never was.
inline constexpr int64_t kRememberedMs = int64_t{24} * 3600 * 1000;
// Somebody who sets up a classroom; beyond it codes are made by mistake.
inline constexpr size_t kMostCodes = 256;
// Wrong secrets that one host may send in a minute. 128 random bits are not guessed; this keeps the noise down.
inline constexpr int kWrongAMinute = 10;

// Thread-safe.
class JoinDesk {
 public:
  struct Offer {
    farm::v1::MemberKind kind = farm::v1::MEMBER_KIND_UNSPECIFIED;
    std::string name;  // empty: whatever who joins says
    farm::v1::Role role = farm::v1::ROLE_UNSPECIFIED;
  };
  // `env` outlives the desk.
  explicit JoinDesk(base::Env* env) : env_(env) {}

  // A fresh secret. RESOURCE_EXHAUSTED: kMostCodes are open or remembered.
  absl::StatusOr<std::string> Open(const Offer& offer);

  struct Taken {
    Offer offer;
    bool answered = false;  // this key used it before: `answer` is what it got
    farm::v1::JoinResponse answer;
  };
  // Whoever takes a code settles it or returns it. `host`: from where it came, for the count of wrong ones. Errors as
  // JoinService.Join says.
  absl::StatusOr<Taken> Take(const std::string& secret, farm::v1::MemberKind kind, const base::Digest& key,
                             const std::string& host);
  // An empty answer is not given again.
  void Settle(const std::string& secret, const base::Digest& key, const farm::v1::JoinResponse& answer);
  void Return(const std::string& secret);

 private:
  enum class State { kOpen, kTaken, kUsed };
  struct Code {
    Offer offer;
    State state = State::kOpen;
    int64_t opened_ms = 0;
    base::Digest key;  // that used it
    farm::v1::JoinResponse answer;
  };
  struct Wrong {
    int64_t since_ms = 0;
    int count = 0;
  };
  // These hold mutex_.
  void ForgetOld(int64_t now_ms);
  absl::Status CountWrong(const std::string& host, int64_t now_ms);

  base::Env* const env_;
  std::mutex mutex_;
  std::map<base::Digest, Code> codes_;  // by the secret's SHA-256: a look-up tells nothing of the secret by its time
  std::map<std::string, Wrong> wrong_;  // by host
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_JOIN_DESK_H_
