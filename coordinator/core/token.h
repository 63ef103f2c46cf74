// The fencing token inside the core: farm::v1::FencingToken as an ordered value.
#ifndef STORYFARM_COORDINATOR_CORE_TOKEN_H_
#define STORYFARM_COORDINATOR_CORE_TOKEN_H_

#include <compare>
#include <cstdint>

#include "farm/v1/record.pb.h"

namespace storyfarm::coordinator {

struct Token {
  uint64_t incarnation = 0;
  uint64_t number = 0;  // 0: no token

  auto operator<=>(const Token&) const = default;  // NOLINT(modernize-use-nullptr): the check misreads <=>
};

inline Token FromMessage(const farm::v1::FencingToken& token) { return {token.incarnation(), token.number()}; }

inline farm::v1::FencingToken ToMessage(const Token& token) {
  farm::v1::FencingToken message;
  message.set_incarnation(token.incarnation);
  message.set_number(token.number);
  return message;
}

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_TOKEN_H_
