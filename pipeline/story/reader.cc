#include "pipeline/story/reader.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/story/words.h"

namespace storyfarm::story {
namespace {

// What stands there, as an author would say: "the text 'fast'", "a list".
std::string Found(const Node& node) {
  if (node.kind != Node::Kind::kScalar) return Describe(node);
  return (node.plain ? "" : "the text ") + Quote(node.text);
}

std::string Lower(std::string text) {
  absl::AsciiStrToLower(&text);
  return text;
}

}  // namespace

bool IsWhole(const Node& node) {
  return node.kind == Node::Kind::kScalar && node.plain && !node.text.empty() && node.text.size() <= 20 &&
         node.text.find_first_not_of("0123456789") == std::string::npos;
}

bool IsNumber(const Node& node) {
  double value = 0;
  return node.kind == Node::Kind::kScalar && node.plain &&
         node.text.find_first_not_of("0123456789+-.eE") == std::string::npos &&
         absl::SimpleAtod(absl::string_view(node.text.data(), node.text.size()), &value) && std::isfinite(value);
}

std::optional<uint64_t> ReadWhole(const Node& node, const std::string& field, uint64_t least, uint64_t most,
                                  ProblemList& problems) {
  uint64_t value = 0;
  const bool whole = IsWhole(node) && absl::SimpleAtoi(absl::string_view(node.text.data(), node.text.size()), &value);
  if (whole && value >= least && value <= most) return value;
  std::string message = absl::StrCat("must be a whole number from ", least, " to ", most, ", not ", Found(node));
  if (node.kind == Node::Kind::kScalar && !node.plain) message += "; leave the quotes out";
  problems.Error(node.mark, field, message);
  return std::nullopt;
}

std::optional<double> ReadNumber(const Node& node, const std::string& field, double least, double most,
                                 ProblemList& problems, bool above_least) {
  double value = 0;
  const bool number = IsNumber(node) && absl::SimpleAtod(absl::string_view(node.text.data(), node.text.size()), &value);
  if (number && value <= most && (above_least ? value > least : value >= least)) return value;
  std::string message = absl::StrCat("must be a number ", above_least ? "above " : "from ", least,
                                     above_least ? " and at most " : " to ", most, ", not ", Found(node));
  if (node.kind == Node::Kind::kScalar && !node.plain) message += "; leave the quotes out";
  problems.Error(node.mark, field, message);
  return std::nullopt;
}

std::optional<bool> AsTruth(const Node& node) {
  if (node.kind != Node::Kind::kScalar || !node.plain) return std::nullopt;
  const std::string lower = Lower(node.text);
  if (lower == "on" || lower == "true" || lower == "yes") return true;
  if (lower == "off" || lower == "false" || lower == "no") return false;
  return std::nullopt;
}

std::optional<bool> ReadTruth(const Node& node, const std::string& field, ProblemList& problems) {
  if (const std::optional<bool> truth = AsTruth(node)) return truth;
  // In JSON on and off can only stand in quotes.
  if (node.kind == Node::Kind::kScalar && !node.plain) {
    Node unquoted = node;
    unquoted.plain = true;
    if (const std::optional<bool> truth = AsTruth(unquoted)) return truth;
  }
  problems.Error(node.mark, field, "must be on or off, not " + Found(node));
  return std::nullopt;
}

std::optional<Text> ReadText(const Node& node, const std::string& field, size_t max_characters, ProblemList& problems) {
  if (node.kind == Node::Kind::kNull) return std::nullopt;
  if (node.kind != Node::Kind::kScalar) {
    std::string message = std::string("must be a text, not ") + Describe(node);
    if (node.kind == Node::Kind::kSequence) message += "; a text that starts with '[' must stand in quotes";
    problems.Error(node.mark, field, message);
    return std::nullopt;
  }
  const size_t characters = CountCharacters(node.text);
  if (characters > max_characters) {
    problems.Error(node.mark, field,
                   absl::StrCat("has ", characters, " characters; at most ", max_characters, " are allowed"));
    return std::nullopt;
  }
  return Text{node.text, node.mark, field};
}

std::optional<size_t> ReadName(const Node& node, const std::string& field, const std::vector<std::string>& names,
                               ProblemList& problems) {
  if (node.kind == Node::Kind::kScalar) {
    const auto found = std::find(names.begin(), names.end(), Lower(node.text));
    if (found != names.end()) return static_cast<size_t>(found - names.begin());
  }
  problems.Error(node.mark, field,
                 "must be one of " + absl::StrJoin(names, ", ") + ", not " + Found(node) +
                     (node.kind == Node::Kind::kScalar ? DidYouMean(node.text, names) : ""));
  return std::nullopt;
}

MapReader::MapReader(const Node& node, std::string path, std::string_view what, ProblemList& problems)
    : path_(std::move(path)), problems_(problems) {
  if (node.kind == Node::Kind::kNull) return;
  if (node.kind != Node::Kind::kMap) {
    problems_.Error(node.mark, path_,
                    std::string(what) + " must be a map of keys and values (key: value), not " + Found(node));
    return;
  }
  is_map_ = true;
  for (const auto& [key, value] : node.entries) {
    if (key->kind != Node::Kind::kScalar) {
      problems_.Error(key->mark, path_, std::string("a key must be a word, not ") + Describe(*key));
      continue;
    }
    const auto [entry, added] = entries_.emplace(key->text, value);
    if (!added) {
      problems_.Error(key->mark, Field(key->text),
                      absl::StrCat("is given twice; it also stands in line ", key_marks_[key->text].line));
      continue;
    }
    key_marks_[key->text] = key->mark;
  }
}

const Node* MapReader::GetWithNull(std::string_view key) {
  asked_.emplace_back(key);
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : found->second;
}

const Node* MapReader::Get(std::string_view key) {
  const Node* node = GetWithNull(key);
  return node == nullptr || node->kind == Node::Kind::kNull ? nullptr : node;
}

std::string MapReader::Field(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

void MapReader::RefuseUnknown(std::string (*explain)(std::string_view key)) {
  for (const auto& [key, mark] : key_marks_) {
    if (std::find(asked_.begin(), asked_.end(), key) != asked_.end()) continue;
    std::string hint = explain == nullptr ? "" : explain(key);
    if (hint.empty()) hint = DidYouMean(key, asked_);
    if (hint.empty()) hint = "; known are " + absl::StrJoin(asked_, ", ");
    problems_.Error(mark, Field(Quote(key).size() > key.size() + 2 ? "..." : key),
                    "is no key that is known here" + hint);
  }
}

}  // namespace storyfarm::story
