#include "coordinator/web/sessions.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace storyfarm::coordinator {
namespace {

// A line is about 90 bytes.
constexpr uint64_t kFileBytes = uint64_t{64} << 10;

bool IsRole(int number) { return number > farm::v1::ROLE_UNSPECIFIED && farm::v1::Role_IsValid(number); }

}  // namespace

absl::StatusOr<std::unique_ptr<Sessions>> Sessions::Open(base::Env* env, std::string file) {
  std::unique_ptr<Sessions> sessions(new Sessions(env, std::move(file)));
  if (absl::Status status = sessions->Load(); !status.ok()) return status;
  return sessions;
}

absl::Status Sessions::Load() {
  const absl::StatusOr<std::string> bytes = env_->ReadFile(file_, kFileBytes);
  if (absl::IsNotFound(bytes.status())) return absl::OkStatus();
  if (!bytes.ok()) return bytes.status();
  for (const absl::string_view line : absl::StrSplit(*bytes, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    const auto digest = base::Digest::FromHex(words[0]);
    int role = 0;
    Session session;
    if (words.size() != 3 || !digest.ok() || !absl::SimpleAtoi(words[1], &role) || !IsRole(role) ||
        !absl::SimpleAtoi(words[2], &session.expires_unix_ms)) {
      return absl::DataLossError(absl::StrCat(
          file_, " holds a line that is no session of the web page. Delete the file: whoever has the page open then "
                 "asks storyctl web for another link."));
    }
    session.role = static_cast<farm::v1::Role>(role);
    sessions_[*digest] = session;
  }
  DropOldSessions();
  return absl::OkStatus();
}

absl::Status Sessions::Save() {
  std::string lines;
  for (const auto& [digest, session] : sessions_) {
    absl::StrAppend(&lines, digest.Hex(), " ", static_cast<int>(session.role), " ", session.expires_unix_ms, "\n");
  }
  return env_->WriteFileDurably(file_, lines);
}

void Sessions::DropOldCodes() {
  const int64_t now_ms = env_->MonotonicMs();
  std::erase_if(codes_, [now_ms](const auto& code) { return code.second.expires_ms <= now_ms; });
}

void Sessions::DropOldSessions() {
  const int64_t now_ms = env_->NowUnixMs();
  std::erase_if(sessions_, [now_ms](const auto& session) { return session.second.expires_unix_ms <= now_ms; });
  while (sessions_.size() > kSessions) {
    sessions_.erase(std::min_element(sessions_.begin(), sessions_.end(), [](const auto& a, const auto& b) {
      return a.second.expires_unix_ms < b.second.expires_unix_ms;
    }));
  }
}

absl::StatusOr<std::string> Sessions::DrawCode(farm::v1::Role role) {
  const std::lock_guard<std::mutex> lock(mutex_);
  DropOldCodes();
  if (codes_.size() >= kCodes) {
    return absl::ResourceExhaustedError(absl::StrCat(kCodes, " links to the farm's page were made in the last ",
                                                     kCodeSeconds / 60, " minutes: open one of those, or wait."));
  }
  const std::string code = absl::BytesToHexString(env_->RandomBytes(kSecretBytes));
  codes_[base::Digest::Of(code)] = {role, env_->MonotonicMs() + kCodeSeconds * 1000, false};
  return code;
}

absl::StatusOr<Sessions::Login> Sessions::Redeem(const std::string& code) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = codes_.find(base::Digest::Of(code));
  if (found == codes_.end() || found->second.expires_ms <= env_->MonotonicMs()) {
    return absl::PermissionDeniedError(
        absl::StrCat("This link is not of this farm, or older than ", kCodeSeconds / 60,
                     " minutes, or from before the coordinator was started again. Ask storyctl web for another."));
  }
  if (found->second.used) {
    return absl::PermissionDeniedError(
        "This link was opened before, and each one opens the page once. Ask storyctl web for another.");
  }
  Login login;
  login.token = absl::BytesToHexString(env_->RandomBytes(kSecretBytes));
  login.session = {found->second.role, env_->NowUnixMs() + kSessionDays * 24 * 3600 * 1000};
  sessions_[base::Digest::Of(login.token)] = login.session;
  DropOldSessions();
  if (absl::Status status = Save(); !status.ok()) {
    sessions_.erase(base::Digest::Of(login.token));
    return status;
  }
  found->second.used = true;
  return login;
}

std::optional<Session> Sessions::Find(const std::string& token) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = sessions_.find(base::Digest::Of(token));
  if (found == sessions_.end() || found->second.expires_unix_ms <= env_->NowUnixMs()) return std::nullopt;
  return found->second;
}

absl::Status Sessions::End(const std::string& token) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (sessions_.erase(base::Digest::Of(token)) == 0) return absl::OkStatus();
  return Save();
}

}  // namespace storyfarm::coordinator
