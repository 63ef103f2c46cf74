#include <cstdio>
#include <map>

#include "pipeline/story/reader.h"
#include "pipeline/story/settings_reader.h"

namespace storyfarm::story {
namespace {

std::string JsonString(std::string_view text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      json += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned char>(c));
      json += escape;
    } else {
      json.push_back(c);
    }
  }
  return json + "\"";
}

// The grammar of RFC 8259, section 6: no plus sign, no leading zeros, digits on both sides of a point.
bool IsJsonNumber(std::string_view text) {
  size_t i = 0;
  auto digits = [&] {
    const size_t first = i;
    while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
    return i - first;
  };
  if (i < text.size() && text[i] == '-') ++i;
  const bool zero = i < text.size() && text[i] == '0';
  const size_t whole = digits();
  if (whole == 0 || (zero && whole > 1)) return false;
  if (i < text.size() && text[i] == '.') {
    ++i;
    if (digits() == 0) return false;
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (digits() == 0) return false;
  }
  return i == text.size();
}

std::string ScalarToJson(const Node& node, const std::string& field, ProblemList& problems) {
  if (!node.plain) return JsonString(node.text);
  if (const std::optional<bool> truth = AsTruth(node)) return *truth ? "true" : "false";
  if (IsJsonNumber(node.text)) return node.text;
  if (IsNumber(node)) {
    problems.Error(node.mark, field, "write the number with digits on both sides of the point and nothing before them");
  }
  return JsonString(node.text);
}

}  // namespace

std::string NodeToJson(const Node& node, const std::string& field, ProblemList& problems) {
  std::string json;
  switch (node.kind) {
    case Node::Kind::kNull:
      return "null";
    case Node::Kind::kScalar:
      return ScalarToJson(node, field, problems);
    case Node::Kind::kSequence:
      for (size_t i = 0; i < node.items.size(); ++i) {
        json += json.empty() ? "" : ",";
        json += NodeToJson(*node.items[i], field + "[" + std::to_string(i) + "]", problems);
      }
      return "[" + json + "]";
    case Node::Kind::kMap:
      break;
  }
  std::map<std::string, std::string> entries;
  for (const auto& [key, value] : node.entries) {
    if (key->kind != Node::Kind::kScalar) {
      problems.Error(key->mark, field, std::string("a key must be a word, not ") + Describe(*key));
    } else if (entries.contains(key->text)) {
      problems.Error(key->mark, field + "." + key->text, "is given twice");
    } else {
      entries[key->text] = NodeToJson(*value, field + "." + key->text, problems);
    }
  }
  for (const auto& [key, value] : entries) json += (json.empty() ? "" : ",") + JsonString(key) + ":" + value;
  return "{" + json + "}";
}

}  // namespace storyfarm::story
