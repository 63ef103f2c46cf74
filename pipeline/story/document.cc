#include "pipeline/story/document.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>

#include "pipeline/story/words.h"

namespace storyfarm::story {
namespace {

constexpr char kQuotedTag[] = "!";
constexpr char kPlainTag[] = "?";
constexpr char kStringTag[] = "tag:yaml.org,2002:str";

// Leaves the parser from within an event; caught in Document::Parse and never seen outside.
struct RefusedDocument {
  Mark mark;
  std::string message;
};

// \uD83D\uDE00 -> \U0001F600, both escapes of one character.
std::string JoinSurrogates(const std::string& text) {
  std::string joined;
  joined.reserve(text.size());
  auto unit = [&](size_t at) -> int {
    if (at + 6 > text.size() || text[at] != '\\' || text[at + 1] != 'u') return -1;
    const std::string digits = text.substr(at + 2, 4);
    if (digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) return -1;
    return static_cast<int>(std::strtol(digits.c_str(), nullptr, 16));
  };
  for (size_t i = 0; i < text.size();) {
    const int high = unit(i);
    const int low = high >= 0xD800 && high <= 0xDBFF ? unit(i + 6) : -1;
    if (low >= 0xDC00 && low <= 0xDFFF) {
      char escape[12];
      std::snprintf(escape, sizeof escape, "\\U%08X", 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
      joined += escape;
      i += 12;
    } else if (text[i] == '\\' && i + 1 < text.size()) {
      joined.append(text, i, 2);
      i += 2;
    } else {
      joined.push_back(text[i++]);
    }
  }
  return joined;
}

std::string ExplainParserMessage(const std::string& message, std::string_view line) {
  std::string hint;
  const std::string_view trimmed = Trim(line);
  if (trimmed.starts_with("- [") || trimmed.find(": [") != std::string_view::npos) {
    hint = "; a text that starts with '[' must stand in quotes: - \"[Mia] reading a book #A caption\"";
  } else if (line.find('\t') != std::string_view::npos) {
    hint = "; YAML is indented with blanks, not tabs";
  } else if (trimmed.find(": ") != trimmed.rfind(": ")) {
    hint = "; a text with a colon and a blank in it must stand in quotes";
  }
  return "this is not YAML: " + message + hint;
}

}  // namespace

class DocumentBuilder : public YAML::EventHandler {
 public:
  DocumentBuilder(const Source& source, Document& document) : source_(source), document_(document) {}

  Mark Convert(const YAML::Mark& mark) const {
    if (mark.is_null()) return {};
    return source_.MarkAt(static_cast<size_t>(mark.line) + 1, static_cast<size_t>(mark.column));
  }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark&, const std::string&) override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Finish(New(Node::Kind::kNull, mark, kPlainTag), anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node* node = New(Node::Kind::kScalar, mark, tag);
    node->plain = tag == kPlainTag;
    node->text = value;
    Finish(node, anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const Mark place = Convert(mark);
    if (++aliases_ > kMaxDocumentAliases) {
      throw RefusedDocument{place, "more than " + std::to_string(kMaxDocumentAliases) + " aliases (*name)"};
    }
    const auto target = anchors_.find(anchor);
    if (target == anchors_.end()) throw RefusedDocument{place, "an alias inside the very thing that it stands for"};
    Count(place, target->second->expanded_nodes);
    Attach(target->second);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(New(Node::Kind::kSequence, mark, tag), anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(New(Node::Kind::kMap, mark, tag), anchor);
  }
  void OnMapEnd() override { Close(); }

 private:
  // A collection whose end has not come yet.
  struct OpenNode {
    Node* node;
    YAML::anchor_t anchor;
    const Node* key = nullptr;  // of a map: read, its value not yet
  };

  Node* New(Node::Kind kind, const YAML::Mark& mark, const std::string& tag) {
    const Mark place = Convert(mark);
    if (!tag.empty() && tag != kPlainTag && tag != kQuotedTag && tag != kStringTag) {
      throw RefusedDocument{place, "tags such as " + Quote(tag) + " have no meaning here; remove it"};
    }
    Count(place, 1);
    Node& node = document_.nodes_.emplace_back();
    node.kind = kind;
    node.mark = place;
    return &node;
  }

  void Count(Mark place, size_t nodes) {
    nodes_ += nodes;
    if (nodes_ > kMaxDocumentNodes) {
      throw RefusedDocument{
          place, "more than " + std::to_string(kMaxDocumentNodes) + " values, aliases counted as what they stand for"};
    }
  }

  void Open(Node* node, YAML::anchor_t anchor) {
    if (open_.size() >= kMaxDocumentDepth) {
      throw RefusedDocument{node->mark,
                            "lists and maps nested more than " + std::to_string(kMaxDocumentDepth) + " deep"};
    }
    open_.push_back({node, anchor});
  }

  void Close() {
    const OpenNode closed = open_.back();
    open_.pop_back();
    Finish(closed.node, closed.anchor);
  }

  // Anchors count from here on, so that no node can contain itself.
  void Finish(const Node* node, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) anchors_[anchor] = node;
    Attach(node);
  }

  void Attach(const Node* node) {
    if (open_.empty()) {
      document_.root_ = node;
      return;
    }
    OpenNode& parent = open_.back();
    parent.node->expanded_nodes += node->expanded_nodes;
    if (parent.node->kind == Node::Kind::kSequence) {
      parent.node->items.push_back(node);
    } else if (parent.key == nullptr) {
      parent.key = node;
    } else {
      parent.node->entries.emplace_back(parent.key, node);
      parent.key = nullptr;
    }
  }

  const Source& source_;
  Document& document_;
  std::vector<OpenNode> open_;
  std::map<YAML::anchor_t, const Node*> anchors_;
  size_t nodes_ = 0;
  size_t aliases_ = 0;
};

const char* Describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return "nothing";
    case Node::Kind::kScalar:
      return "a text";
    case Node::Kind::kSequence:
      return "a list";
    case Node::Kind::kMap:
      return "a map";
  }
  return "something else";
}

bool Document::Parse(const Source& source, bool json, ProblemList& problems) {
  DocumentBuilder builder(source, *this);
  try {
    std::istringstream stream(json ? JoinSurrogates(source.text()) : source.text());
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    if (parser) {
      DocumentBuilder second(source, *this);
      const Node* first = root_;
      if (parser.HandleNextDocument(second)) {
        problems.Error(root_->mark, "", "a second document starts here ('---'); a file holds one");
        root_ = first;
        return false;
      }
    }
    return true;
  } catch (const RefusedDocument& refused) {
    problems.Error(refused.mark, "", refused.message);
  } catch (const YAML::Exception& error) {
    const Mark mark = builder.Convert(error.mark);
    problems.Error(mark, "", ExplainParserMessage(error.msg, source.Line(mark.line)));
  }
  return false;
}

}  // namespace storyfarm::story
