// Who may call what: one row a method. A method without a row may be called by nobody from another machine.
#ifndef STORYFARM_COORDINATOR_RPC_ACCESS_H_
#define STORYFARM_COORDINATOR_RPC_ACCESS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "farm/v1/trust.pb.h"

namespace storyfarm::coordinator {

struct AccessRow {
  const char* method;  // as gRPC names it: "/farm.v1.ClientService/Submit"
  farm::v1::Role least;  // of users; ROLE_UNSPECIFIED: none of them
  bool workers;
  bool coordinators;
};

// All rows, sorted by method.
const std::vector<AccessRow>& AccessTable();

// OK where this member may call the method. UNIMPLEMENTED: there is no such method. PERMISSION_DENIED says what it
// takes.
absl::Status CheckAccess(absl::string_view method, const farm::v1::Member& member);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_ACCESS_H_
