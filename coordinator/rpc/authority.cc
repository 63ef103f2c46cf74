#include "coordinator/rpc/authority.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/membership.h"
#include "pipeline/plan/peering.h"

namespace storyfarm::coordinator {
namespace {

constexpr uint64_t kPemBytes = 64 << 10;

// Whether the coordinator's own certificate serves, and for long enough.
bool OwnIsGood(const base::Membership& own, const base::Authority& authority, int64_t now_unix_ms) {
  const absl::StatusOr<base::CertificateFacts> facts = base::ReadCertificate(own.certificate_pem);
  return own.authority_pem == authority.certificate_pem && facts.ok() && facts->host == base::kCoordinatorHost &&
         now_unix_ms >= facts->begins_unix_ms && !base::RenewalDue(*facts, now_unix_ms);
}

}  // namespace

absl::StatusOr<FarmAuthority> FarmAuthority::Open(base::Env& env, const std::string& trust_folder) {
  const std::string key_file = base::AuthorityKeyFile(trust_folder);
  if (!env.Exists(key_file)) return absl::NotFoundError(absl::StrCat(trust_folder, " holds no authority"));
  absl::StatusOr<std::string> key = env.ReadFile(key_file, kPemBytes);
  if (!key.ok()) return key.status();
  absl::StatusOr<std::string> certificate = env.ReadFile(base::AuthorityFile(trust_folder), kPemBytes);
  if (!certificate.ok()) return certificate.status();
  base::Authority authority{*std::move(key), *std::move(certificate)};
  const absl::StatusOr<base::CertificateFacts> facts = base::ReadCertificate(authority.certificate_pem);
  absl::Status whole = facts.status();
  if (whole.ok()) whole = base::CheckKey(authority.certificate_pem, authority.key_pem);
  if (!whole.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("The farm's authority in ", trust_folder, " can't be used (", whole.message(),
                     "): take authority.key and authority.crt from a copy of that folder."));
  }
  return FarmAuthority(trust_folder, std::move(authority), facts->digest);
}

absl::StatusOr<FarmAuthority> FarmAuthority::Create(base::Env& env, const std::string& trust_folder) {
  absl::StatusOr<base::Authority> authority = base::NewAuthority(env.NowUnixMs());
  if (!authority.ok()) return authority.status();
  if (absl::Status made = env.CreateFolders(trust_folder); !made.ok()) return made;
  // The key last: where it is, the certificate is, too.
  absl::Status kept = env.WriteFileDurably(base::AuthorityFile(trust_folder), authority->certificate_pem);
  if (kept.ok()) kept = env.WriteSecretDurably(base::AuthorityKeyFile(trust_folder), authority->key_pem);
  if (!kept.ok()) return kept;
  return Open(env, trust_folder);
}

absl::StatusOr<bool> FarmAuthority::RenewOwn(base::Env& env) const {
  const int64_t now_unix_ms = env.NowUnixMs();
  absl::StatusOr<base::Membership> own = base::LoadMembership(env, trust_folder_);
  if (own.ok() && OwnIsGood(*own, authority_, now_unix_ms)) return false;
  base::Membership next;
  next.authority_pem = authority_.certificate_pem;
  // The key stays: a certificate and a key that are read while both change would not belong together.
  absl::StatusOr<std::string> key = own.ok() ? own->key_pem : base::NewKey();
  if (!key.ok()) return key.status();
  next.key_pem = *std::move(key);
  const absl::StatusOr<std::string> request = base::NewSigningRequest(next.key_pem);
  if (!request.ok()) return request.status();
  base::CertificateTerms terms;
  terms.host = base::kCoordinatorHost;
  terms.subject = "coordinator";
  terms.now_unix_ms = now_unix_ms;
  absl::StatusOr<base::Certificate> certificate = base::IssueCertificate(authority_, *request, terms);
  if (!certificate.ok()) return certificate.status();
  next.certificate_pem = std::move(certificate->pem);
  if (absl::Status saved = own.ok() ? base::SaveRenewed(env, trust_folder_, next.certificate_pem)
                                    : base::SaveMembership(env, trust_folder_, next);
      !saved.ok()) {
    return saved;
  }
  return true;
}

absl::StatusOr<base::Certificate> FarmAuthority::Sign(const std::string& signing_request_pem,
                                                      const farm::v1::Member& member, int64_t now_unix_ms) const {
  base::CertificateTerms terms;
  terms.host = plan::MemberHost(member);
  terms.subject = member.name();
  terms.now_unix_ms = now_unix_ms;
  return base::IssueCertificate(authority_, signing_request_pem, terms);
}

}  // namespace storyfarm::coordinator
