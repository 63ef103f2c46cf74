#include "pipeline/base/digest.h"

#include <openssl/evp.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace storyfarm::base {
namespace {

// Large enough that system calls don't count beside hashing.
constexpr size_t kHashPieceBytes = size_t{1} << 20;

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// OpenSSL fails here only when memory is out or the library is broken; no caller could go on.
void RequireOpenSsl(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

Digest Digest::Of(std::string_view bytes) {
  Sha256 hasher;
  hasher.Update(bytes);
  return hasher.Finish();
}

absl::StatusOr<Digest> Digest::FromBytes(std::string_view bytes) {
  if (bytes.size() != kBytes) {
    return absl::InvalidArgumentError(absl::StrCat("A digest has 32 bytes, this one has ", bytes.size(), "."));
  }
  Digest digest;
  std::memcpy(digest.bytes_.data(), bytes.data(), kBytes);
  return digest;
}

absl::StatusOr<Digest> Digest::FromHex(std::string_view hex) {
  Digest digest;
  bool valid = hex.size() == 2 * kBytes;
  for (size_t i = 0; valid && i < kBytes; ++i) {
    const int high = HexValue(hex[2 * i]);
    const int low = HexValue(hex[2 * i + 1]);
    valid = high >= 0 && low >= 0;
    digest.bytes_[i] = static_cast<uint8_t>(high * 16 + low);
  }
  if (!valid) return absl::InvalidArgumentError("A digest is written as 64 hexadecimal digits.");
  return digest;
}

std::string Digest::Hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * kBytes);
  for (uint8_t byte : bytes_) {
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

std::string Digest::ShortHex() const { return Hex().substr(0, 12); }

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  RequireOpenSsl(state_->context != nullptr && EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::Update(std::string_view bytes) {
  RequireOpenSsl(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

Digest Sha256::Finish() {
  Digest digest;
  unsigned int size = 0;
  RequireOpenSsl(EVP_DigestFinal_ex(state_->context, digest.bytes_.data(), &size) == 1 && size == Digest::kBytes);
  RequireOpenSsl(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
  return digest;
}

absl::StatusOr<FileDigest> HashFile(Env& env, const std::string& path) {
  absl::StatusOr<std::unique_ptr<ReadableFile>> file = env.OpenForReading(path);
  if (!file.ok()) return file.status();
  Sha256 hasher;
  FileDigest result;
  std::vector<char> piece(kHashPieceBytes);
  while (true) {
    absl::StatusOr<size_t> got = (*file)->ReadAt(result.size_bytes, piece.data(), piece.size());
    if (!got.ok()) return got.status();
    hasher.Update({piece.data(), *got});
    result.size_bytes += *got;
    if (*got < piece.size()) break;
  }
  result.digest = hasher.Finish();
  return result;
}

}  // namespace storyfarm::base
