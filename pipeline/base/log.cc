#include "pipeline/base/log.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace storyfarm::base {
namespace {

std::string Timestamp(uint64_t unix_ms) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromUnixMillis(static_cast<int64_t>(unix_ms)),
                          absl::UTCTimeZone());
}

// JSON in which bytes that are no UTF-8 are replaced: a log line must not fail for what a peer sent.
std::string Quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool Plain(const std::string& text) {
  if (text.empty()) return false;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= ' ' || byte == 0x7f || c == '"' || c == '=' || c == '\\') return false;
  }
  return true;
}

// One write a line, so that lines of several processes on one terminal do not mix.
void WriteToStderr(absl::string_view line) {
  const std::string whole = absl::StrCat(line, "\n");
  size_t done = 0;
  while (done < whole.size()) {
    const ssize_t written = ::write(STDERR_FILENO, whole.data() + done, whole.size() - done);
    if (written <= 0) return;  // nobody listens; there is no other place to say it
    done += static_cast<size_t>(written);
  }
}

uint64_t SystemUnixMs() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

}  // namespace

absl::StatusOr<LogFormat> ParseLogFormat(const std::string& name) {
  if (name == "text") return LogFormat::kText;
  if (name == "json") return LogFormat::kJson;
  return absl::InvalidArgumentError(
      absl::StrCat("The log format \"", name, "\" is unknown; use \"text\" or \"json\"."));
}

Log::Log(LogFormat format, std::function<void(std::string_view)> sink, std::function<uint64_t()> unix_ms,
         std::function<void(const LogLine&)> listener)
    : format_(format), sink_(std::move(sink)), unix_ms_(std::move(unix_ms)), listener_(std::move(listener)) {}

Log Log::ToStderr(LogFormat format, std::function<void(const LogLine&)> listener) {
  return Log(
      format, [](std::string_view line) { WriteToStderr(absl::string_view(line.data(), line.size())); }, SystemUnixMs,
      std::move(listener));
}

void Log::Info(std::string_view event, const LogFields& fields) { Write("info", event, fields); }
void Log::Warning(std::string_view event, const LogFields& fields) { Write("warning", event, fields); }
void Log::Error(std::string_view event, const LogFields& fields) { Write("error", event, fields); }

void Log::Write(std::string_view level, std::string_view event, const LogFields& fields) {
  std::string line;
  const uint64_t now_unix_ms = unix_ms_();
  const std::string time = Timestamp(now_unix_ms);
  if (format_ == LogFormat::kJson) {
    line = absl::StrCat("{\"time\":\"", time, "\",\"level\":\"", std::string(level),
                        "\",\"event\":", Quoted(std::string(event)));
    for (const LogField& field : fields) {
      absl::StrAppend(&line, ",", Quoted(std::string(field.name())), ":",
                      field.number() ? field.text() : Quoted(field.text()));
    }
    line += '}';
  } else {
    const char letter = level == "info" ? 'I' : level == "warning" ? 'W' : 'E';
    line = absl::StrCat(time, " ", std::string(1, letter), " ", std::string(event));
    for (const LogField& field : fields) {
      absl::StrAppend(&line, " ", std::string(field.name()), "=",
                      field.number() || Plain(field.text()) ? field.text() : Quoted(field.text()));
    }
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  sink_(line);
  if (listener_) listener_({now_unix_ms, level, event, fields});
}

}  // namespace storyfarm::base
