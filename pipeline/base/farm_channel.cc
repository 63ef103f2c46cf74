#include "pipeline/base/farm_channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "pipeline/base/certificates.h"
#include "pipeline/base/membership.h"
#include "pipeline/base/places.h"

namespace storyfarm::base {
namespace {

// A leader whose machine froze or lost its cable keeps its connections: it is left 13 s later, within a lease.
constexpr int kKeepaliveMs = 8'000;
constexpr int kKeepaliveTimeoutMs = 5'000;

// How soon a renewed certificate is seen by new connections; it is renewed months before it ends.
constexpr unsigned kLookAgainSeconds = 60;

std::shared_ptr<grpc::experimental::CertificateProviderInterface> Watch(const std::string& trust_folder) {
  return std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      OwnKeyFile(trust_folder), OwnCertificateFile(trust_folder), AuthorityFile(trust_folder), kLookAgainSeconds);
}

// The farm's authority is the only one that counts.
std::shared_ptr<grpc::ChannelCredentials> Credentials(const std::string& trust_folder) {
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watch(trust_folder));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

// gRPC's form of a list: the scheme once. Nothing else than a scheme tells addresses of two kinds apart.
std::string TargetOf(const std::string& farm) {
  if (farm.rfind("unix:", 0) == 0) return absl::StrReplaceAll(farm, {{",unix:", ","}});
  return absl::StrCat(farm.front() == '[' ? "ipv6:" : "ipv4:", farm);
}

}  // namespace

bool NamesSeveral(const std::string& farm) { return farm.find(',') != std::string::npos; }

std::shared_ptr<grpc::Channel> FarmChannel(const std::string& farm, const std::string& trust_folder,
                                           grpc::ChannelArguments arguments) {
  const bool tls = NeedsCertificate(farm);
  const std::string addresses = AddressesOf(farm);
  const std::shared_ptr<grpc::ChannelCredentials> credentials =
      tls ? Credentials(trust_folder) : grpc::InsecureChannelCredentials();
  // Addresses change; the name in the coordinator's certificate does not.
  if (tls) arguments.SetString(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, kCoordinatorHost);
  if (!NamesSeveral(addresses)) return grpc::CreateCustomChannel(addresses, credentials, arguments);
  // Of gRPC's ways to choose, only round_robin heeds health; with one healthy address it goes there alone.
  arguments.SetServiceConfigJSON(absl::StrCat(R"({"loadBalancingConfig": [{"round_robin": {}}],)",
                                              R"( "healthCheckConfig": {"serviceName": ")", kLeaderHealth, R"("}})"));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return grpc::CreateCustomChannel(TargetOf(addresses), credentials, arguments);
}

std::shared_ptr<grpc::Channel> PeerChannel(const std::string& address, const std::string& certificate_host,
                                           const std::string& trust_folder, grpc::ChannelArguments arguments) {
  arguments.SetString(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, certificate_host);
  return grpc::CreateCustomChannel(AddressesOf(address), Credentials(trust_folder), arguments);
}

std::shared_ptr<grpc::ServerCredentials> FarmServerCredentials(const std::string& trust_folder, Callers callers) {
  grpc::experimental::TlsServerCredentialsOptions options(Watch(trust_folder));
  options.watch_identity_key_cert_pairs();
  if (callers == Callers::kMembers) options.watch_root_certs();
  options.set_cert_request_type(callers == Callers::kMembers
                                    ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                    : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  return grpc::experimental::TlsServerCredentials(options);
}

std::string CallersCertificate(const grpc::AuthContext& context) {
  const std::vector<grpc::string_ref> pem = context.FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  return pem.empty() ? "" : std::string(pem[0].data(), pem[0].size());
}

bool IsForeignFarm(const std::string& error_message) {
  return absl::StrContains(error_message, "certificate verify failed") ||
         absl::StrContains(error_message, "CERTIFICATE_VERIFY_FAILED");
}

std::string ForeignFarm(const std::string& farm) {
  return absl::StrCat("what answers at ", AddressesOf(farm),
                      " is not the farm that this machine joined, or the clock of one of the two is wrong by more than "
                      "a day; check the address and both clocks, or join again with a new code");
}

}  // namespace storyfarm::base
