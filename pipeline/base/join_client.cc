#include "pipeline/base/join_client.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <grpcpp/support/channel_arguments.h>

#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "farm/v1/join.grpc.pb.h"
#include "farm/v1/trust.grpc.pb.h"
#include "pipeline/base/certificates.h"
#include "pipeline/base/join_code.h"
#include "pipeline/base/membership.h"

namespace storyfarm::base {
namespace {

// A person waits; an address of another network answers never.
constexpr std::chrono::seconds kFetchWithin{5};
// The farm makes the roster durable first.
constexpr std::chrono::seconds kJoinWithin{30};
constexpr int kJoinTries = 5;
constexpr std::chrono::milliseconds kBetweenTries{500};
// Certificates begin 48 h back: beyond half of that the clock is wrong enough to be set first.
constexpr int64_t kMostSkewMs = kBackdatedMs / 2;

grpc::ChannelArguments Arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetString(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, kCoordinatorHost);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return arguments;
}

// Encrypted to whoever answers.
std::unique_ptr<farm::v1::JoinService::Stub> ToAnybody(const std::string& address) {
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_verify_server_certs(false);
  options.set_check_call_host(false);
  options.set_certificate_verifier(std::make_shared<grpc::experimental::NoOpCertificateVerifier>());
  return farm::v1::JoinService::NewStub(
      grpc::CreateCustomChannel(address, grpc::experimental::TlsCredentials(options), Arguments()));
}

// To a coordinator that this authority vouches for, or to nobody.
std::unique_ptr<farm::v1::JoinService::Stub> ToFarm(const std::string& address, const std::string& authority_pem) {
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(
      std::make_shared<grpc::experimental::StaticDataCertificateProvider>(authority_pem));
  options.watch_root_certs();
  return farm::v1::JoinService::NewStub(
      grpc::CreateCustomChannel(address, grpc::experimental::TlsCredentials(options), Arguments()));
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

std::string KindName(farm::v1::MemberKind kind) {
  switch (kind) {
    case farm::v1::MEMBER_WORKER:
      return "a worker: run storyfarm-worker --join with it";
    case farm::v1::MEMBER_USER:
      return "a person's storyctl: run storyctl join with it";
    case farm::v1::MEMBER_COORDINATOR:
      return "a coordinator: run storyfarm-coordinator --join with it";
    default:
      return "something that this version does not know";
  }
}

struct Found {
  std::string address;  // of the code's
  std::string authority_pem;
};

// The first address at which the code's farm answers.
absl::StatusOr<Found> FindFarm(Env& env, const farm::v1::JoinCode& code) {
  absl::Status other_farm;
  std::string last_error;
  for (const std::string& address : code.addresses()) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kFetchWithin);
    context.set_wait_for_ready(false);
    farm::v1::FetchAuthorityResponse response;
    const grpc::Status status =
        ToAnybody(address)->FetchAuthority(&context, farm::v1::FetchAuthorityRequest(), &response);
    if (!status.ok()) {
      last_error = absl::StrCat(address, ": ", status.error_message());
      continue;
    }
    const absl::StatusOr<CertificateFacts> facts = ReadCertificate(response.authority_pem());
    if (!facts.ok() || facts->digest.Bytes() != code.authority_digest()) {
      other_farm = absl::FailedPreconditionError(
          absl::StrCat("What answers at ", address, " is not the farm that made this code (authority ",
                       facts.ok() ? facts->digest.ShortHex() : "unreadable", ", the code's is ",
                       Digest::FromBytes(code.authority_digest())->ShortHex(),
                       "): nothing was sent to it. Ask the farm's owner for a new code; if it says the same, somebody "
                       "stands between the two machines."));
      continue;
    }
    const int64_t skew_ms = env.NowUnixMs() - static_cast<int64_t>(response.unix_ms());
    if (std::abs(skew_ms) > kMostSkewMs) {
      return absl::FailedPreconditionError(absl::StrCat(
          "This machine's clock says ", FormatUnixMs(env.NowUnixMs()), " and the farm's ",
          FormatUnixMs(static_cast<int64_t>(response.unix_ms())),
          ": certificates would not hold. Set the clock that is wrong, then use the same code again."));
    }
    return Found{address, response.authority_pem()};
  }
  if (!other_farm.ok()) return other_farm;
  return absl::UnavailableError(
      absl::StrCat("No farm answers at ", absl::StrJoin(code.addresses(), " or "), " (", last_error,
                   "). Is its coordinator running, and does its firewall let these ports through?"));
}

}  // namespace

