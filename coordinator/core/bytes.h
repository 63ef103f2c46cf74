// The byte form of State: unsigned LEB128 numbers and length-prefixed strings, one after the other. One value has one
// form, so equal states give equal bytes.
#ifndef STORYFARM_COORDINATOR_CORE_BYTES_H_
#define STORYFARM_COORDINATOR_CORE_BYTES_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace storyfarm::coordinator {

class ByteWriter {
 public:
  void Number(uint64_t value) {
    while (value >= 0x80) {
      bytes_.push_back(static_cast<char>(0x80 | (value & 0x7f)));
      value >>= 7;
    }
    bytes_.push_back(static_cast<char>(value));
  }
  void String(absl::string_view value) {
    Number(value.size());
    bytes_.append(value.data(), value.size());
  }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Reading past the end, or a number of more than 64 bits, makes it not ok(); what is read from then on is 0 or empty.
class ByteReader {
 public:
  explicit ByteReader(absl::string_view bytes) : rest_(bytes) {}

  uint64_t Number() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) break;
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    Fail();
    return 0;
  }
  std::string String() {
    const uint64_t size = Number();
    if (size > rest_.size()) {
      Fail();
      return "";
    }
    std::string value(rest_.data(), size);
    rest_.remove_prefix(size);
    return value;
  }
  // A count of things of at least one byte each: never more than there are bytes left.
  uint64_t Count() {
    const uint64_t count = Number();
    if (count > rest_.size()) {
      Fail();
      return 0;
    }
    return count;
  }
  bool ok() const { return ok_; }
  bool at_end() const { return rest_.empty(); }

 private:
  void Fail() {
    ok_ = false;
    rest_ = {};
  }

  absl::string_view rest_;
  bool ok_ = true;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_BYTES_H_
