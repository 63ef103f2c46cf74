#include "coordinator/rpc/web_tunnels.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/status.h"
#include "pipeline/base/env.h"
#include "pipeline/base/places.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::WebBytes;

#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_NOSIGNAL;
#else
constexpr int kSendFlags = 0;
#endif

void MakeOwn(int fd) {
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
#ifdef SO_NOSIGPIPE
  const int yes = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof(yes));
#endif
}

bool IsForLater(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

absl::Status PageGone() {
  return absl::UnavailableError("the coordinator's page ended the connection; the browser asks again by itself");
}

}  // namespace

std::string VisitorSocket(const std::string& data_folder, farm::v1::Role role) {
  return base::VisitorSocket(data_folder, plan::RoleName(role));
}

// One call. What it asks of gRPC is asked by the thread alone, without the lock; gRPC's answers only set flags.
class WebTunnels::Tunnel : public grpc::ServerBidiReactor<WebBytes, WebBytes> {
 public:
  Tunnel(WebTunnels* all, std::string member) : all_(*all), member_(std::move(member)) {}

  const std::string& member() const { return member_; }

  // ---- gRPC's threads
  void OnReadDone(bool ok) override {
    Tell([this, ok] {
      reading_ = false;
      (ok ? came_ : said_all_) = true;
      sent_bytes_ = 0;
    });
  }
  void OnWriteDone(bool ok) override {
    Tell([this, ok] {
      writing_ = false;
      if (!ok) End(absl::CancelledError("the browser's side went away"));
    });
  }
  void OnCancel() override {
    Tell([this] { End(absl::CancelledError("the browser's side went away")); });
  }
  void OnDone() override {
    Tell([this] { done_ = true; });
  }

  // ---- The rest holds the lock.
  void Begin(absl::StatusOr<base::UniqueFd> socket) {
    if (socket.ok()) {
      socket_ = *std::move(socket);
    } else {
      End(socket.status());
    }
  }
  void End(const absl::Status& why) {
    if (!end_.has_value()) end_ = why;
  }
  bool done() const { return done_; }

  // What to wait for at its socket; 0: nothing.
  short Events() const {
    if (end_.has_value()) return 0;
    return static_cast<short>((came_ ? POLLOUT : 0) | (!writing_ ? POLLIN : 0));
  }
  int fd() const { return socket_.get(); }

  // Moves what its socket gives and takes.
  void Move(short ready) {
    if (end_.has_value()) return;
    if (came_ && (ready & (POLLOUT | POLLERR | POLLHUP)) != 0) GiveToPage();
    if (!writing_ && !to_write_ && (ready & (POLLIN | POLLERR | POLLHUP)) != 0) TakeFromPage();
  }

  // What is to be asked of gRPC now, without the lock: in this order, and nothing after the last.
  struct Todo {
    bool read = false;
    bool write = false;
    std::optional<absl::Status> finish;
  };
  Todo TakeTodo() {
    Todo todo;
    if (finished_) return todo;
    if (end_.has_value()) {
      // What was read of the page before it ended still goes out.
      if (writing_) return todo;
      finished_ = true;
      todo.finish = end_;
      socket_.Reset();
      return todo;
    }
    if (said_all_ && !came_ && !shut_) {
      shut_ = true;
      ::shutdown(socket_.get(), SHUT_WR);
    }
    if (!reading_ && !came_ && !said_all_) todo.read = reading_ = true;
    if (std::exchange(to_write_, false)) todo.write = writing_ = true;
    return todo;
  }
  void Do(const Todo& todo) {
    if (todo.read) StartRead(&incoming_);
    if (todo.write) StartWrite(&outgoing_);
    if (todo.finish.has_value()) Finish(ToGrpc(*todo.finish, nullptr));
  }

 private:
  template <typename What>
  void Tell(What what) {
    const std::lock_guard<std::mutex> lock(all_.mutex_);
    what();
    all_.wake_.Wake();  // once the lock is free the tunnel may be gone
  }

  void GiveToPage() {
    const std::string& data = incoming_.data();
    if (data.size() > kWebTunnelBytes) {
      return End(absl::InvalidArgumentError(absl::StrCat("a piece has at most ", kWebTunnelBytes, " bytes")));
    }
    if (sent_bytes_ < data.size()) {
      const ssize_t sent = ::send(socket_.get(), data.data() + sent_bytes_, data.size() - sent_bytes_, kSendFlags);
      if (sent < 0 && !IsForLater(errno)) {
        // It takes no more; what it said last is still fetched.
        came_ = false;
        said_all_ = shut_ = true;
        return;
      }
      sent_bytes_ += static_cast<size_t>(std::max<ssize_t>(sent, 0));
    }
    if (sent_bytes_ == data.size()) came_ = false;
  }