absl::StatusOr<Joined> JoinFarm(Env& env, const JoinOptions& options) {
  const absl::StatusOr<farm::v1::JoinCode> code = ReadJoinCode(options.code);
  if (!code.ok()) return code.status();
  if (code->kind() != options.kind) {
    return absl::FailedPreconditionError(absl::StrCat("This code is for ", KindName(code->kind()), "."));
  }
  const absl::StatusOr<Found> found = FindFarm(env, *code);
  if (!found.ok()) return found.status();
  Membership membership;
  membership.authority_pem = found->authority_pem;
  absl::StatusOr<std::string> key = NewKey();
  if (!key.ok()) return key.status();
  membership.key_pem = *std::move(key);
  absl::StatusOr<std::string> signing_request = NewSigningRequest(membership.key_pem);
  if (!signing_request.ok()) return signing_request.status();

  farm::v1::JoinRequest request;
  request.set_secret(code->secret());
  request.set_kind(options.kind);
  request.set_name(options.name);
  request.set_node_id(options.node_id);
  request.set_signing_request_pem(*std::move(signing_request));
  const auto farm = ToFarm(found->address, found->authority_pem);
  farm::v1::JoinResponse response;
  grpc::Status status;
  for (int attempt = 0; attempt < kJoinTries; ++attempt) {
    // An answer that was lost is asked for again: the same key gets the same one.
    if (attempt > 0) std::this_thread::sleep_for(kBetweenTries);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kJoinWithin);
    status = farm->Join(&context, request, &response);
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE) break;
  }
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return absl::UnavailableError(absl::StrCat("The farm at ", found->address, " went away while this machine joined (",
                                               status.error_message(), "). Ask for a new code when it is back."));
  }
  if (!status.ok()) return FromGrpc(status);

  membership.certificate_pem = response.certificate_pem();
  absl::Status whole = CheckKey(membership.certificate_pem, membership.key_pem);
  if (whole.ok()) whole = CheckIssuer(membership.certificate_pem, membership.authority_pem);
  if (!whole.ok()) {
    return absl::InternalError(absl::StrCat("The farm answered with a useless certificate: ", whole.message()));
  }
  if (options.kind == farm::v1::MEMBER_COORDINATOR) {
    if (absl::Status made = env.CreateFolders(options.trust_folder); !made.ok()) return made;
    absl::Status kept = env.WriteSecretDurably(AuthorityKeyFile(options.trust_folder), response.authority_key_pem());
    if (!kept.ok()) return kept;
  } else {
    const std::string host = found->address.substr(0, found->address.rfind(':'));
    membership.farm = absl::StrCat("tls:", host, ":", response.port());
  }
  if (absl::Status saved = SaveMembership(env, options.trust_folder, membership); !saved.ok()) return saved;
  return Joined{response.member(), membership.farm};
}

absl::StatusOr<bool> RenewIfDue(Env& env, const std::string& trust_folder,
                                const std::shared_ptr<grpc::Channel>& channel) {
  const absl::StatusOr<Membership> membership = LoadMembership(env, trust_folder);
  if (!membership.ok()) return membership.status();
  const absl::StatusOr<CertificateFacts> facts = ReadCertificate(membership->certificate_pem);
  if (!facts.ok()) return facts.status();
  if (!RenewalDue(*facts, env.NowUnixMs())) return false;
  absl::StatusOr<std::string> signing_request = NewSigningRequest(membership->key_pem);
  if (!signing_request.ok()) return signing_request.status();
  farm::v1::RenewCertificateRequest request;
  request.set_signing_request_pem(*std::move(signing_request));
  farm::v1::RenewCertificateResponse response;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kJoinWithin);
  const grpc::Status status = farm::v1::TrustService::NewStub(channel)->RenewCertificate(&context, request, &response);
  if (!status.ok()) return FromGrpc(status);
  absl::Status whole = CheckKey(response.certificate_pem(), membership->key_pem);
  if (whole.ok()) whole = CheckIssuer(response.certificate_pem(), membership->authority_pem);
  if (!whole.ok()) return whole;
  if (absl::Status saved = SaveRenewed(env, trust_folder, response.certificate_pem()); !saved.ok()) return saved;
  return true;
}

}  // namespace storyfarm::base
