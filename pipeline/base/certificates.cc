#include "pipeline/base/certificates.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <memory>

#include "absl/strings/str_cat.h"

namespace storyfarm::base {
namespace {

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* what) const {
    Free(what);
  }
};
using Bio = std::unique_ptr<BIO, Freer<BIO_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using Request = std::unique_ptr<X509_REQ, Freer<X509_REQ_free>>;
using X509Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>>;
using BigNumber = std::unique_ptr<BIGNUM, Freer<BN_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>>;

constexpr char kCurve[] = "P-256";
constexpr size_t kSerialBytes = 16;

absl::Status Failed(const std::string& what) {
  char reason[256] = "no reason given";
  if (const unsigned long error = ERR_get_error(); error != 0) ERR_error_string_n(error, reason, sizeof(reason));
  ERR_clear_error();
  return absl::InternalError(absl::StrCat("OpenSSL could not ", what, ": ", reason));
}

Bio Reader(const std::string& pem) { return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))); }

template <typename Write>
absl::StatusOr<std::string> ToPem(const std::string& what, Write write) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (bio == nullptr || write(bio.get()) != 1) return Failed(absl::StrCat("write ", what));
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &bytes);
  return std::string(bytes, static_cast<size_t>(size));
}

// Nobody is at a terminal to be asked for a password.
int NoPassword(char*, int, int, void*) { return 0; }

absl::StatusOr<Key> ReadKey(const std::string& pem) {
  Key key(PEM_read_bio_PrivateKey(Reader(pem).get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) {
    ERR_clear_error();
    return absl::InvalidArgumentError("it is no private key in PEM");
  }
  return key;
}

absl::StatusOr<X509Certificate> Read(const std::string& pem) {
  X509Certificate certificate(PEM_read_bio_X509(Reader(pem).get(), nullptr, NoPassword, nullptr));
  if (certificate == nullptr) {
    ERR_clear_error();
    return absl::InvalidArgumentError("it is no certificate in PEM");
  }
  return certificate;
}

bool IsP256(EVP_PKEY* key) {
  char name[64] = {};
  size_t size = 0;
  return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC && EVP_PKEY_get_group_name(key, name, sizeof(name), &size) == 1 &&
         OBJ_txt2nid(name) == NID_X9_62_prime256v1;
}

absl::StatusOr<Request> ReadRequest(const std::string& pem) {
  Request request(PEM_read_bio_X509_REQ(Reader(pem).get(), nullptr, NoPassword, nullptr));
  EVP_PKEY* key = request == nullptr ? nullptr : X509_REQ_get0_pubkey(request.get());
  if (key == nullptr || X509_REQ_verify(request.get(), key) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError("the signing request is none, or is not signed by its own key");
  }
  if (!IsP256(key)) return absl::InvalidArgumentError(absl::StrCat("the key of a signing request must be ", kCurve));
  return request;
}

absl::StatusOr<Digest> DigestOf(EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  if (size <= 0) return Failed("write a public key");
  const Digest digest = Digest::Of({reinterpret_cast<const char*>(der), static_cast<size_t>(size)});
  OPENSSL_free(der);
  return digest;
}

std::string SerialOf(const X509* certificate) {
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate);
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(serial)),
                     static_cast<size_t>(ASN1_STRING_length(serial)));
}

bool SetTime(ASN1_TIME* time, int64_t unix_ms) {
  std::time_t seconds = static_cast<std::time_t>(unix_ms / 1000);
  return X509_time_adj_ex(time, 0, 0, &seconds) != nullptr;
}

absl::StatusOr<int64_t> UnixMs(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return Failed("read the time of a certificate");
  return int64_t{timegm(&parts)} * 1000;
}

bool AddExtension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool SetSubject(X509_NAME* name, const std::string& subject) {
  return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(subject.data()),
                                    static_cast<int>(subject.size()), -1, 0) == 1;
}

// What all certificates have: version, a fresh serial, the time, the key.
bool Begin(X509* certificate, const std::string& serial, int64_t begins_unix_ms, int64_t expires_unix_ms,
           EVP_PKEY* key) {
  const BigNumber number(
      BN_bin2bn(reinterpret_cast<const unsigned char*>(serial.data()), static_cast<int>(serial.size()), nullptr));
  return X509_set_version(certificate, X509_VERSION_3) == 1 && number != nullptr &&
         BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr &&
         SetTime(X509_getm_notBefore(certificate), begins_unix_ms) &&
         SetTime(X509_getm_notAfter(certificate), expires_unix_ms) && X509_set_pubkey(certificate, key) == 1;
}

