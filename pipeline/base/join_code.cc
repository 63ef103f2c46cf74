#include "pipeline/base/join_code.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"

namespace storyfarm::base {
namespace {

constexpr char kPrefix[] = "farm-";
// Of the code's own SHA-256: one that lost a letter is told before anything is connected.
constexpr size_t kCheckBytes = 4;

}  // namespace

std::string WriteJoinCode(const farm::v1::JoinCode& code) {
  std::string bytes = code.SerializeAsString();
  bytes += Digest::Of(bytes).Bytes().substr(0, kCheckBytes);
  return kPrefix + absl::WebSafeBase64Escape(bytes);
}

absl::StatusOr<farm::v1::JoinCode> ReadJoinCode(std::string_view text) {
  std::string letters;
  for (const char c : text) {
    if (!absl::ascii_isspace(static_cast<unsigned char>(c))) letters.push_back(c);
  }
  const absl::Status bad = absl::InvalidArgumentError(
      "That is no code to join a farm with, or not all of it: it begins with \"farm-\"; copy it from there to its "
      "end.");
  std::string bytes;
  if (!absl::StartsWith(letters, kPrefix) ||
      !absl::WebSafeBase64Unescape(letters.substr(sizeof(kPrefix) - 1), &bytes) || bytes.size() <= kCheckBytes) {
    return bad;
  }
  const std::string check = bytes.substr(bytes.size() - kCheckBytes);
  bytes.resize(bytes.size() - kCheckBytes);
  farm::v1::JoinCode code;
  if (Digest::Of(bytes).Bytes().substr(0, kCheckBytes) != check || !code.ParseFromString(bytes) ||
      code.secret().size() != kJoinSecretBytes || code.authority_digest().size() != Digest::kBytes ||
      code.addresses().empty()) {
    return bad;
  }
  return code;
}

}  // namespace storyfarm::base
