// What a program tells the person who runs it: one line an event on stderr, as text or as JSON. Every line carries the
// fields it was given (job, task, token, ...), so that one can follow a frame through a farm's logs.
//
//   log.Info("granted", {{"task", "j-abc/frame/12"}, {"token", "9f3a-41"}, {"device", 0}});
//   2026-11-22T18:03:11.402Z I granted task=j-abc/frame/12 token=9f3a-41 device=0
//   {"time":"2026-11-22T18:03:11.402Z","level":"info","event":"granted","task":"j-abc/frame/12", ...}
#ifndef STORYFARM_PIPELINE_BASE_LOG_H_
#define STORYFARM_PIPELINE_BASE_LOG_H_

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace storyfarm::base {

enum class LogFormat { kText, kJson };

// "text" or "json"; INVALID_ARGUMENT for anything else.
absl::StatusOr<LogFormat> ParseLogFormat(const std::string& name);

// One field: a name and a string or an integer.
class LogField {
 public:
  LogField(std::string_view name, std::string value) : name_(name), text_(std::move(value)) {}
  LogField(std::string_view name, const char* value) : name_(name), text_(value) {}
  template <typename Integer>
  requires std::is_integral_v<Integer> LogField(std::string_view name, Integer value)
      : name_(name), text_(std::to_string(value)), number_(true) {}

  std::string_view name() const { return name_; }
  const std::string& text() const { return text_; }
  bool number() const { return number_; }

 private:
  std::string_view name_;
  std::string text_;
  bool number_ = false;
};

// Not every field is known where the line is written: a vector, too.
using LogFields = std::vector<LogField>;

// A line before it is written; what it refers to lives for the call.
struct LogLine {
  uint64_t unix_ms = 0;
  std::string_view level;  // "info", "warning" or "error"
  std::string_view event;
  const LogFields& fields;
};

class Log {
 public:
  // `sink` takes one line at a time, without its end of line; `unix_ms` tells the time; `listener` (may be empty) is
  // told of each line, too, in the same order. All outlive the log.
  Log(LogFormat format, std::function<void(std::string_view)> sink, std::function<uint64_t()> unix_ms,
      std::function<void(const LogLine&)> listener = {});

  // To stderr, by the system's clock.
  static Log ToStderr(LogFormat format, std::function<void(const LogLine&)> listener = {});

  // `event` is a few words in lower case. Any thread; lines never mix.
  void Info(std::string_view event, const LogFields& fields = {});
  void Warning(std::string_view event, const LogFields& fields = {});
  void Error(std::string_view event, const LogFields& fields = {});

 private:
  void Write(std::string_view level, std::string_view event, const LogFields& fields);

  const LogFormat format_;
  const std::function<void(std::string_view)> sink_;
  const std::function<uint64_t()> unix_ms_;
  const std::function<void(const LogLine&)> listener_;
  std::mutex mutex_;
};

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_LOG_H_
