#include "pipeline/base/checksum.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>

namespace storyfarm::base {
namespace {

constexpr size_t kTagBytes = 16;
constexpr size_t kMostBytesACall = size_t{1} << 30;  // OpenSSL counts in int

}  // namespace

uint64_t Checksum(std::string_view bytes) {
  static constexpr unsigned char kZeros[kTagBytes] = {};
  const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                                &EVP_CIPHER_CTX_free);
  int written = 0;
  bool ok = context != nullptr &&
            EVP_EncryptInit_ex(context.get(), EVP_aes_128_gcm(), nullptr, kZeros, kZeros) == 1;
  while (ok && !bytes.empty()) {
    const size_t piece = std::min(bytes.size(), kMostBytesACall);
    // Without a place for ciphertext, bytes are only authenticated.
    ok = EVP_EncryptUpdate(context.get(), nullptr, &written, reinterpret_cast<const unsigned char*>(bytes.data()),
                           static_cast<int>(piece)) == 1;
    bytes.remove_prefix(piece);
  }
  unsigned char tag[kTagBytes] = {};
  ok = ok && EVP_EncryptFinal_ex(context.get(), tag, &written) == 1 &&
       EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, tag) == 1;
  if (!ok) std::abort();  // memory is out or the library is broken, as in digest.cc
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(value); ++i) value |= uint64_t{tag[i]} << (8 * i);
  return value;
}

}  // namespace storyfarm::base
