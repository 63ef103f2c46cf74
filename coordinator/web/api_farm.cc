// The requests that are about the farm: ClientService's calls as HTTP.
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "coordinator/web/api.h"
#include "coordinator/web/proto_json.h"
#include "pipeline/base/digest.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {
namespace {

// How soon a stream notices that its page was closed or its session ended.
constexpr int64_t kStreamWaitMs = 1'000;
// Proxies and browsers take a silent stream for a dead one after about a minute.
constexpr int64_t kStreamSignMs = 15'000;
// Of one task's history: each attempt leaves two.
constexpr uint32_t kLogLines = 50;

template <typename Message>
void Answer(const absl::StatusOr<Message>& message, httplib::Response& response) {
  if (!message.ok()) return AnswerError(message.status(), response);
  AnswerJson(ToJson(*message), response);
}

// What the bytes are, by how they begin; null: nothing that the page shows or gives away.
const char* TypeOf(absl::string_view bytes) {
  if (absl::StartsWith(bytes, "\x89PNG\r\n\x1a\n")) return "image/png";
  if (absl::StartsWith(bytes, "%PDF-")) return "application/pdf";
  if (absl::StartsWith(bytes, "PK\x03\x04")) return "application/vnd.comicbook+zip";
  return nullptr;
}

// A name for a file that is saved: what any system takes.
std::string SafeName(const std::string& name) {
  std::string safe;
  for (const char c : name.substr(0, 100)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
    safe.push_back(plain ? c : '_');
  }
  return safe;
}

// The field of a request's JSON body, or the default where there is none.
template <typename Value>
Value FieldOf(const httplib::Request& request, const char* name, Value standard) {
  const auto body = nlohmann::json::parse(request.body, nullptr, /*allow_exceptions=*/false);
  if (!body.is_object() || !body.contains(name)) return standard;
  const nlohmann::json& field = body[name];
  if constexpr (std::is_same_v<Value, bool>) {
    return field.is_boolean() ? field.get<bool>() : standard;
  } else {
    return field.is_number_unsigned() ? field.get<Value>() : standard;
  }
}

// Of a path with JOB/KIND/NUMBER.
absl::StatusOr<farm::v1::TaskId> TaskOf(const Call& call) {
  return plan::ParseTaskName(absl::StrCat(call.names[0], "/", call.names[1], "/", call.names[2]));
}

}  // namespace

void Api::Told(const Call& call, const char* event) {
  parts_.log->Info(event, {{absl::StartsWith(call.request.path, "/api/nodes/") ? "node" : "job", call.names[0]},
                           {"by", "web page"}});
}

void Api::Events(const Call& call) {
  absl::StatusOr<std::unique_ptr<OpenPage>> opened = parts_.follower->Open(call.request.get_param_value("job"));
  if (!opened.ok()) return AnswerError(opened.status(), call.response);
  struct Stream {
    std::unique_ptr<OpenPage> page;
    int64_t last_ms = 0;
  };
  const auto stream = std::make_shared<Stream>(Stream{*std::move(opened)});
  call.response.set_header("X-Accel-Buffering", "no");
  call.response.set_chunked_content_provider(
      "text/event-stream", [this, stream, token = call.token](size_t offset, httplib::DataSink& sink) {
        std::optional<std::string> events = stream->page->Next(kStreamWaitMs);
        if (!events.has_value() || !parts_.sessions->Find(token).has_value()) {
          sink.done();
          return true;
        }
        const int64_t now_ms = parts_.env->MonotonicMs();
        if (offset == 0) *events = absl::StrCat("retry: 2000\n\n", *events);
        if (events->empty() && now_ms - stream->last_ms < kStreamSignMs) return sink.is_writable();
        if (events->empty()) *events = ": still here\n\n";
        stream->last_ms = now_ms;
        return sink.write(events->data(), events->size());
      });
}

void Api::ListJobs(const Call& call) {
  farm::v1::ListJobsRequest request;
  request.set_page_size(kJobsShown);
  request.set_page_token(call.request.get_param_value("page_token"));
  Answer(parts_.door->ListJobs(request), call.response);
}

void Api::GetJob(const Call& call) {
  farm::v1::GetJobRequest request;
  request.set_job_id(call.names[0]);
  request.set_with_tasks(true);
  Answer(parts_.door->GetJob(request), call.response);
}

void Api::Outputs(const Call& call) {
  farm::v1::ListOutputsRequest request;
  request.set_job_id(call.names[0]);
  Answer(parts_.door->ListOutputs(request), call.response);
}

void Api::Explain(const Call& call) {
  const auto task = TaskOf(call);
  if (!task.ok()) return AnswerError(task.status(), call.response);
  farm::v1::ExplainTaskRequest request;
  *request.mutable_task() = *task;
  Answer(parts_.door->ExplainTask(request), call.response);
}

void Api::Memory(const Call& call) { AnswerJson(parts_.history->Json(call.names[0]), call.response); }

