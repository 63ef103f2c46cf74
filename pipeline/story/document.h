// YAML (and JSON, which is YAML) as a bounded tree that knows its places. yaml-cpp's own tree drops duplicate keys'
// places and expands aliases where they are read; this one is built from its events and counts first.
#ifndef STORYFARM_PIPELINE_STORY_DOCUMENT_H_
#define STORYFARM_PIPELINE_STORY_DOCUMENT_H_

#include <cstddef>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/story/source.h"

namespace storyfarm::story {

// Bounds that a document meets before anything is made of it.
inline constexpr size_t kMaxDocumentNodes =
    400'000;                                     // aliases counted as what they stand for; 20,000 panels need 260,000
inline constexpr size_t kMaxDocumentDepth = 32;  // a story has 5 levels
inline constexpr size_t kMaxDocumentAliases = 200;

struct Node {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  Mark mark;
  bool plain = false;              // a scalar without quotes, which may be a number or a truth value
  std::string text;                // of a scalar
  std::vector<const Node*> items;  // of a sequence
  std::vector<std::pair<const Node*, const Node*>> entries;  // of a map, as written: keys may repeat
  size_t expanded_nodes = 1;                                 // this node and everything below it
};

// "a map", "a list", "a text", "nothing": what a node is, for messages.
const char* Describe(const Node& node);

class Document {
 public:
  Document() = default;
  Document(const Document&) = delete;
  Document& operator=(const Document&) = delete;

  // Parses the source's only document. False, with a problem, where it is no YAML or over the bounds; an empty source
  // is a null root. `json`: pairs of \u surrogates, which YAML does not know, stand for one character.
  bool Parse(const Source& source, bool json, ProblemList& problems);

  const Node& root() const { return *root_; }

 private:
  friend class DocumentBuilder;

  Node null_;
  const Node* root_ = &null_;
  std::deque<Node> nodes_;
};

}  // namespace storyfarm::story

#endif  // STORYFARM_PIPELINE_STORY_DOCUMENT_H_
