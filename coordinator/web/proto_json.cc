#include "coordinator/web/proto_json.h"

#include <google/protobuf/util/json_util.h>

namespace storyfarm::coordinator {

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  // Fails only for messages that hold Any, and none does.
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  return status.ok() ? json : "null";
}

}  // namespace storyfarm::coordinator
