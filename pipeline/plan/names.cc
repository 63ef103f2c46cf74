#include "pipeline/plan/names.h"

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace storyfarm::plan {
namespace {

absl::string_view KindName(farm::v1::TaskKind kind) {
  switch (kind) {
    case farm::v1::TASK_IDENTITY:
      return "identity";
    case farm::v1::TASK_FRAME:
      return "frame";
    case farm::v1::TASK_PAGE:
      return "page";
    case farm::v1::TASK_TEXT:
      return "text";
    default:
      return "unknown";
  }
}

}  // namespace

std::string MemberKindName(farm::v1::MemberKind kind) {
  switch (kind) {
    case farm::v1::MEMBER_WORKER:
      return "worker";
    case farm::v1::MEMBER_USER:
      return "user";
    case farm::v1::MEMBER_COORDINATOR:
      return "coordinator";
    default:
      return "unknown";
  }
}

std::string RoleName(farm::v1::Role role) {
  switch (role) {
    case farm::v1::ROLE_VIEWER:
      return "viewer";
    case farm::v1::ROLE_SUBMITTER:
      return "submitter";
    case farm::v1::ROLE_ADMIN:
      return "admin";
    default:
      return "";
  }
}

std::string TaskName(const std::string& job_id, farm::v1::TaskKind kind, uint32_t number) {
  return absl::StrCat(job_id, "/", KindName(kind), "/", number);
}

std::string TaskName(const farm::v1::TaskId& task) { return TaskName(task.job_id(), task.kind(), task.number()); }

absl::StatusOr<farm::v1::TaskId> ParseTaskName(const std::string& name) {
  const std::vector<std::string> parts = absl::StrSplit(name, '/');
  farm::v1::TaskId task;
  uint32_t number = 0;
  if (parts.size() == 3 && !parts[0].empty() && absl::SimpleAtoi(parts[2], &number)) {
    for (const auto kind : {farm::v1::TASK_TEXT, farm::v1::TASK_IDENTITY, farm::v1::TASK_FRAME, farm::v1::TASK_PAGE}) {
      if (parts[1] == KindName(kind)) task.set_kind(kind);
    }
  }
  if (task.kind() == farm::v1::TASK_KIND_UNSPECIFIED) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", name, "' names no task: write JOB/frame/NUMBER, JOB/identity/NUMBER, JOB/page/NUMBER or JOB/text/NUMBER, as ",
                     "storyctl status JOB --tasks prints them"));
  }
  task.set_job_id(parts[0]);
  task.set_number(number);
  return task;
}

std::string TokenName(const farm::v1::FencingToken& token) {
  return absl::StrCat(absl::Hex(token.incarnation(), absl::kZeroPad16), "-", token.number());
}

std::string StateName(farm::v1::JobState state) {
  switch (state) {
    case farm::v1::JOB_QUEUED:
      return "queued";
    case farm::v1::JOB_RUNNING:
      return "running";
    case farm::v1::JOB_DONE:
      return "done";
    case farm::v1::JOB_FAILED:
      return "failed";
    case farm::v1::JOB_CANCELLED:
      return "cancelled";
    default:
      return "unknown";
  }
}

std::string StateName(farm::v1::TaskState state) {
  switch (state) {
    case farm::v1::TASK_BLOCKED:
      return "blocked";
    case farm::v1::TASK_READY:
      return "ready";
    case farm::v1::TASK_GRANTED:
      return "granted";
    case farm::v1::TASK_DONE:
      return "done";
    case farm::v1::TASK_FAILED:
      return "failed";
    case farm::v1::TASK_CANCELLED:
      return "cancelled";
    default:
      return "unknown";
  }
}

std::string BackendName(farm::v1::Backend backend) {
  switch (backend) {
    case farm::v1::CPU:
      return "cpu";
    case farm::v1::CUDA:
      return "cuda";
    case farm::v1::MPS:
      return "mps";
    default:
      return "unknown";
  }
}

std::string DeviceName(const farm::v1::DeviceReport& report) {
  if (report.backend() == farm::v1::CUDA) return absl::StrCat("cuda:", report.ordinal());
  return report.backend() == farm::v1::MPS ? "mps" : "cpu";
}

}  // namespace storyfarm::plan
