// Messages to the renderer's plain structs and back. Everything that the renderer relies on is checked here: a request
// comes from another process.
#ifndef STORYFARM_WORKER_ENGINE_CONVERT_H_
#define STORYFARM_WORKER_ENGINE_CONVERT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/device.pb.h"
#include "farm/v1/engine.pb.h"
#include "farm/v1/work.pb.h"
#include "pipeline/render/request.h"

namespace storyfarm::engine {

// Where each blob of a run lies: digest bytes -> path.
using FilesByDigest = std::map<std::string, std::string>;
// INVALID_ARGUMENT: two paths for one digest, or a digest that is not 32 bytes.
absl::StatusOr<FilesByDigest> IndexFiles(const farm::v1::RunRequest& run);
// NOT_FOUND (kind BLOB_UNAVAILABLE) names what is missing.
absl::StatusOr<std::string> FindFile(const FilesByDigest& files, const farm::v1::BlobRef& blob,
                                     const std::string& what);

// INVALID_ARGUMENT names the field that is unset or out of range.
absl::StatusOr<render::IdentityRequest> ToIdentityRequest(const farm::v1::RunRequest& run, const FilesByDigest& files);
// `growing` tells where a step of a bank that is still computed lies, and may wait for it; null where there is none.
using GrowingStep = std::function<absl::StatusOr<std::string>(uint32_t character, uint32_t step)>;
absl::StatusOr<render::FramesRequest> ToFramesRequest(const farm::v1::RunRequest& run, const FilesByDigest& files,
                                                      const GrowingStep& growing = nullptr);
absl::StatusOr<render::TextRequest> ToTextRequest(const farm::v1::RunRequest& run);

farm::v1::DeviceReport ToMessage(const device::Report& report, uint32_t index);
farm::v1::DeviceMemory ToMessage(const device::Memory& memory);
farm::v1::Failure ToMessage(const absl::Status& why);

}  // namespace storyfarm::engine

#endif  // STORYFARM_WORKER_ENGINE_CONVERT_H_
