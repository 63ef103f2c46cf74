#include "pipeline/model/json_reader.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace storyfarm::model {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// For messages; a long value is cut.
std::string Show(const nlohmann::json& value) {
  constexpr size_t kShown = 200;
  std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > kShown) text = text.substr(0, kShown) + "...";
  return text;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view file, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(View(file), " has ", text.size(), " bytes; at most ", max_bytes, " are read of such a file."));
  }
  std::string standard;
  standard.reserve(text.size());
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      standard.push_back(c);
      if (c == '\\' && i + 1 < text.size()) {
        standard.push_back(text[++i]);
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    in_string = c == '"';
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (depth > kMaxJsonDepth) {
      return absl::InvalidArgumentError(absl::StrCat(View(file), " nests deeper than ", kMaxJsonDepth, " levels."));
    }
    bool replaced = false;
    for (std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
      if (text.substr(i, word.size()) != word) continue;
      absl::StrAppend(&standard, "\"", View(word), "\"");
      i += word.size() - 1;
      replaced = true;
      break;
    }
    if (!replaced) standard.push_back(c);
  }
  nlohmann::json object = nlohmann::json::parse(standard, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(View(file), " is not a JSON object."));
  }
  return object;
}

const nlohmann::json* JsonReader::Find(const char* key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonReader::WrongType(const char* key, const nlohmann::json& value, const std::string& expected) {
  Invalid(key, absl::StrCat("is ", Show(value), "; it must be ", expected));
}

void JsonReader::Invalid(const char* key, const std::string& what) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(file_, ": ", key, " ", what, "."));
}

void JsonReader::Unsupported(const char* key, const nlohmann::json& value, const std::string& supported) {
  if (!status_.ok()) return;
  status_ = absl::UnimplementedError(
      absl::StrCat(file_, ": ", key, " is ", Show(value), ", which is not supported; supported: ", supported, "."));
}

std::optional<bool> JsonReader::Bool(const char* key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  WrongType(key, *value, "true or false");
  return std::nullopt;
}

std::optional<int64_t> JsonReader::CheckedInt(const char* key, const nlohmann::json& value, int64_t minimum,
                                              int64_t maximum) {
  std::optional<int64_t> number;
  if (value.is_number_unsigned()) {
    const uint64_t natural = value.get<uint64_t>();
    if (natural <= static_cast<uint64_t>(INT64_MAX)) number = static_cast<int64_t>(natural);
  } else if (value.is_number_integer()) {
    number = value.get<int64_t>();
  }
  if (number.has_value() && *number >= minimum && *number <= maximum) return number;
  WrongType(key, value, absl::StrCat("a whole number from ", minimum, " to ", maximum));
  return std::nullopt;
}

std::optional<int64_t> JsonReader::Int(const char* key, int64_t minimum, int64_t maximum) {
  const nlohmann::json* value = Find(key);
  return value == nullptr ? std::nullopt : CheckedInt(key, *value, minimum, maximum);
}

std::optional<double> JsonReader::Number(const char* key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number() && std::isfinite(value->get<double>())) return value->get<double>();
  WrongType(key, *value, "a number");
  return std::nullopt;
}

std::optional<std::string> JsonReader::String(const char* key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  WrongType(key, *value, "a string");
  return std::nullopt;
}

std::optional<std::vector<int64_t>> JsonReader::Ints(const char* key, int64_t minimum, int64_t maximum) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) {
    WrongType(key, *value, "a list of whole numbers");
    return std::nullopt;
  }
  std::vector<int64_t> numbers;
  for (const nlohmann::json& item : *value) {
    const std::optional<int64_t> number = CheckedInt(key, item, minimum, maximum);
    if (!number.has_value()) return std::nullopt;
    numbers.push_back(*number);
  }
  return numbers;
}

std::optional<std::vector<int64_t>> JsonReader::IntOrInts(const char* key, size_t count, int64_t minimum,
                                                          int64_t maximum) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) {
    const std::optional<int64_t> one = CheckedInt(key, *value, minimum, maximum);
    if (!one.has_value()) return std::nullopt;
    return std::vector<int64_t>(count, *one);
  }
  std::optional<std::vector<int64_t>> numbers = Ints(key, minimum, maximum);
  if (numbers.has_value() && numbers->size() != count) {
    Invalid(key, absl::StrCat("has ", numbers->size(), " entries, and there are ", count, " blocks"));
    return std::nullopt;
  }
  return numbers;
}

std::optional<std::vector<double>> JsonReader::Numbers(const char* key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  std::vector<double> numbers;
  bool valid = value->is_array();
  for (size_t i = 0; valid && i < value->size(); ++i) {
    valid = (*value)[i].is_number() && std::isfinite((*value)[i].get<double>());
    if (valid) numbers.push_back((*value)[i].get<double>());
  }
  if (valid) return numbers;
  WrongType(key, *value, "a list of numbers");
  return std::nullopt;
}

std::optional<std::vector<std::string>> JsonReader::Strings(const char* key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  std::vector<std::string> strings;
  bool valid = value->is_array();
  for (size_t i = 0; valid && i < value->size(); ++i) {
    valid = (*value)[i].is_string();
    if (valid) strings.push_back((*value)[i].get<std::string>());
  }
  if (valid) return strings;
  WrongType(key, *value, "a list of strings");
  return std::nullopt;
}

void JsonReader::Require(const char* key, std::initializer_list<nlohmann::json> supported) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return;
  std::string list;
  for (const nlohmann::json& allowed : supported) {
    if (*value == allowed) return;
    absl::StrAppend(&list, list.empty() ? "" : " or ", Show(allowed));
  }
  Unsupported(key, *value, list.empty() ? "null" : list);
}

}  // namespace storyfarm::model
