#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pipeline/render/request.h"

namespace storyfarm::render {
namespace {

constexpr char kPayload[] = "storyfarm/render-failure";  // "<kind's number> <needed bytes>"

absl::StatusCode CodeOf(FailureKind kind) {
  switch (kind) {
    case FailureKind::kBadInput:
      return absl::StatusCode::kInvalidArgument;
    case FailureKind::kOutOfMemory:
    case FailureKind::kDiskFull:
      return absl::StatusCode::kResourceExhausted;
    case FailureKind::kBlobUnavailable:
      return absl::StatusCode::kNotFound;
    case FailureKind::kInvalidOutput:
      return absl::StatusCode::kDataLoss;
    case FailureKind::kInternal:
      break;
  }
  return absl::StatusCode::kInternal;
}

// Kind and needed bytes of a status that Fail made.
bool ReadPayload(const absl::Status& status, FailureKind* kind, uint64_t* needed_bytes) {
  const auto payload = status.GetPayload(kPayload);
  if (!payload) return false;
  const std::vector<std::string> parts = absl::StrSplit(std::string(*payload), ' ');
  int number = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &number) || !absl::SimpleAtoi(parts[1], needed_bytes)) {
    return false;
  }
  *kind = static_cast<FailureKind>(number);
  return true;
}

}  // namespace

absl::Status Fail(FailureKind kind, const std::string& message, uint64_t needed_bytes) {
  absl::Status status(CodeOf(kind), message);
  status.SetPayload(kPayload, absl::Cord(absl::StrCat(static_cast<int>(kind), " ", needed_bytes)));
  return status;
}

FailureKind KindOf(const absl::Status& status) {
  FailureKind kind = FailureKind::kInternal;
  uint64_t needed_bytes = 0;
  if (ReadPayload(status, &kind, &needed_bytes)) return kind;
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kOutOfRange:
      return FailureKind::kBadInput;
    case absl::StatusCode::kResourceExhausted:
      return FailureKind::kOutOfMemory;
    default:
      return FailureKind::kInternal;
  }
}

uint64_t NeededBytes(const absl::Status& status) {
  FailureKind kind = FailureKind::kInternal;
  uint64_t needed_bytes = 0;
  return ReadPayload(status, &kind, &needed_bytes) ? needed_bytes : 0;
}

}  // namespace storyfarm::render
