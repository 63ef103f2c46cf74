// What a job is and how it came to be, as JSON for people and their tools: "metadata.json" beside the pictures.
#ifndef STORYFARM_COORDINATOR_RPC_METADATA_H_
#define STORYFARM_COORDINATOR_RPC_METADATA_H_

#include <string>

#include "farm/v1/record.pb.h"

namespace storyfarm::coordinator {

// {"job", "title", "author", "state", "model": {"name", "digest"}, "submitted_unix_ms", "finished_unix_ms",
//  "settings": {the keys of a story's settings, all of them},
//  "characters": [{"name", "description"}],
//  "panels": [{"panel", "id", "chapter", "prompt" (complete, style applied), "caption", "characters": [names], "seed",
//              "width", "height", "state", "image" (its path among the outputs), "node", "device", "attempts",
//              "render_ms", "peak_bytes", "predicted_peak_bytes", "warnings": [...], "message" (why it failed)}],
//  "identities": [{"character", "state", "node", "device", "attempts"}],
//  "pages": [{"page", "chapter" or "book": true, "state", "node"}],
//  "warnings": [...]}
// `body` has the status with its tasks, hot or archived.
std::string MetadataJson(const farm::v1::JobArchive& body);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_METADATA_H_
