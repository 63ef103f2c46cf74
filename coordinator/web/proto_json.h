// Messages as the page gets them: protobuf's own JSON, with the field names of the .proto files.
#ifndef STORYFARM_COORDINATOR_WEB_PROTO_JSON_H_
#define STORYFARM_COORDINATOR_WEB_PROTO_JSON_H_

#include <string>

#include "google/protobuf/message.h"

namespace storyfarm::coordinator {

// Fields at their defaults are left out; 64-bit numbers are strings, bytes base64, enums their names.
std::string ToJson(const google::protobuf::Message& message);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_PROTO_JSON_H_
