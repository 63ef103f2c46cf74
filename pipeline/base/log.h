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
#include <initializer_list>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace storyfarm::base {

enum class LogFormat { kText, kJson };

// "text" or "json"; INVALID_ARGUMENT for anything else.
absl::StatusOr<LogFormat> ParseLogFormat(const std::string& name);

// One field: a name and a string or an integer.
class LogField {
 public:
  LogField(absl::string_view name, std::string value) : name_(name), text_(std::move(value)) {}
  LogField(absl::string_view name, const char* value) : name_(name), text_(value) {}
  template <typename Integer>
  requires std::is_integral_v<Integer> LogField(absl::string_view name, Integer value)
      : name_(name), text_(std::to_string(value)), number_(true) {}

  absl::string_view name() const { return name_; }
  const std::string& text() const { return text_; }
  bool number() const { return number_; }

 private:
  absl::string_view name_;
  std::string text_;
  bool number_ = false;
};

using LogFields = std::initializer_list<LogField>;

class Log {
 public:
  // `sink` takes one line at a time, without its end of line; `unix_ms` tells the time. Both outlive the log.
  Log(LogFormat format, std::function<void(absl::string_view)> sink, std::function<uint64_t()> unix_ms);

  // To stderr, by the system's clock.
  static Log ToStderr(LogFormat format);

  // `event` is a few words in lower case. Any thread; lines never mix.
  void Info(absl::string_view event, LogFields fields = {});
  void Warning(absl::string_view event, LogFields fields = {});
  void Error(absl::string_view event, LogFields fields = {});

 private:
  void Write(absl::string_view level, absl::string_view event, LogFields fields);

  const LogFormat format_;
  const std::function<void(absl::string_view)> sink_;
  const std::function<uint64_t()> unix_ms_;
  std::mutex mutex_;
};

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_LOG_H_
