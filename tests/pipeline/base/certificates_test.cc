#include "pipeline/base/certificates.h"

#include <gtest/gtest.h>

namespace storyfarm::base {
namespace {

constexpr int64_t kNow = 1'795'000'000'000;
constexpr int64_t kDay = int64_t{24} * 3600 * 1000;

// openssl ecparam -name secp384r1 -genkey -noout | openssl req -new -key /dev/stdin -subj /CN=x
constexpr char kOtherCurve[] = R"(-----BEGIN CERTIFICATE REQUEST-----
MIIBAzCBiwIBADAMMQowCAYDVQQDDAF4MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE
n4ovmEFrAbODH4eKi1c2f7kOU9pq6JIg2KcaeY4GDMVmu4Q7UC6hMfBxKP3Tlkii
Un5oNRjKzuFD3fSz8fQj5s29Qm2ZUvE8ncR+GnPbidSUZk0L1J+dF4jIsqG8Pjbm
oAAwCgYIKoZIzj0EAwIDZwAwZAIwL6rkfflZAwHsxcI3OIUpmrn+0OTGTgjXWsvE
26vX5jgk3Fz0VReIiKdqOJkUaCqmAjAGGHZjsHwweIqmJfxrr4Y7OhYPA4g/wWVZ
NhZWeSUqS2CyvmrHINqm4mv3RpEyW34=
-----END CERTIFICATE REQUEST-----
)";

CertificateTerms Terms() {
  CertificateTerms terms;
  terms.host = "0123.worker.storyfarm.internal";
  terms.subject = "attic";
  terms.now_unix_ms = kNow;
  return terms;
}

struct Signed {
  Authority authority;
  std::string key;
  Certificate certificate;
};

Signed SignOne() {
  Signed made;
  made.authority = NewAuthority(kNow).value();
  made.key = NewKey().value();
  made.certificate = IssueCertificate(made.authority, NewSigningRequest(made.key).value(), Terms()).value();
  return made;
}

TEST(Certificates, SayWhoTheyAreForAndBeginTwoDaysBackAsClocksDiffer) {
  const Signed made = SignOne();
  const auto facts = ReadCertificate(made.certificate.pem);
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->host, "0123.worker.storyfarm.internal");
  EXPECT_EQ(facts->begins_unix_ms, kNow - 2 * kDay);
  EXPECT_EQ(facts->expires_unix_ms, kNow + 365 * kDay);
  EXPECT_EQ(facts->expires_unix_ms, made.certificate.expires_unix_ms);
  EXPECT_EQ(facts->serial, made.certificate.serial);
  EXPECT_EQ(facts->serial.size(), 16U);
  EXPECT_EQ(SerialOf(made.certificate.pem).value(), made.certificate.serial);
  EXPECT_TRUE(CheckIssuer(made.certificate.pem, made.authority.certificate_pem).ok());
  EXPECT_TRUE(CheckKey(made.certificate.pem, made.key).ok());
  const auto key_of = [](const std::string& key) { return KeyDigestOfRequest(NewSigningRequest(key).value()).value(); };
  EXPECT_EQ(key_of(made.key), key_of(made.key));
  EXPECT_NE(key_of(made.key), key_of(NewKey().value()));
}

TEST(Certificates, OfAnotherAuthorityOrForAnotherKeyAreTold) {
  const Signed made = SignOne();
  const Authority other = NewAuthority(kNow).value();
  EXPECT_EQ(CheckIssuer(made.certificate.pem, other.certificate_pem).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CheckKey(made.certificate.pem, NewKey().value()).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(Certificates, HaveSerialsThatDiffer) {
  const Signed one = SignOne();
  const auto again = IssueCertificate(one.authority, NewSigningRequest(one.key).value(), Terms());
  ASSERT_TRUE(again.ok());
  EXPECT_NE(again->serial, one.certificate.serial);
}

TEST(Certificates, AreRenewedWhenAThirdOfTheirLifeIsGone) {
  const CertificateFacts facts = ReadCertificate(SignOne().certificate.pem).value();
  EXPECT_FALSE(RenewalDue(facts, kNow));
  EXPECT_FALSE(RenewalDue(facts, kNow + 119 * kDay));
  EXPECT_TRUE(RenewalDue(facts, kNow + 121 * kDay));
}

TEST(Certificates, AreSignedForNothingButASoundRequestOfTheFarmsKindOfKey) {
  const Authority authority = NewAuthority(kNow).value();
  for (const std::string& request : {std::string("no request"), std::string(kOtherCurve), authority.certificate_pem}) {
    EXPECT_EQ(IssueCertificate(authority, request, Terms()).status().code(), absl::StatusCode::kInvalidArgument);
  }
  // A request whose signature is not its key's.
  std::string request = NewSigningRequest(NewKey().value()).value();
  const size_t in_signature = request.rfind("-----END") - 10;
  request[in_signature] = request[in_signature] == 'A' ? 'B' : 'A';
  EXPECT_FALSE(IssueCertificate(authority, request, Terms()).ok());
}

TEST(Certificates, ThatAreNoneAreTold) {
  EXPECT_EQ(ReadCertificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadCertificate("").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace storyfarm::base
