// gRPC channels to a farm that is named by one address or by several. Target storyfarm_blob_transfer.
//
// Several: the channel keeps connections to all of them, asks each over gRPC's health service whether it leads, and
// sends calls to the one that does; when another takes over, calls go there. A call that finds no leader fails with
// UNAVAILABLE at once, or waits where it is told to (wait_for_ready).
#ifndef STORYFARM_PIPELINE_BASE_FARM_CHANNEL_H_
#define STORYFARM_PIPELINE_BASE_FARM_CHANNEL_H_

#include <grpcpp/channel.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>
#include <string>

namespace storyfarm::base {

// Whether it names several addresses.
bool NamesSeveral(const std::string& farm);

// `farm` as CheckCoordinatorTarget takes it.
std::shared_ptr<grpc::Channel> FarmChannel(const std::string& farm, grpc::ChannelArguments arguments);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_FARM_CHANNEL_H_
