// Reads one JSON object key by key and keeps the first thing that is wrong with it. Internal to this folder.
#ifndef STORYFARM_PIPELINE_MODEL_JSON_READER_H_
#define STORYFARM_PIPELINE_MODEL_JSON_READER_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace storyfarm::model {

inline constexpr size_t kMaxConfigBytes = size_t{1} << 20;  // config files have 1 to 5 KB
inline constexpr int kMaxJsonDepth = 32;                    // they nest 3 deep

// A JSON object. Python's NaN, Infinity and -Infinity, which diffusers writes, become the strings of these names.
// INVALID_ARGUMENT names the file.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view file,
                                               size_t max_bytes = kMaxConfigBytes);

class JsonReader {
 public:
  JsonReader(const nlohmann::json& object, std::string_view file) : object_(object), file_(file) {}

  // Null where the key is absent or its value is null.
  const nlohmann::json* Find(const char* key) const;

  // Each of these answers nullopt where the key is absent, null or of the wrong type (an error), or out of range (one,
  // too).
  std::optional<bool> Bool(const char* key);
  std::optional<int64_t> Int(const char* key, int64_t minimum, int64_t maximum);
  std::optional<double> Number(const char* key);  // finite
  std::optional<std::string> String(const char* key);
  std::optional<std::vector<int64_t>> Ints(const char* key, int64_t minimum, int64_t maximum);
  std::optional<std::vector<double>> Numbers(const char* key);
  std::optional<std::vector<std::string>> Strings(const char* key);
  // A list of `count` numbers, or one that stands for all.
  std::optional<std::vector<int64_t>> IntOrInts(const char* key, size_t count, int64_t minimum, int64_t maximum);

  // An error unless the value is absent, null, or one of these.
  void Require(const char* key, std::initializer_list<nlohmann::json> supported);
  // Records an error: UNIMPLEMENTED with the value and what is supported, or INVALID_ARGUMENT.
  void Unsupported(const char* key, const nlohmann::json& value, const std::string& supported);
  void Invalid(const char* key, const std::string& what);

  const absl::Status& status() const { return status_; }
  bool ok() const { return status_.ok(); }

 private:
  void WrongType(const char* key, const nlohmann::json& value, const std::string& expected);
  std::optional<int64_t> CheckedInt(const char* key, const nlohmann::json& value, int64_t minimum, int64_t maximum);

  const nlohmann::json& object_;
  const std::string file_;
  absl::Status status_;
};

}  // namespace storyfarm::model

#endif  // STORYFARM_PIPELINE_MODEL_JSON_READER_H_
