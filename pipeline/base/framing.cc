#include "pipeline/base/framing.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "pipeline/base/env.h"

namespace storyfarm::base {
namespace {

constexpr size_t kLengthBytes = 4;
// Memory is taken in steps of this, so that a wrong length does not take 64 MiB before a byte has come.
constexpr size_t kReadStepBytes = size_t{1} << 20;

#if defined(MSG_NOSIGNAL)
constexpr int kSendFlags = MSG_NOSIGNAL;
#else
constexpr int kSendFlags = 0;  // SO_NOSIGPIPE does it
#endif

// Sends until all is out. Both parts go in one call where they fit, so that a small message is one packet.
absl::Status SendAll(int fd, std::string_view head, std::string_view body) {
  while (!head.empty() || !body.empty()) {
    iovec parts[2] = {{const_cast<char*>(head.data()), head.size()}, {const_cast<char*>(body.data()), body.size()}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    const ssize_t sent = ::sendmsg(fd, &message, kSendFlags);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        pollfd wait{fd, POLLOUT, 0};
        ::poll(&wait, 1, -1);
        continue;
      }
      if (errno == EPIPE || errno == ECONNRESET) {
        return absl::UnavailableError("The process at the other end of the socket is gone.");
      }
      return ErrorFromErrno(errno, "write to", "a socket");
    }
    size_t left = static_cast<size_t>(sent);
    const size_t from_head = std::min(left, head.size());
    head.remove_prefix(from_head);
    body.remove_prefix(left - from_head);
  }
  return absl::OkStatus();
}

// Reads exactly `size` bytes, or fewer where the stream ends.
absl::StatusOr<size_t> ReceiveUpTo(int fd, char* buffer, size_t size) {
  size_t done = 0;
  while (done < size) {
    const ssize_t got = ::recv(fd, buffer + done, size - done, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        pollfd wait{fd, POLLIN, 0};
        ::poll(&wait, 1, -1);
        continue;
      }
      if (errno == ECONNRESET) break;  // the other side died with unread bytes: its stream ends here
      return ErrorFromErrno(errno, "read from", "a socket");
    }
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

}  // namespace

absl::StatusOr<SocketPair> MakeSocketPair() {
  int fds[2];
#if defined(SOCK_CLOEXEC)
  const int type = SOCK_STREAM | SOCK_CLOEXEC;
#else
  const int type = SOCK_STREAM;
#endif
  if (::socketpair(AF_UNIX, type, 0, fds) != 0) return ErrorFromErrno(errno, "create", "a socket pair");
  SocketPair pair{UniqueFd(fds[0]), UniqueFd(fds[1])};
#if defined(__APPLE__)
  for (int fd : fds) {
    const int on = 1;
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on) != 0) {
      return ErrorFromErrno(errno, "set up", "a socket pair");
    }
  }
#endif
  return pair;
}

absl::Status WriteFrame(int fd, std::string_view bytes) {
  if (bytes.size() > kMaxFrameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("A message of ", bytes.size(), " bytes is over the limit of ", kMaxFrameBytes, "."));
  }
  const uint32_t size = static_cast<uint32_t>(bytes.size());
  const char length[kLengthBytes] = {static_cast<char>(size), static_cast<char>(size >> 8),
                                     static_cast<char>(size >> 16), static_cast<char>(size >> 24)};
  return SendAll(fd, {length, kLengthBytes}, bytes);
}

absl::StatusOr<std::optional<std::string>> ReadFrame(int fd) {
  unsigned char length[kLengthBytes];
  absl::StatusOr<size_t> got = ReceiveUpTo(fd, reinterpret_cast<char*>(length), kLengthBytes);
  if (!got.ok()) return got.status();
  if (*got == 0) return std::nullopt;
  if (*got < kLengthBytes) return absl::DataLossError("The stream ended inside a message's length.");
  const uint32_t size =
      uint32_t{length[0]} | uint32_t{length[1]} << 8 | uint32_t{length[2]} << 16 | uint32_t{length[3]} << 24;
  if (size > kMaxFrameBytes) {
    return absl::DataLossError(absl::StrCat("A message announces ", size, " bytes, over the limit of ", kMaxFrameBytes,
                                            ": the stream is out of step."));
  }
  std::string bytes;
  while (bytes.size() < size) {
    const size_t done = bytes.size();
    const size_t step = std::min<size_t>(size - done, std::max(kReadStepBytes, done));
    bytes.resize(done + step);
    got = ReceiveUpTo(fd, bytes.data() + done, step);
    if (!got.ok()) return got.status();
    if (*got < step) {
      return absl::DataLossError(
          absl::StrCat("The stream ended after ", done + *got, " of a message's ", size, " bytes."));
    }
  }
  return bytes;
}

}  // namespace storyfarm::base
