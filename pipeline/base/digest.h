// Bytes named by their SHA-256 (FIPS 180-4).
#ifndef STORYFARM_PIPELINE_BASE_DIGEST_H_
#define STORYFARM_PIPELINE_BASE_DIGEST_H_

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "pipeline/base/env.h"

namespace storyfarm::base {

// A SHA-256. The default is all zeros, which names nothing.
class Digest {
 public:
  static constexpr size_t kBytes = 32;

  Digest() = default;
  // Of bytes that are all there.
  static Digest Of(std::string_view bytes);
  // From the 32 bytes that messages carry. INVALID_ARGUMENT for any other length.
  static absl::StatusOr<Digest> FromBytes(std::string_view bytes);
  // From 64 hexadecimal digits, either case.
  static absl::StatusOr<Digest> FromHex(std::string_view hex);

  std::string Bytes() const { return std::string(view()); }
  std::string_view view() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  std::string Hex() const;       // 64 digits, lower case
  std::string ShortHex() const;  // the first 12, for messages
  bool IsZero() const { return *this == Digest(); }

  friend auto operator<=>(const Digest&, const Digest&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const Digest& digest) {
    return H::combine(std::move(state), digest.bytes_);
  }

 private:
  friend class Sha256;
  std::array<uint8_t, kBytes> bytes_{};
};

// Incremental SHA-256. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void Update(std::string_view bytes);
  // Of everything given so far. The hasher then starts anew.
  Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct FileDigest {
  Digest digest;
  uint64_t size_bytes = 0;
};
// Reads the file once, in pieces.
absl::StatusOr<FileDigest> HashFile(Env& env, const std::string& path);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_DIGEST_H_
