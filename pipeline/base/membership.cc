#include "pipeline/base/membership.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "pipeline/base/places.h"

namespace storyfarm::base {
namespace {

// A key or certificate has about 1 KB, an address less.
constexpr uint64_t kTrustFileBytes = 64 << 10;

std::string FarmFile(std::string_view folder) { return JoinPath(folder, "farm"); }

absl::Status Broken(const std::string& folder, std::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat(
      "What ", folder, " holds of the farm that this machine joined can't be used: ", std::string(why), ". Join again."));
}

}  // namespace

std::string TrustFolder(std::string_view data_folder) { return JoinPath(data_folder, "trust"); }
std::string AuthorityFile(std::string_view folder) { return JoinPath(folder, "authority.crt"); }
std::string AuthorityKeyFile(std::string_view folder) { return JoinPath(folder, "authority.key"); }
std::string OwnKeyFile(std::string_view folder) { return JoinPath(folder, "own.key"); }
std::string OwnCertificateFile(std::string_view folder) { return JoinPath(folder, "own.crt"); }

absl::StatusOr<Membership> LoadMembership(Env& env, const std::string& folder) {
  if (!env.Exists(OwnCertificateFile(folder))) {
    return absl::NotFoundError(absl::StrCat(folder, " holds no certificate"));
  }
  Membership membership;
  const struct {
    std::string path;
    std::string* text;
    bool needed;
  } files[] = {{AuthorityFile(folder), &membership.authority_pem, true},
               {OwnKeyFile(folder), &membership.key_pem, true},
               {OwnCertificateFile(folder), &membership.certificate_pem, true},
               {FarmFile(folder), &membership.farm, false}};
  for (const auto& file : files) {
    absl::StatusOr<std::string> text = env.ReadFile(file.path, kTrustFileBytes);
    if (absl::IsNotFound(text.status()) && !file.needed) continue;
    if (!text.ok()) return Broken(folder, std::string(text.status().message()));
    *file.text = *std::move(text);
  }
  membership.farm = std::string(absl::StripAsciiWhitespace(membership.farm));
  absl::Status whole = CheckKey(membership.certificate_pem, membership.key_pem);
  if (whole.ok()) whole = CheckIssuer(membership.certificate_pem, membership.authority_pem);
  if (!whole.ok()) return Broken(folder, std::string(whole.message()));
  return membership;
}

absl::Status SaveMembership(Env& env, const std::string& folder, const Membership& membership) {
  if (absl::Status status = env.CreateFolders(folder); !status.ok()) return status;
  if (absl::Status status = env.WriteSecretDurably(OwnKeyFile(folder), membership.key_pem); !status.ok()) return status;
  if (absl::Status status = env.WriteFileDurably(AuthorityFile(folder), membership.authority_pem); !status.ok()) {
    return status;
  }
  if (!membership.farm.empty()) {
    absl::Status status = env.WriteFileDurably(FarmFile(folder), membership.farm + "\n");
    if (!status.ok()) return status;
  }
  return SaveRenewed(env, folder, membership.certificate_pem);
}

absl::Status SaveRenewed(Env& env, const std::string& folder, const std::string& certificate_pem) {
  return env.WriteFileDurably(OwnCertificateFile(folder), certificate_pem);
}

std::string JoinedFarm(Env& env, const std::string& folder) {
  const absl::StatusOr<std::string> text = env.ReadFile(FarmFile(folder), kTrustFileBytes);
  return text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : "";
}

absl::Status CheckFarmAccess(Env& env, const std::string& farm, const std::string& trust_folder,
                             std::string_view join_command) {
  if (!NeedsCertificate(farm)) return absl::OkStatus();
  const std::string how =
      absl::StrCat("run ", std::string(join_command), " here with a new code from the farm's machine");
  const absl::StatusOr<Membership> membership = LoadMembership(env, trust_folder);
  if (absl::IsNotFound(membership.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat("The farm at ", farm, " is reached over mutual TLS, and nothing here has joined it (",
                     trust_folder, " holds no certificate): ", how, "."));
  }
  if (!membership.ok()) return membership.status();
  const absl::StatusOr<CertificateFacts> facts = ReadCertificate(membership->certificate_pem);
  if (!facts.ok()) return Broken(trust_folder, std::string(facts.status().message()));
  const int64_t now_unix_ms = env.NowUnixMs();
  if (now_unix_ms < facts->begins_unix_ms) {
    return absl::FailedPreconditionError(
        absl::StrCat("This machine's clock says ", FormatUnixMs(now_unix_ms), ", and its certificate begins ",
                     FormatUnixMs(facts->begins_unix_ms), ": set the clock, then try again."));
  }
  if (now_unix_ms > facts->expires_unix_ms) {
    return absl::FailedPreconditionError(
        absl::StrCat("The certificate in ", trust_folder, " ended ", FormatUnixMs(facts->expires_unix_ms),
                     " by this machine's clock (", FormatUnixMs(now_unix_ms), "): set the clock if it is wrong, else ",
                     how, "."));
  }
  return absl::OkStatus();
}

std::string FormatUnixMs(int64_t unix_ms) {
  return absl::FormatTime("%Y-%m-%d %H:%M UTC", absl::FromUnixMillis(unix_ms), absl::UTCTimeZone());
}

}  // namespace storyfarm::base
