#include "pipeline/base/farm_channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "pipeline/base/places.h"

namespace storyfarm::base {
namespace {

// A leader whose machine froze or lost its cable keeps its connections: it is left 13 s later, within a lease.
constexpr int kKeepaliveMs = 8'000;
constexpr int kKeepaliveTimeoutMs = 5'000;

// gRPC's form of a list: the scheme once. Nothing else than a scheme tells addresses of two kinds apart.
std::string TargetOf(const std::string& farm) {
  if (farm.rfind("unix:", 0) == 0) return absl::StrReplaceAll(farm, {{",unix:", ","}});
  return absl::StrCat(farm.front() == '[' ? "ipv6:" : "ipv4:", farm);
}

}  // namespace

bool NamesSeveral(const std::string& farm) { return farm.find(',') != std::string::npos; }

std::shared_ptr<grpc::Channel> FarmChannel(const std::string& farm, grpc::ChannelArguments arguments) {
  if (!NamesSeveral(farm)) return grpc::CreateCustomChannel(farm, grpc::InsecureChannelCredentials(), arguments);
  // Of gRPC's ways to choose, only round_robin heeds health; with one healthy address it goes there alone.
  arguments.SetServiceConfigJSON(absl::StrCat(R"({"loadBalancingConfig": [{"round_robin": {}}],)",
                                              R"( "healthCheckConfig": {"serviceName": ")", kLeaderHealth, R"("}})"));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return grpc::CreateCustomChannel(TargetOf(farm), grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace storyfarm::base