  void TakeFromPage() {
    std::string& data = *outgoing_.mutable_data();
    data.resize(kWebTunnelBytes);
    const ssize_t got = ::recv(socket_.get(), data.data(), data.size(), 0);
    data.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && IsForLater(errno)) return;
    if (got <= 0) return End(got == 0 ? absl::OkStatus() : PageGone());
    to_write_ = true;
  }

  WebTunnels& all_;
  const std::string member_;
  base::UniqueFd socket_;
  WebBytes incoming_, outgoing_;
  size_t sent_bytes_ = 0;  // of incoming_
  bool reading_ = false;   // gRPC reads into incoming_
  bool came_ = false;      // incoming_ is to go to the page
  bool said_all_ = false;  // the browser says nothing more
  bool shut_ = false;      // the page knows
  bool to_write_ = false;  // outgoing_ is to go to the browser
  bool writing_ = false;   // gRPC writes it
  std::optional<absl::Status> end_;
  bool finished_ = false;
  bool done_ = false;
};

WebTunnels::WebTunnels(std::function<std::string(farm::v1::Role)> socket_of) : socket_of_(std::move(socket_of)) {
  if (absl::StatusOr<base::WakePipe> opened = base::WakePipe::Open(); opened.ok()) wake_ = *std::move(opened);
  thread_ = std::thread([this] { Main(); });
}

WebTunnels::~WebTunnels() {
  Stop(absl::UnavailableError("the coordinator stopped"));
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    leaving_ = true;
    wake_.Wake();
  }
  thread_.join();
}

absl::StatusOr<base::UniqueFd> WebTunnels::Connect(const std::string& member, farm::v1::Role role) const {
  if (stopped_.has_value()) return *stopped_;
  const auto of_member = std::count_if(tunnels_.begin(), tunnels_.end(),
                                       [&member](const auto& tunnel) { return tunnel->member() == member; });
  if (tunnels_.size() >= kWebTunnels || static_cast<size_t>(of_member) >= kWebTunnelsAMember) {
    return absl::ResourceExhaustedError("too many browsers look at the farm's page from other machines: close some");
  }
  const std::string path = socket_of_(role);
  if (path.empty()) {
    return absl::FailedPreconditionError(
        "this coordinator serves its page to no other machine: it was started with --web off or without --network");
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() > base::kMaxSocketPathBytes) return PageGone();
  std::copy(path.begin(), path.end(), address.sun_path);
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  if (!socket.valid()) return base::ErrorFromErrno(errno, "open a socket for", path);
  // It waits, for a moment, only where the page has not taken the connections before this one.
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return PageGone();
  MakeOwn(socket.get());
  return socket;
}

grpc::ServerBidiReactor<WebBytes, WebBytes>* WebTunnels::Add(const std::string& member,
                                                             absl::StatusOr<base::UniqueFd> socket) {
  Tunnel* tunnel = tunnels_.emplace_back(std::make_unique<Tunnel>(this, member)).get();
  tunnel->Begin(std::move(socket));
  wake_.Wake();
  return tunnel;
}

grpc::ServerBidiReactor<WebBytes, WebBytes>* WebTunnels::Open(const std::string& member, farm::v1::Role role) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return Add(member, Connect(member, role));
}

grpc::ServerBidiReactor<WebBytes, WebBytes>* WebTunnels::Refuse(const absl::Status& why) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return Add("", why);
}

void WebTunnels::Stop(const absl::Status& why) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!stopped_.has_value()) stopped_ = why;
  for (const auto& tunnel : tunnels_) tunnel->End(*stopped_);
  wake_.Wake();
}

void WebTunnels::Main() {
  while (Turn()) {
  }
}

bool WebTunnels::Turn() {
  std::vector<pollfd> fds = {{wake_.fd(), POLLIN, 0}};
  std::vector<Tunnel*> waiting = {nullptr};
  std::vector<std::pair<Tunnel*, Tunnel::Todo>> todo;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::erase_if(tunnels_, [](const auto& tunnel) { return tunnel->done(); });
    if (leaving_ && tunnels_.empty()) return false;
    for (const auto& tunnel : tunnels_) todo.emplace_back(tunnel.get(), tunnel->TakeTodo());
    for (const auto& tunnel : tunnels_) {
      if (tunnel->Events() == 0) continue;
      fds.push_back({tunnel->fd(), tunnel->Events(), 0});
      waiting.push_back(tunnel.get());
    }
  }
  // Only this thread removes tunnels, so they are all still there.
  for (const auto& [tunnel, what] : todo) tunnel->Do(what);
  if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return true;
  wake_.Drain();
  const std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 1; i < fds.size(); ++i) waiting[i]->Move(fds[i].revents);
  return true;
}

}  // namespace storyfarm::coordinator
