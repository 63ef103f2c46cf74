// Tasks, tokens, states and devices in words: the one spelling in logs, messages, command lines and JSON.
#ifndef STORYFARM_PIPELINE_PLAN_NAMES_H_
#define STORYFARM_PIPELINE_PLAN_NAMES_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "farm/v1/device.pb.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/record.pb.h"
#include "farm/v1/trust.pb.h"

namespace storyfarm::plan {

// "j-abc/frame/12", "j-abc/identity/0", "j-abc/page/3".
std::string TaskName(const std::string& job_id, farm::v1::TaskKind kind, uint32_t number);
std::string TaskName(const farm::v1::TaskId& task);
// The reverse. INVALID_ARGUMENT where it is no task's name.
absl::StatusOr<farm::v1::TaskId> ParseTaskName(const std::string& name);

// The incarnation in hex and the number in decimal: "9f3a5c0d11e2b487-41".
std::string TokenName(const farm::v1::FencingToken& token);

std::string StateName(farm::v1::JobState state);   // "queued", "running", "done", "failed", "cancelled"
std::string StateName(farm::v1::TaskState state);  // "blocked", "ready", "granted", "done", "failed", "cancelled"

std::string BackendName(farm::v1::Backend backend);  // "cpu", "cuda", "mps"

std::string MemberKindName(farm::v1::MemberKind kind);  // "worker", "user", "coordinator"
std::string RoleName(farm::v1::Role role);              // "viewer", "submitter", "admin"; empty: none

// How an engine is told of a device: "cpu", "mps", "cuda:1".
std::string DeviceName(const farm::v1::DeviceReport& report);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_NAMES_H_
