// A proxy between a unix socket of its own and another one, that cuts connections when so much has passed upwards.
#ifndef STORYFARM_TESTS_SUPPORT_CUTTING_PROXY_H_
#define STORYFARM_TESTS_SUPPORT_CUTTING_PROXY_H_

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "pipeline/base/unique_fd.h"

namespace storyfarm::testing_support {

class CuttingProxy {
 public:
  CuttingProxy(const std::string& listen_path, std::string target_path) : target_path_(std::move(target_path)) {
    listener_ = base::UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = AddressOf(listen_path);
    listening_ = bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
                 listen(listener_.get(), 16) == 0;
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~CuttingProxy() {
    stopping_ = true;
    acceptor_.join();
    for (std::thread& relay : relays_) relay.join();
  }
  CuttingProxy(const CuttingProxy&) = delete;
  CuttingProxy& operator=(const CuttingProxy&) = delete;

  bool listening() const { return listening_; }
  // The next `times` connections over which `bytes` went upwards are cut at that moment.
  void CutAfter(uint64_t bytes, int times) {
    cut_bytes_ = bytes;
    cuts_left_ = times;
  }
  int cuts() const { return cuts_; }

 private:
  static constexpr int kPollMs = 50;

  static sockaddr_un AddressOf(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy_n(path.begin(), std::min(path.size(), sizeof(address.sun_path) - 1), address.sun_path);
    return address;
  }

  void Accept() {
    while (!stopping_) {
      pollfd waiting{listener_.get(), POLLIN, 0};
      if (poll(&waiting, 1, kPollMs) <= 0) continue;
      base::UniqueFd below(accept(listener_.get(), nullptr, nullptr));
      base::UniqueFd above(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_un address = AddressOf(target_path_);
      // Where the target is away, the connection ends at once, as without a proxy.
      if (connect(above.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) continue;
      relays_.emplace_back(
          [this, below = std::move(below), above = std::move(above)] { Relay(below.get(), above.get()); });
    }
  }

  // Whether all of it went on.
  static bool Pass(int from, int to, uint64_t* passed) {
    char buffer[16 << 10];
    const ssize_t got = read(from, buffer, sizeof(buffer));
    if (got <= 0) return false;
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t some = send(to, buffer + sent, static_cast<size_t>(got - sent), MSG_NOSIGNAL);
      if (some <= 0) return false;
      sent += some;
    }
    *passed += static_cast<uint64_t>(got);
    return true;
  }

  void Relay(int below, int above) {
    uint64_t up = 0, down = 0;
    while (!stopping_) {
      pollfd ends[2] = {{below, POLLIN, 0}, {above, POLLIN, 0}};
      if (poll(ends, 2, kPollMs) <= 0) continue;
      if (ends[0].revents != 0 && !Pass(below, above, &up)) return;
      if (ends[1].revents != 0 && !Pass(above, below, &down)) return;
      if (up > cut_bytes_ && cuts_left_.fetch_sub(1) > 0) {
        ++cuts_;
        return;
      }
    }
  }

  const std::string target_path_;
  base::UniqueFd listener_;
  bool listening_ = false;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> cut_bytes_{0};
  std::atomic<int> cuts_left_{0};
  std::atomic<int> cuts_{0};
  std::thread acceptor_;
  std::vector<std::thread> relays_;  // the acceptor's, and the destructor's once it has ended
};

}  // namespace storyfarm::testing_support

#endif  // STORYFARM_TESTS_SUPPORT_CUTTING_PROXY_H_
