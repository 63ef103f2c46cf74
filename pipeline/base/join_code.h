// A code to join a farm with (join.proto), as the letters that a person carries from one machine to the other. Target
// storyfarm_join.
#ifndef STORYFARM_PIPELINE_BASE_JOIN_CODE_H_
#define STORYFARM_PIPELINE_BASE_JOIN_CODE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "farm/v1/join.pb.h"

namespace storyfarm::base {

// 128 random bits.
inline constexpr size_t kJoinSecretBytes = 16;

// "farm-" and letters, digits, - and _, about 130 of them with the usual one or two addresses.
std::string WriteJoinCode(const farm::v1::JoinCode& code);

// Spaces and line breaks, as a mail or a narrow terminal puts them in, are ignored. INVALID_ARGUMENT: it is no code, or
// not whole.
absl::StatusOr<farm::v1::JoinCode> ReadJoinCode(std::string_view text);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_JOIN_CODE_H_
