// gRPC channels to a farm that is named by one address or by several, and the credentials of those who serve members.
// Target storyfarm_blob_transfer.
//
// Several: the channel keeps connections to all of them, asks each over gRPC's health service whether it leads, and
// sends calls to the one that does; when another takes over, calls go there. A call that finds no leader fails with
// UNAVAILABLE at once, or waits where it is told to (wait_for_ready).
//
// On this machine plainly; to any other over mutual TLS, with the certificate that joining brought (membership.h). Each
// new connection takes the certificate that is in the folder then, so one that was renewed needs no restart.
#ifndef STORYFARM_PIPELINE_BASE_FARM_CHANNEL_H_
#define STORYFARM_PIPELINE_BASE_FARM_CHANNEL_H_

#include <grpcpp/channel.h>
#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>
#include <string>

namespace storyfarm::base {

// Whether it names several addresses.
bool NamesSeveral(const std::string& farm);

// `farm` as CheckCoordinatorTarget takes it. `trust_folder`: where the membership lies; used where NeedsCertificate,
// and then CheckFarmAccess was asked before.
std::shared_ptr<grpc::Channel> FarmChannel(const std::string& farm, const std::string& trust_folder,
                                           grpc::ChannelArguments arguments);

// To another worker of the same farm over mutual TLS: "tls:HOST:PORT", whose certificate must be of the farm's authority
// and carry the name `certificate_host`.
std::shared_ptr<grpc::Channel> PeerChannel(const std::string& address, const std::string& certificate_host,
                                           const std::string& trust_folder, grpc::ChannelArguments arguments);

enum class Callers {
  kMembers,  // who has no certificate of the farm's authority gets no answer
  kAnybody,  // asked for no certificate
};
// For a server that shows the certificate in the trust folder; new connections are shown one that was renewed.
std::shared_ptr<grpc::ServerCredentials> FarmServerCredentials(const std::string& trust_folder, Callers callers);

// The certificate that such a server's caller has shown, PEM; empty: it has none.
std::string CallersCertificate(const grpc::AuthContext& context);

// Whether a call failed with UNAVAILABLE because the other side's certificate is not of the farm that was joined.
bool IsForeignFarm(const std::string& error_message);
// A sentence for that.
std::string ForeignFarm(const std::string& farm);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_FARM_CHANNEL_H_
