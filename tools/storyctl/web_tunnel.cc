#include "tools/storyctl/web_tunnel.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/env.h"

namespace storyfarm::storyctl {
namespace {

using farm::v1::WebBytes;

constexpr size_t kPieceBytes = size_t{64} << 10;
constexpr int kBacklog = 16;

#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_NOSIGNAL;
#else
constexpr int kSendFlags = 0;
#endif

// Nothing that the browser asks for again will change it.
bool IsForGood(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::UNIMPLEMENTED:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<base::UniqueFd> Listen(int port) {
  base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  if (!fd.valid()) return base::ErrorFromErrno(errno, "open", "a socket");
  ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  const int yes = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    return absl::AlreadyExistsError(absl::StrCat("port ", port, " of this machine is taken: choose another with --port"));
  }
  return fd;
}

bool SendAll(int fd, const std::string& data) {
  for (size_t sent = 0; sent < data.size();) {
    const ssize_t more = ::send(fd, data.data() + sent, data.size() - sent, kSendFlags);
    if (more < 0 && errno == EINTR) continue;
    if (more <= 0) return false;
    sent += static_cast<size_t>(more);
  }
  return true;
}

}  // namespace

struct WebTunnel::Connection {
  base::UniqueFd socket;
  grpc::ClientContext context;
  std::thread thread;
  std::atomic<bool> over{false};
};

absl::StatusOr<std::unique_ptr<WebTunnel>> WebTunnel::Open(farm::v1::ClientService::StubInterface& client, int port,
                                                           bool or_any_port) {
  absl::StatusOr<base::UniqueFd> listens = Listen(port);
  if (!listens.ok() && or_any_port) listens = Listen(0);
  if (!listens.ok()) return listens.status();
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  if (::getsockname(listens->get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return base::ErrorFromErrno(errno, "look at", "a socket");
  }
  std::unique_ptr<WebTunnel> tunnel(new WebTunnel(client, *std::move(listens), ntohs(address.sin_port)));
  absl::StatusOr<base::WakePipe> wake = base::WakePipe::Open();
  if (!wake.ok()) return wake.status();
  tunnel->wake_ = *std::move(wake);
  return tunnel;
}

WebTunnel::WebTunnel(farm::v1::ClientService::StubInterface& client, base::UniqueFd listens, int port)
    : client_(client), listens_(std::move(listens)), port_(port) {}

WebTunnel::~WebTunnel() { EndAll(); }

void WebTunnel::EndAll() {
  for (Connection& connection : connections_) {
    connection.context.TryCancel();
    ::shutdown(connection.socket.get(), SHUT_RDWR);
    connection.thread.join();
  }
  connections_.clear();
}

size_t WebTunnel::Reap() {
  for (auto connection = connections_.begin(); connection != connections_.end();) {
    if (!connection->over) {
      ++connection;
      continue;
    }
    connection->thread.join();
    connection = connections_.erase(connection);
  }
  return connections_.size();
}

void WebTunnel::Carry(Connection& connection, const std::function<void(const grpc::Status&)>& on_trouble) {
  const int fd = connection.socket.get();
  const auto stream = client_.WebTunnel(&connection.context);
  std::thread to_browser([&] {
    WebBytes piece;
    while (stream->Read(&piece)) {
      if (SendAll(fd, piece.data())) continue;
      connection.context.TryCancel();
      break;
    }
    ::shutdown(fd, SHUT_RDWR);  // wakes the other direction
  });
  WebBytes piece;
  std::string& data = *piece.mutable_data();
  while (true) {
    data.resize(kPieceBytes);
    const ssize_t got = ::recv(fd, data.data(), data.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    data.resize(static_cast<size_t>(got));
    if (!stream->Write(piece)) break;
  }
  stream->WritesDone();
  to_browser.join();
  const grpc::Status status = stream->Finish();
  if (IsForGood(status)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!ended_.has_value()) ended_ = status;
  } else if (!status.ok() && status.error_code() != grpc::StatusCode::CANCELLED) {
    on_trouble(status);
  }
  connection.over = true;
  wake_.Wake();
}

grpc::Status WebTunnel::Run(const std::function<void(const grpc::Status&)>& on_trouble) {
  grpc::Status ended = Accept(on_trouble);
  EndAll();
  return ended;
}

grpc::Status WebTunnel::Accept(const std::function<void(const grpc::Status&)>& on_trouble) {
  while (true) {
    const bool room = Reap() < kTunnelConnections;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (ended_.has_value()) return *ended_;
    }
    pollfd fds[2] = {{wake_.fd(), POLLIN, 0}, {listens_.get(), static_cast<short>(room ? POLLIN : 0), 0}};
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) {
      return grpc::Status(grpc::StatusCode::INTERNAL, absl::StrCat("poll failed with errno ", errno));
    }
    wake_.Drain();
    if ((fds[1].revents & POLLIN) == 0) continue;
    base::UniqueFd socket(::accept(listens_.get(), nullptr, nullptr));
    if (!socket.valid()) continue;  // it went away again
    ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
    const int yes = 1;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
#ifdef SO_NOSIGPIPE
    ::setsockopt(socket.get(), SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof(yes));
#endif
    Connection& connection = connections_.emplace_back();
    connection.socket = std::move(socket);
    connection.thread = std::thread([this, &connection, &on_trouble] { Carry(connection, on_trouble); });
  }
}

}  // namespace storyfarm::storyctl
