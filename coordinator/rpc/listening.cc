#include "coordinator/rpc/listening.h"

#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/listen.h"
#include "pipeline/base/farm_channel.h"
#include "pipeline/base/places.h"

namespace storyfarm::coordinator {
namespace {

// A worker's machine that sleeps or loses its cable is noticed after 40 s; its leases end earlier. Clients may ping as
// often as every 5 s without being taken for an attack: those that follow a leader ask every 8 s.
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
constexpr int kLeastPingMs = 5'000;

// Whoever reaches one that stands by through an address that is every coordinator's (a Kubernetes service, a load
// balancer) would stay with it: it ends connections after this time, and the next one leads to whoever leads then.
constexpr int kStandByConnectionMs = 5'000;
constexpr int kStandByGraceMs = 1'000;

// What somebody who has not joined may make the coordinator hold: a signing request is 1 KB, and joining is two calls.
constexpr int kStrangersBytes = 64 << 10;
constexpr int kStrangersCalls = 4;
constexpr int kStrangersMs = 60'000;
constexpr size_t kStrangersMemoryBytes = size_t{32} << 20;

absl::Status CantListen(const std::string& address) {
  return absl::AlreadyExistsError(
      absl::StrCat("Can't listen on ", address, ": the address is taken, or not of this machine."));
}

}  // namespace

// Ends each call at once.
class Listening::Refusal : public grpc::CallbackGenericService {
 public:
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    class Call : public grpc::ServerGenericBidiReactor {
     public:
      explicit Call(const grpc::Status& status) { Finish(status); }
      void OnDone() override { delete this; }
    };
    std::lock_guard<std::mutex> lock(mutex_);
    return new Call(grpc::Status(grpc::StatusCode::UNAVAILABLE, sentence_));
  }
  void Say(const std::string& sentence) {
    std::lock_guard<std::mutex> lock(mutex_);
    sentence_ = sentence;
  }

 private:
  std::mutex mutex_;
  std::string sentence_;
};

Listening::Listening() = default;

absl::StatusOr<std::unique_ptr<Listening>> Listening::Serve(const ListenOptions& options,
                                                            const std::vector<grpc::Service*>& services) {
  return Open(options, services);
}

absl::StatusOr<std::unique_ptr<Listening>> Listening::StandBy(const ListenOptions& options) {
  return Open(options, {});
}

absl::StatusOr<std::unique_ptr<Listening>> Listening::Open(const ListenOptions& options,
                                                           const std::vector<grpc::Service*>& services) {
  std::string address;
  if (!options.listen.empty()) {
    absl::StatusOr<std::string> checked = LoopbackAddress(options.listen);
    if (!checked.ok()) return checked.status();
    address = *std::move(checked);
    if (absl::Status status = CheckPortIsFree(address); !status.ok()) return status;
  }
  if (!options.socket_path.empty()) {
    if (absl::Status status = PrepareSocket(options.socket_path); !status.ok()) return status;
  }
  std::string network;
  if (!options.network.empty()) {
    absl::StatusOr<std::string> checked = base::NetworkAddress(options.network);
    if (!checked.ok()) return checked.status();
    network = *std::move(checked);
    if (absl::Status status = CheckPortIsFree(network); !status.ok()) return status;
  }
  std::unique_ptr<Listening> listening(new Listening);
  grpc::EnableDefaultHealthCheckService(true);  // before the builder is asked: clients with several addresses use it
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.receive_bytes));
  builder.SetMaxSendMessageSize(static_cast<int>(options.send_bytes));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // else two coordinators would share a port
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kLeastPingMs);
  const auto local = grpc::InsecureServerCredentials();
  int socket_bound = 0;
  if (!options.socket_path.empty()) {
    builder.AddListeningPort(absl::StrCat("unix:", options.socket_path), local, &socket_bound);
  }
  if (!address.empty()) builder.AddListeningPort(address, local, &listening->port_);
  if (!network.empty()) {
    const auto credentials = Guard::Credentials(options.trust_folder, options.guard);
    builder.AddListeningPort(network, credentials, &listening->network_port_);
  }
  if (options.guard != nullptr) {
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
    interceptors.push_back(options.guard->WatchCalls());
    builder.experimental().SetInterceptorCreators(std::move(interceptors));
  }
  for (grpc::Service* service : services) builder.RegisterService(service);
  if (services.empty()) {
    listening->refusal_ = std::make_unique<Refusal>();
    builder.RegisterCallbackGenericService(listening->refusal_.get());
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, kStandByConnectionMs);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, kStandByGraceMs);
  }
  listening->server_ = builder.BuildAndStart();
  if (listening->server_ == nullptr) {
    return CantListen(!network.empty() ? network : !address.empty() ? address : options.socket_path);
  }
  listening->server_->GetHealthCheckService()->SetServingStatus(base::kLeaderHealth, !services.empty());
  return listening;
}

absl::StatusOr<std::unique_ptr<Listening>> Listening::ServeAnybody(const std::string& address,
                                                                   const std::string& trust_folder,
                                                                   grpc::Service* service) {
  const absl::StatusOr<std::string> checked = base::NetworkAddress(address);
  if (!checked.ok()) return checked.status();
  if (absl::Status status = CheckPortIsFree(*checked); !status.ok()) return status;
  std::unique_ptr<Listening> listening(new Listening);
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kStrangersBytes);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStrangersCalls);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, kStrangersMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, kStrangersMs);
  builder.SetResourceQuota(grpc::ResourceQuota("strangers").Resize(kStrangersMemoryBytes));
  builder.AddListeningPort(*checked, base::FarmServerCredentials(trust_folder, base::Callers::kAnybody), &listening->network_port_);
  builder.RegisterService(service);
  listening->server_ = builder.BuildAndStart();
  if (listening->server_ == nullptr) {
    return CantListen(*checked);
  }
  return listening;
}

Listening::~Listening() { Stop(std::chrono::milliseconds(0)); }

void Listening::Say(const std::string& sentence) {
  if (refusal_ != nullptr) refusal_->Say(sentence);
}

void Listening::Stop(std::chrono::milliseconds grace) {
  if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now() + grace);
}

}  // namespace storyfarm::coordinator
