// The canonical text behind a key of something that is shared: fields one after the other, each as its name, a zero
// byte, the length of its value in 8 bytes (little-endian) and the value. Whole numbers are 8 bytes little-endian,
// others the 8 bytes of an IEEE 754 double likewise. Internal to this folder.
#ifndef STORYFARM_PIPELINE_PLAN_DEFINITION_H_
#define STORYFARM_PIPELINE_PLAN_DEFINITION_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace storyfarm::plan {

class Definition {
 public:
  // `kind` and a zero byte come first: no two kinds of things have one text.
  explicit Definition(absl::string_view kind) : text_(kind) { text_.push_back('\0'); }

  void Text(absl::string_view name, absl::string_view value) {
    text_.append(name.data(), name.size());
    text_.push_back('\0');
    text_.append(Bytes(value.size()));
    text_.append(value.data(), value.size());
  }
  void Number(absl::string_view name, uint64_t value) { Text(name, Bytes(value)); }
  void Real(absl::string_view name, double value) {
    if (value == 0) value = 0;  // one zero, not two
    uint64_t bits = 0;
    static_assert(sizeof(bits) == sizeof(value));
    std::memcpy(&bits, &value, sizeof(bits));
    Number(name, bits);
  }
  std::string Take() { return std::move(text_); }

 private:
  static std::string Bytes(uint64_t value) {
    std::string bytes;
    for (int byte = 0; byte < 8; ++byte) bytes.push_back(static_cast<char>(value >> (8 * byte) & 0xFF));
    return bytes;
  }
  std::string text_;
};

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_DEFINITION_H_
