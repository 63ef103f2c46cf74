// Messages over a byte stream between two processes of one machine: a length (4 bytes, little-endian), then the bytes.
#ifndef STORYFARM_PIPELINE_BASE_FRAMING_H_
#define STORYFARM_PIPELINE_BASE_FRAMING_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/unique_fd.h"

namespace storyfarm::base {

// The largest message: a job's work with every prompt of 20,000 frames at 2 KiB each is 40 MiB. A length above it is
// taken for a stream that is out of step, not for a wish for memory.
inline constexpr size_t kMaxFrameBytes = size_t{64} << 20;

// A connected pair of close-on-exec stream sockets, which never raise SIGPIPE.
struct SocketPair {
  UniqueFd parent;
  UniqueFd child;
};
absl::StatusOr<SocketPair> MakeSocketPair();

// Writes length and bytes, waiting as long as the reader takes. Two threads must not write to one descriptor at a time.
// INVALID_ARGUMENT: longer than kMaxFrameBytes, nothing was written. UNAVAILABLE: the other side closed.
absl::Status WriteFrame(int fd, std::string_view bytes);

// Waits for one message. nullopt: the other side closed between two messages. DATA_LOSS: it closed inside one, or the
// length is out of range, and nothing after it can be read. RESOURCE_EXHAUSTED is never answered: memory for the bytes
// is taken as they come. A thread that waits here is released by shutdown(fd) from another thread.
absl::StatusOr<std::optional<std::string>> ReadFrame(int fd);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_FRAMING_H_
