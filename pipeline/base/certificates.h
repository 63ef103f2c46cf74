// Keys and certificates of a farm: an authority of its own, which vouches for its coordinators, machines and people.
// Everything is OpenSSL's; this is what of it a farm needs, in PEM. Keys are P-256 (FIPS 186-4), which every TLS
// speaks; certificates are X.509 v3 (RFC 5280), each good for both ends of a connection under its own name.
#ifndef STORYFARM_PIPELINE_BASE_CERTIFICATES_H_
#define STORYFARM_PIPELINE_BASE_CERTIFICATES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/digest.h"

namespace storyfarm::base {

// The name that every coordinator's certificate carries, whatever its addresses are: those change, and a machine that
// joined asks for this one. Nobody else gets it. (.internal never leaves a private network, ICANN 2024.)
inline constexpr char kCoordinatorHost[] = "coordinator.storyfarm.internal";

// Certificates begin so long before they are made: clocks of machines differ, and one whose battery died may be a day
// behind.
inline constexpr int64_t kBackdatedMs = int64_t{48} * 3600 * 1000;
// A machine that sleeps through a winter still gets in; one that was lost is removed, not waited for.
inline constexpr int64_t kCertificateMs = int64_t{365} * 24 * 3600 * 1000;
// Longer than any of its machines: an authority that ends ends the farm.
inline constexpr int64_t kAuthorityMs = int64_t{30} * kCertificateMs;

// From OpenSSL's own generator. PKCS #8 in PEM. INTERNAL where OpenSSL fails, as everywhere below.
absl::StatusOr<std::string> NewKey();

// Asks for a certificate of this key (PKCS #10). Whatever else a certificate says the authority decides.
absl::StatusOr<std::string> NewSigningRequest(const std::string& key_pem);

struct Authority {
  std::string key_pem;
  std::string certificate_pem;
};
absl::StatusOr<Authority> NewAuthority(int64_t now_unix_ms);

struct CertificateTerms {
  std::string host;     // the name that it is good for
  std::string subject;  // for people who look at it
  int64_t now_unix_ms = 0;  // it begins kBackdatedMs before and ends kCertificateMs after
};
struct Certificate {
  std::string pem;
  std::string serial;  // 16 random bytes, of which no two are the same
  int64_t expires_unix_ms = 0;
};
// Signs a certificate for the key of a signing request. INVALID_ARGUMENT: the request is none, is not signed by its own
// key, or its key is not P-256.
absl::StatusOr<Certificate> IssueCertificate(const Authority& authority, const std::string& signing_request_pem,
                                             const CertificateTerms& terms);

struct CertificateFacts {
  std::string serial;  // big-endian bytes
  std::string host;    // its first DNS name; empty: none
  Digest digest;       // of the DER form: what people call its fingerprint
  int64_t begins_unix_ms = 0;
  int64_t expires_unix_ms = 0;
};
// INVALID_ARGUMENT: not one certificate in PEM.
absl::StatusOr<CertificateFacts> ReadCertificate(const std::string& pem);
// The serial alone, as it is asked for with every call.
absl::StatusOr<std::string> SerialOf(const std::string& pem);
// Of the public key that a signing request is for. INVALID_ARGUMENT: it is none.
absl::StatusOr<Digest> KeyDigestOfRequest(const std::string& signing_request_pem);

// OK where the authority's signature is on it, whatever the time. FAILED_PRECONDITION: it is another's.
absl::Status CheckIssuer(const std::string& certificate_pem, const std::string& authority_pem);
// OK where the certificate is for this key. FAILED_PRECONDITION: it is another's.
absl::Status CheckKey(const std::string& certificate_pem, const std::string& key_pem);

// Whether it is time for the next one: a third of its life is gone.
bool RenewalDue(const CertificateFacts& certificate, int64_t now_unix_ms);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_CERTIFICATES_H_
