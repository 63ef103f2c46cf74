#include "coordinator/rpc/guard.h"

#include <grpc/grpc.h>
#include <grpcpp/security/auth_metadata_processor.h>
#include <grpcpp/server_context.h>

#include <utility>

#include "coordinator/core/farm.h"
#include "coordinator/rpc/access.h"
#include "coordinator/rpc/status.h"
#include "pipeline/base/certificates.h"
#include "pipeline/base/farm_channel.h"

namespace storyfarm::coordinator {
namespace {

void CutOff(grpc_call* call) {
  grpc_call_cancel_with_status(call, GRPC_STATUS_UNAUTHENTICATED, kRemovedFromFarm, nullptr);
}

// Empty: it has none.
std::string SerialOf(const grpc::AuthContext& context) {
  return base::SerialOf(base::CallersCertificate(context)).value_or("");
}

}  // namespace

class Guard::Processor : public grpc::AuthMetadataProcessor {
 public:
  explicit Processor(std::shared_ptr<Guard> guard) : guard_(std::move(guard)) {}
  // It looks at memory only.
  bool IsBlocking() const override { return false; }
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context, OutputMetadata*,
                       OutputMetadata*) override {
    const auto path = metadata.find(":path");
    if (path == metadata.end()) return grpc::Status(grpc::StatusCode::INTERNAL, "a call without a method");
    return ToGrpc(guard_->Check(*context, absl::string_view(path->second.data(), path->second.size())), nullptr);
  }

 private:
  const std::shared_ptr<Guard> guard_;
};

// One call, from when it reached a service to when gRPC forgets it.
class Guard::LiveCall : public grpc::experimental::Interceptor {
 public:
  LiveCall(std::shared_ptr<Guard> guard, const std::string& serial, grpc_call* call) : guard_(std::move(guard)) {
    // Removed between the check of the call and here: there is nobody left to cut it off later.
    if (!guard_->Begin(this, serial, call)) CutOff(call);
  }
  ~LiveCall() override { guard_->End(this); }
  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override { methods->Proceed(); }

 private:
  const std::shared_ptr<Guard> guard_;
};

class Guard::Interceptors : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Interceptors(std::shared_ptr<Guard> guard) : guard_(std::move(guard)) {}
  // Null, which costs the call nothing, for those from this machine.
  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    grpc::ServerContextBase* context = info->server_context();
    const std::shared_ptr<const grpc::AuthContext> caller = context->auth_context();
    if (caller == nullptr || !caller->IsPeerAuthenticated()) return nullptr;
    return new LiveCall(guard_, SerialOf(*caller), context->c_call());
  }

 private:
  const std::shared_ptr<Guard> guard_;
};

void Guard::SetMembers(const std::vector<farm::v1::Member>& members) {
  std::vector<grpc_call*> gone;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    by_serial_.clear();
    for (const farm::v1::Member& member : members) {
      for (const std::string& serial : member.serials()) by_serial_[serial] = member;
    }
    for (const auto& [key, live] : calls_) {
      if (by_serial_.count(live.serial) > 0) continue;
      grpc_call_ref(live.call);
      gone.push_back(live.call);
    }
  }
  // Without the lock: what gRPC runs on this thread may end calls.
  for (grpc_call* call : gone) {
    CutOff(call);
    grpc_call_unref(call);
  }
}

bool Guard::Begin(const LiveCall* key, const std::string& serial, grpc_call* call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (by_serial_.count(serial) == 0) return false;
  grpc_call_ref(call);
  calls_[key] = {serial, call};
  return true;
}

void Guard::End(const LiveCall* key) {
  grpc_call* call = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = calls_.find(key);
    if (found == calls_.end()) return;
    call = found->second.call;
    calls_.erase(found);
  }
  grpc_call_unref(call);
}

std::optional<Caller> Guard::CallerOf(const grpc::AuthContext& context) const {
  const std::string serial = SerialOf(context);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_serial_.find(serial);
  if (found == by_serial_.end()) return std::nullopt;
  return Caller{found->second, serial};
}

absl::Status Guard::Check(const grpc::AuthContext& context, absl::string_view method) const {
  const std::optional<Caller> caller = CallerOf(context);
  if (!caller.has_value()) return absl::UnauthenticatedError(kRemovedFromFarm);
  return CheckAccess(method, caller->member);
}

std::shared_ptr<grpc::ServerCredentials> Guard::Credentials(const std::string& trust_folder,
                                                            std::shared_ptr<Guard> guard) {
  std::shared_ptr<grpc::ServerCredentials> credentials =
      base::FarmServerCredentials(trust_folder, base::Callers::kMembers);
  if (guard != nullptr) credentials->SetAuthMetadataProcessor(std::make_shared<Processor>(std::move(guard)));
  return credentials;
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> Guard::WatchCalls() {
  return std::make_unique<Interceptors>(shared_from_this());
}

}  // namespace storyfarm::coordinator