absl::StatusOr<std::string> NewSerial() {
  std::string serial(kSerialBytes, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(serial.data()), static_cast<int>(serial.size())) != 1) {
    return Failed("draw a serial");
  }
  // Positive, and never shorter: a leading zero byte would be lost in DER.
  serial[0] = static_cast<char>((serial[0] & 0x7f) | 0x40);
  return serial;
}

}  // namespace

absl::StatusOr<std::string> NewKey() {
  const Key key(EVP_EC_gen(kCurve));
  if (key == nullptr) return Failed("make a key");
  return ToPem("a key", [&key](BIO* bio) {
    return PEM_write_bio_PKCS8PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  });
}

absl::StatusOr<std::string> NewSigningRequest(const std::string& key_pem) {
  const absl::StatusOr<Key> key = ReadKey(key_pem);
  if (!key.ok()) return key.status();
  const Request request(X509_REQ_new());
  if (request == nullptr || X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
      X509_REQ_set_pubkey(request.get(), key->get()) != 1 ||
      X509_REQ_sign(request.get(), key->get(), EVP_sha256()) <= 0) {
    return Failed("make a signing request");
  }
  return ToPem("a signing request", [&request](BIO* bio) { return PEM_write_bio_X509_REQ(bio, request.get()); });
}

absl::StatusOr<Authority> NewAuthority(int64_t now_unix_ms) {
  absl::StatusOr<std::string> key_pem = NewKey();
  if (!key_pem.ok()) return key_pem.status();
  const absl::StatusOr<Key> key = ReadKey(*key_pem);
  if (!key.ok()) return key.status();
  const absl::StatusOr<std::string> serial = NewSerial();
  if (!serial.ok()) return serial.status();
  const X509Certificate certificate(X509_new());
  X509* const raw = certificate.get();
  // Two farms must not be mistaken for each other where certificates are looked at: OpenSSL finds issuers by name.
  std::string subject = "storyfarm authority ";
  for (const unsigned char byte : serial->substr(0, 8)) absl::StrAppend(&subject, absl::Hex(byte, absl::kZeroPad2));
  if (raw == nullptr || !Begin(raw, *serial, now_unix_ms - kBackdatedMs, now_unix_ms + kAuthorityMs, key->get()) ||
      !SetSubject(X509_get_subject_name(raw), subject) ||
      X509_set_issuer_name(raw, X509_get_subject_name(raw)) != 1 ||
      !AddExtension(raw, raw, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
      !AddExtension(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign") ||
      !AddExtension(raw, raw, NID_subject_key_identifier, "hash") || X509_sign(raw, key->get(), EVP_sha256()) <= 0) {
    return Failed("make the farm's authority");
  }
  absl::StatusOr<std::string> pem = ToPem("a certificate", [raw](BIO* bio) { return PEM_write_bio_X509(bio, raw); });
  if (!pem.ok()) return pem.status();
  return Authority{*std::move(key_pem), *std::move(pem)};
}

absl::StatusOr<Certificate> IssueCertificate(const Authority& authority, const std::string& signing_request_pem,
                                             const CertificateTerms& terms) {
  const absl::StatusOr<Request> request = ReadRequest(signing_request_pem);
  if (!request.ok()) return request.status();
  const absl::StatusOr<Key> issuer_key = ReadKey(authority.key_pem);
  if (!issuer_key.ok()) return issuer_key.status();
  const absl::StatusOr<X509Certificate> issuer = Read(authority.certificate_pem);
  if (!issuer.ok()) return issuer.status();
  absl::StatusOr<std::string> serial = NewSerial();
  if (!serial.ok()) return serial.status();
  const int64_t expires_unix_ms = terms.now_unix_ms + kCertificateMs;
  const X509Certificate certificate(X509_new());
  X509* const raw = certificate.get();
  if (raw == nullptr ||
      !Begin(raw, *serial, terms.now_unix_ms - kBackdatedMs, expires_unix_ms, X509_REQ_get0_pubkey(request->get())) ||
      !SetSubject(X509_get_subject_name(raw), terms.subject) ||
      X509_set_issuer_name(raw, X509_get_subject_name(issuer->get())) != 1 ||
      !AddExtension(raw, issuer->get(), NID_basic_constraints, "critical,CA:FALSE") ||
      !AddExtension(raw, issuer->get(), NID_key_usage, "critical,digitalSignature") ||
      !AddExtension(raw, issuer->get(), NID_ext_key_usage, "serverAuth,clientAuth") ||
      !AddExtension(raw, issuer->get(), NID_subject_alt_name, absl::StrCat("DNS:", terms.host)) ||
      !AddExtension(raw, issuer->get(), NID_authority_key_identifier, "keyid:always") ||
      X509_sign(raw, issuer_key->get(), EVP_sha256()) <= 0) {
    return Failed("sign a certificate");
  }
  absl::StatusOr<std::string> pem = ToPem("a certificate", [raw](BIO* bio) { return PEM_write_bio_X509(bio, raw); });
  if (!pem.ok()) return pem.status();
  return Certificate{*std::move(pem), *std::move(serial), expires_unix_ms / 1000 * 1000};
}

absl::StatusOr<std::string> SerialOf(const std::string& pem) {
  const absl::StatusOr<X509Certificate> certificate = Read(pem);
  if (!certificate.ok()) return certificate.status();
  return SerialOf(certificate->get());
}

absl::StatusOr<CertificateFacts> ReadCertificate(const std::string& pem) {
  const absl::StatusOr<X509Certificate> certificate = Read(pem);
  if (!certificate.ok()) return certificate.status();
  X509* const raw = certificate->get();
  CertificateFacts facts;
  facts.serial = SerialOf(raw);
  const Names names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(raw, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && facts.host.empty() && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_DNS) continue;
    facts.host.assign(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                      static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
  }
  unsigned char* der = nullptr;
  const int size = i2d_X509(raw, &der);
  if (size <= 0) return Failed("write a certificate");
  facts.digest = Digest::Of({reinterpret_cast<const char*>(der), static_cast<size_t>(size)});
  OPENSSL_free(der);
  const absl::StatusOr<int64_t> begins = UnixMs(X509_get0_notBefore(raw));
  const absl::StatusOr<int64_t> expires = UnixMs(X509_get0_notAfter(raw));
  for (const absl::Status& status : {begins.status(), expires.status()}) {
    if (!status.ok()) return status;
  }
  facts.begins_unix_ms = *begins;
  facts.expires_unix_ms = *expires;
  return facts;
}

absl::StatusOr<Digest> KeyDigestOfRequest(const std::string& signing_request_pem) {
  const absl::StatusOr<Request> request = ReadRequest(signing_request_pem);
  if (!request.ok()) return request.status();
  return DigestOf(X509_REQ_get0_pubkey(request->get()));
}

absl::Status CheckIssuer(const std::string& certificate_pem, const std::string& authority_pem) {
  const absl::StatusOr<X509Certificate> certificate = Read(certificate_pem);
  if (!certificate.ok()) return certificate.status();
  const absl::StatusOr<X509Certificate> authority = Read(authority_pem);
  if (!authority.ok()) return authority.status();
  if (X509_verify(certificate->get(), X509_get0_pubkey(authority->get())) == 1) return absl::OkStatus();
  ERR_clear_error();
  return absl::FailedPreconditionError("the certificate is of another authority");
}

absl::Status CheckKey(const std::string& certificate_pem, const std::string& key_pem) {
  const absl::StatusOr<X509Certificate> certificate = Read(certificate_pem);
  if (!certificate.ok()) return certificate.status();
  const absl::StatusOr<Key> key = ReadKey(key_pem);
  if (!key.ok()) return key.status();
  if (X509_check_private_key(certificate->get(), key->get()) == 1) return absl::OkStatus();
  ERR_clear_error();
  return absl::FailedPreconditionError("the certificate is for another key");
}

bool RenewalDue(const CertificateFacts& certificate, int64_t now_unix_ms) {
  const int64_t life_ms = certificate.expires_unix_ms - certificate.begins_unix_ms;
  return now_unix_ms > certificate.begins_unix_ms + life_ms / 3;
}

}  // namespace storyfarm::base
