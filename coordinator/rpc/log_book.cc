#include "coordinator/rpc/log_book.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {
namespace {

const std::string* ValueOf(const farm::v1::LogLine& line, const char* name) {
  for (const farm::v1::LogField& field : line.fields()) {
    if (field.name() == name) return &field.value();
  }
  return nullptr;
}

// A grant's line names its first task, and the numbers of all.
bool Names(const farm::v1::LogLine& line, const farm::v1::TaskId& task) {
  const std::string* named = ValueOf(line, "task");
  if (named == nullptr) return false;
  const std::string name = plan::TaskName(task);
  if (*named == name) return true;
  const std::string* numbers = ValueOf(line, "tasks");
  const std::string kind = name.substr(0, name.rfind('/') + 1);
  if (numbers == nullptr || !absl::StartsWith(*named, kind)) return false;
  const std::vector<std::string> all = absl::StrSplit(*numbers, ',');
  return std::find(all.begin(), all.end(), absl::StrCat(task.number())) != all.end();
}

bool Concerns(const farm::v1::LogLine& line, const farm::v1::ReadLogRequest& request,
              const std::vector<std::string>& nodes) {
  if (!request.job_id().empty()) {
    const std::string* job = ValueOf(line, "job");
    if (job == nullptr || *job != request.job_id()) return false;
  }
  if (request.has_task() && !Names(line, request.task())) return false;
  if (nodes.empty()) return true;
  const std::string* node = ValueOf(line, "node");
  return node != nullptr && std::find(nodes.begin(), nodes.end(), *node) != nodes.end();
}

}  // namespace

void LogBook::Add(const base::LogLine& line) {
  farm::v1::LogLine kept;
  kept.set_unix_ms(line.unix_ms);
  kept.set_level(std::string(line.level));
  kept.set_event(std::string(line.event));
  for (const base::LogField& field : line.fields) {
    farm::v1::LogField& to = *kept.add_fields();
    to.set_name(std::string(field.name()));
    to.set_value(field.text());
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  kept.set_number(next_number_++);
  if (lines_.size() >= most_lines_) lines_.pop_front();
  lines_.push_back(std::move(kept));
}

farm::v1::ReadLogResponse LogBook::Read(const farm::v1::ReadLogRequest& request,
                                        const std::vector<std::string>& nodes) const {
  const uint32_t most = std::min(request.most() == 0 ? kLogPage : request.most(), kMostLogPage);
  const bool goes_on = request.after() > 0 && request.incarnation() == incarnation_;
  farm::v1::ReadLogResponse response;
  response.set_incarnation(incarnation_);
  const std::lock_guard<std::mutex> lock(mutex_);
  response.set_next(next_number_ - 1);
  response.set_oldest(next_number_ - lines_.size());
  if (goes_on) {
    const uint64_t first = std::max(request.after() + 1, response.oldest());
    for (size_t at = first - response.oldest(); at < lines_.size(); ++at) {
      if (!Concerns(lines_[at], request, nodes)) continue;
      *response.add_lines() = lines_[at];
      if (static_cast<uint32_t>(response.lines_size()) < most) continue;
      response.set_next(lines_[at].number());
      break;
    }
    return response;
  }
  for (auto line = lines_.rbegin(); line != lines_.rend(); ++line) {
    if (static_cast<uint32_t>(response.lines_size()) == most) break;
    if (Concerns(*line, request, nodes)) *response.add_lines() = *line;
  }
  std::reverse(response.mutable_lines()->begin(), response.mutable_lines()->end());
  return response;
}

}  // namespace storyfarm::coordinator