void Api::Blob(const Call& call) {
  const auto digest = base::Digest::FromHex(call.names[0]);
  if (!digest.ok()) return AnswerError(digest.status(), call.response);
  absl::StatusOr<std::unique_ptr<BlobStream>> opened = parts_.door->ReadBlob(digest->Bytes());
  if (!opened.ok()) return AnswerError(opened.status(), call.response);
  const std::shared_ptr<BlobStream> blob = *std::move(opened);
  absl::StatusOr<std::string> first = blob->Next();
  if (!first.ok()) return AnswerError(first.status(), call.response);
  const char* type = TypeOf(*first);
  if (type == nullptr) {
    return AnswerError(absl::NotFoundError("That is no picture, page or book; storyctl fetch brings other files."),
                       call.response);
  }
  // Named by its content, it never changes.
  call.response.set_header("Cache-Control", "private, max-age=31536000, immutable");
  if (const std::string name = call.request.get_param_value("save"); !name.empty()) {
    call.response.set_header("Content-Disposition", absl::StrCat("attachment; filename=\"", SafeName(name), "\""));
  }
  const auto piece = std::make_shared<std::string>(*std::move(first));
  call.response.set_chunked_content_provider(type, [blob, piece](size_t, httplib::DataSink& sink) {
    if (piece->empty()) {
      sink.done();
      return true;
    }
    if (!sink.write(piece->data(), piece->size())) return false;
    absl::StatusOr<std::string> next = blob->Next();
    if (!next.ok()) return false;  // the browser sees that the answer was cut off
    *piece = *std::move(next);
    return true;
  });
}

void Api::Pause(const Call& call) {
  farm::v1::ChangeJobRequest request;
  request.set_job_id(call.names[0]);
  request.set_paused(true);
  const auto status = parts_.door->ChangeJob(request);
  if (status.ok()) Told(call, "job paused");
  Answer(status, call.response);
}

void Api::Resume(const Call& call) {
  farm::v1::ChangeJobRequest request;
  request.set_job_id(call.names[0]);
  request.set_paused(false);
  const auto status = parts_.door->ChangeJob(request);
  if (status.ok()) Told(call, "job resumed");
  Answer(status, call.response);
}

void Api::Priority(const Call& call) {
  farm::v1::ChangeJobRequest request;
  request.set_job_id(call.names[0]);
  const uint32_t priority = FieldOf<uint32_t>(call.request, "priority", 0);
  if (priority == 0) {
    return AnswerError(absl::InvalidArgumentError("Say {\"priority\": N} with a whole number from 1 to 100."),
                       call.response);
  }
  request.set_priority(priority);
  const auto status = parts_.door->ChangeJob(request);
  if (status.ok()) Told(call, "job moved in the queue");
  Answer(status, call.response);
}

void Api::Cancel(const Call& call) {
  farm::v1::CancelJobRequest request;
  request.set_job_id(call.names[0]);
  const auto status = parts_.door->CancelJob(request);
  if (status.ok()) Told(call, "job cancel asked for");
  Answer(status, call.response);
}

void Api::Retry(const Call& call) {
  farm::v1::RetryJobRequest request;
  request.set_job_id(call.names[0]);
  const auto status = parts_.door->RetryJob(request);
  if (status.ok()) Told(call, "failed tasks asked for once more");
  Answer(status, call.response);
}

void Api::RetryTask(const Call& call) {
  const auto task = TaskOf(call);
  if (!task.ok()) return AnswerError(task.status(), call.response);
  farm::v1::RetryJobRequest request;
  request.set_job_id(call.names[0]);
  *request.mutable_task() = *task;
  const auto status = parts_.door->RetryJob(request);
  if (status.ok()) Told(call, "a failed task asked for once more");
  Answer(status, call.response);
}

void Api::Log(const Call& call) {
  const auto task = TaskOf(call);
  if (!task.ok()) return AnswerError(task.status(), call.response);
  farm::v1::ReadLogRequest request;
  request.set_job_id(call.names[0]);
  *request.mutable_task() = *task;
  request.set_most(kLogLines);
  Answer(parts_.door->ReadLog(request), call.response);
}

void Api::Remove(const Call& call) {
  farm::v1::RemoveJobRequest request;
  request.set_job_id(call.names[0]);
  const auto removed = parts_.door->RemoveJob(request);
  if (removed.ok()) Told(call, "job removal asked for");
  Answer(removed, call.response);
}

void Api::Drain(const Call& call) {
  farm::v1::DrainNodeRequest request;
  request.set_node(call.names[0]);
  request.set_drained(true);
  request.set_at_once(FieldOf<bool>(call.request, "at_once", false));
  const auto node = parts_.door->DrainNode(request);
  if (node.ok()) Told(call, "machine taken out of the farm");
  Answer(node, call.response);
}

void Api::Undrain(const Call& call) {
  farm::v1::DrainNodeRequest request;
  request.set_node(call.names[0]);
  const auto node = parts_.door->DrainNode(request);
  if (node.ok()) Told(call, "machine given back to the farm");
  Answer(node, call.response);
}

}  // namespace storyfarm::coordinator
