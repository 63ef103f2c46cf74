#include "coordinator/rpc/certificate_watch.h"

#include <chrono>
#include <string>

namespace storyfarm::coordinator {

CertificateWatch::CertificateWatch(const Parts& parts) : parts_(parts) {
  thread_ = std::thread([this] { Main(); });
}

CertificateWatch::~CertificateWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void CertificateWatch::Main() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, std::chrono::milliseconds(kCertificateWatchMs), [this] { return stopping_; })) {
    const absl::StatusOr<bool> renewed = parts_.authority->RenewOwn(*parts_.env);
    if (!renewed.ok()) {
      parts_.log->Error("the coordinator's certificate can't be renewed, which is tried again in an hour",
                        {{"why", std::string(renewed.status().message())}});
    } else if (*renewed) {
      parts_.log->Info("the coordinator's certificate was renewed");
    }
  }
}

}  // namespace storyfarm::coordinator
