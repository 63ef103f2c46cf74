// Who may look at the page: a code from `storyctl web`, good once and for a few minutes, becomes a session, which a
// browser keeps in a cookie. Codes live in memory. Sessions live in a file, so that a page that is open survives a
// restart of the coordinator; the file holds digests, from which no cookie can be made.
#ifndef STORYFARM_COORDINATOR_WEB_SESSIONS_H_
#define STORYFARM_COORDINATOR_WEB_SESSIONS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/client.pb.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"

namespace storyfarm::coordinator {

inline constexpr int64_t kCodeSeconds = 10 * 60;  // from the terminal to the browser, with a coffee between
inline constexpr size_t kCodes = 32;              // that wait to be used: a person has a few browsers
inline constexpr int64_t kSessionDays = 14;       // then `storyctl web` is asked again
inline constexpr size_t kSessions = 200;          // beyond them the one that ends first goes
// 256 random bits each: no number of guesses finds one, so nothing counts them.
inline constexpr size_t kSecretBytes = 32;

struct Session {
  farm::v1::Role role = farm::v1::ROLE_VIEWER;
  int64_t expires_unix_ms = 0;
};

// Any thread.
class Sessions {
 public:
  // Reads the sessions of `file`, which need not be there; its folder is closed to others. DATA_LOSS where it holds
  // something else. `env` outlives this.
  static absl::StatusOr<std::unique_ptr<Sessions>> Open(base::Env* env, std::string file);

  // RESOURCE_EXHAUSTED where too many wait to be used.
  absl::StatusOr<std::string> DrawCode(farm::v1::Role role);

  struct Login {
    std::string token;  // for the cookie
    Session session;
  };
  // Uses a code up. PERMISSION_DENIED with a sentence: wrong, used, or too old.
  absl::StatusOr<Login> Redeem(const std::string& code);

  // The session of a cookie's token; none: it never was, was ended, or is too old.
  std::optional<Session> Find(const std::string& token) const;
  // Durably; OK where there is none.
  absl::Status End(const std::string& token);

 private:
  struct Code {
    farm::v1::Role role = farm::v1::ROLE_VIEWER;
    int64_t expires_ms = 0;  // monotonic
    bool used = false;       // kept until it expires, to say so
  };
  Sessions(base::Env* env, std::string file) : env_(env), file_(std::move(file)) {}
  absl::Status Load();
  absl::Status Save();     // holds mutex_
  void DropOldCodes();     // holds mutex_
  void DropOldSessions();  // holds mutex_

  base::Env* const env_;
  const std::string file_;
  mutable std::mutex mutex_;
  std::map<base::Digest, Code> codes_;
  std::map<base::Digest, Session> sessions_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_SESSIONS_H_
