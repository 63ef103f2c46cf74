// Typed access to a document's nodes. Every mismatch is one problem with its place; reading goes on.
#ifndef STORYFARM_PIPELINE_STORY_READER_H_
#define STORYFARM_PIPELINE_STORY_READER_H_

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/story/document.h"
#include "pipeline/story/draft.h"

namespace storyfarm::story {

// Whole numbers in [least, most]. Numbers in quotes are texts.
std::optional<uint64_t> ReadWhole(const Node& node, const std::string& field, uint64_t least, uint64_t most,
                                  ProblemList& problems);

// Finite numbers in [least, most], or (least, most] where `above_least`.
std::optional<double> ReadNumber(const Node& node, const std::string& field, double least, double most,
                                 ProblemList& problems, bool above_least = false);

// true false yes no on off, in any case, as in YAML 1.1.
std::optional<bool> ReadTruth(const Node& node, const std::string& field, ProblemList& problems);
// The same without a problem: nothing where the node is no truth value.
std::optional<bool> AsTruth(const Node& node);
// True where the node is an unquoted number without point and exponent.
bool IsWhole(const Node& node);
bool IsNumber(const Node& node);

// Any scalar as it is written, at most `max_characters`. Nothing, without a problem, for null.
std::optional<Text> ReadText(const Node& node, const std::string& field, size_t max_characters, ProblemList& problems);

// One of `names` (in any case); its position.
std::optional<size_t> ReadName(const Node& node, const std::string& field, const std::vector<std::string>& names,
                               ProblemList& problems);

// A map whose keys are known. Repeated keys are problems, and so, at the end, are keys that nobody asked for.
class MapReader {
 public:
  // A node that is no map is a problem, null is an empty map. `what` names it in the message: "the story".
  MapReader(const Node& node, std::string path, std::string_view what, ProblemList& problems);

  // The key's node, null where the map has none or a null.
  const Node* Get(std::string_view key);
  // The same, but null values are returned.
  const Node* GetWithNull(std::string_view key);
  bool is_map() const { return is_map_; }

  // "path.key"
  std::string Field(std::string_view key) const;

  // Reports the keys that were never asked for. `explain` may add to a key's message, it may return "".
  void RefuseUnknown(std::string (*explain)(std::string_view key) = nullptr);

 private:
  std::string path_;
  ProblemList& problems_;
  std::map<std::string, const Node*, std::less<>> entries_;
  std::map<std::string, Mark, std::less<>> key_marks_;
  std::vector<std::string> asked_;
  bool is_map_ = false;
};

}  // namespace storyfarm::story

#endif  // STORYFARM_PIPELINE_STORY_READER_H_
