// Renews the coordinator's own certificate when its time has come. Behind server.h.
#ifndef STORYFARM_COORDINATOR_RPC_CERTIFICATE_WATCH_H_
#define STORYFARM_COORDINATOR_RPC_CERTIFICATE_WATCH_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "coordinator/rpc/authority.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

// It has eight months for it.
inline constexpr int64_t kCertificateWatchMs = int64_t{3600} * 1000;

class CertificateWatch {
 public:
  // All of it outlives the watch.
  struct Parts {
    const FarmAuthority* authority = nullptr;
    base::Env* env = nullptr;
    base::Log* log = nullptr;
  };
  // Starts a thread that looks every kCertificateWatchMs.
  explicit CertificateWatch(const Parts& parts);
  ~CertificateWatch();

 private:
  void Main();

  const Parts parts_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_CERTIFICATE_WATCH_H_
