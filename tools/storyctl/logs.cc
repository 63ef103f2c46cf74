// logs: lines of the coordinator's log that concern a job, a task or a machine.
#include <chrono>
#include <ctime>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/plan/names.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"
#include "tools/storyctl/text_columns.h"

namespace storyfarm::storyctl {
namespace {

using Client = farm::v1::ClientService::StubInterface;

constexpr std::chrono::milliseconds kAskEvery{500};
constexpr uint32_t kMostLines = 1000;  // of one answer

// A job's id as the coordinator draws them: "j-" and 10 of [0-9a-z].
bool ReadsAsJob(const std::string& text) {
  return text.size() == 12 && absl::StartsWith(text, "j-") &&
         text.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyz", 2) == std::string::npos;
}

absl::StatusOr<farm::v1::ReadLogRequest> RequestFor(const std::string& what) {
  farm::v1::ReadLogRequest request;
  if (what.find('/') != std::string::npos) {
    const auto task = plan::ParseTaskName(what);
    if (!task.ok()) return task.status();
    *request.mutable_task() = *task;
  } else if (ReadsAsJob(what)) {
    request.set_job_id(what);
  } else {
    request.set_node(what);
  }
  return request;
}

std::string LocalTime(uint64_t unix_ms) {
  const std::time_t seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm local{};
  char text[32];
  if (localtime_r(&seconds, &local) == nullptr || std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local) == 0) {
    return "";
  }
  return absl::StrFormat("%s.%03d", text, static_cast<int>(unix_ms % 1000));
}

void PrintLine(const Context& context, const farm::v1::LogLine& line) {
  if (context.json) {
    context.console.out() << Print(ToJson(line), true) << "\n";
    return;
  }
  const Colour colour = line.level() == "error"     ? Colour::kRed
                        : line.level() == "warning" ? Colour::kYellow
                                                    : Colour::kPlain;
  std::string text = absl::StrCat(LocalTime(line.unix_ms()), "  ", context.console.Paint(colour, line.event()));
  for (const farm::v1::LogField& field : line.fields()) {
    // Sentences stand in quotes, so that it is plain where they end.
    const bool words = field.value().empty() || field.value().find(' ') != std::string::npos;
    absl::StrAppend(&text, "  ", field.name(), "=", words ? "\"" : "", Printable(field.value()), words ? "\"" : "");
  }
  context.console.out() << text << "\n";
}

// What comes from now on, until the farm refuses to go on.
absl::Status Follow(const Context& context, FarmClient& farm, farm::v1::ReadLogRequest request) {
  bool away = false;
  request.set_most(kMostLines);
  for (;;) {
    std::this_thread::sleep_for(kAskEvery);
    const auto response = farm.Call(&Client::ReadLog, request);
    if (absl::IsUnavailable(response.status()) || absl::IsDeadlineExceeded(response.status())) {
      if (!away) context.console.Note(std::string(response.status().message()));
      away = true;
      continue;
    }
    if (!response.ok()) return response.status();
    if (away) context.console.Note("the coordinator answers again");
    away = false;
    const bool same = response->incarnation() == request.incarnation();
    if (same && response->oldest() > request.after() + 1) {
      context.console.Note(absl::StrCat(response->oldest() - request.after() - 1, " lines came too fast to be kept"));
    }
    for (const farm::v1::LogLine& line : response->lines()) PrintLine(context, line);
    context.console.out() << std::flush;
    request.set_after(response->next());
    request.set_incarnation(response->incarnation());
  }
}

}  // namespace

Outcome Logs(const Context& context, const LogsOptions& options) {
  auto request = RequestFor(options.what);
  if (!request.ok()) return request.status();
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  request->set_most(options.lines);
  const auto response = farm.Call(&Client::ReadLog, *request);
  if (!response.ok()) return response.status();
  for (const farm::v1::LogLine& line : response->lines()) PrintLine(context, line);
  context.console.out() << std::flush;
  if (options.follow) {
    request->set_after(response->next());
    request->set_incarnation(response->incarnation());
    return Follow(context, farm, *request);
  }
  if (response->lines().empty()) context.console.Note("nothing of it is in the log that the coordinator keeps");
  return ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
