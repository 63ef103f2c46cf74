// Bytes kept small: DEFLATE (RFC 1951) without header or checksum, for what a process keeps or stores by itself.
#ifndef STORYFARM_PIPELINE_BASE_DEFLATE_H_
#define STORYFARM_PIPELINE_BASE_DEFLATE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace storyfarm::base {

// The same bytes give the same result with one version of zlib. Any thread; at most 4 GiB.
std::string Deflate(std::string_view bytes);
// What was deflated, which has `size_bytes`. DATA_LOSS where `deflated` is no such thing. Damage that leaves a stream of
// that length goes unseen.
absl::StatusOr<std::string> Inflate(std::string_view deflated, size_t size_bytes);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_DEFLATE_H_
