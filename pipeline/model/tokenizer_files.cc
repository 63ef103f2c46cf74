#include "pipeline/model/tokenizer_files.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/model/json_reader.h"

namespace storyfarm::model {
namespace {

constexpr int64_t kMaxTokenId = 1 << 24;    // CLIP has 49,408 tokens
constexpr size_t kClipLength = 77;          // positions that CLIP's text models have
constexpr size_t kMaxLength = 1 << 16;      // "no limit" is written as 1e30
constexpr size_t kMaxAddedTokens = 10'000;  // each is looked for at every place of the text
constexpr char kStart[] = "<|startoftext|>";
constexpr char kEnd[] = "<|endoftext|>";

absl::Status Wrong(const std::string& file, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", what, "."));
}

using Vocabulary = std::unordered_map<std::string, int32_t>;

absl::Status ReadVocabulary(const nlohmann::json& object, const std::string& file, Vocabulary& vocabulary) {
  for (const auto& [token, id] : object.items()) {
    if (!id.is_number_integer() || id < 0 || id > kMaxTokenId) {
      return Wrong(file, absl::StrCat("token '", token, "' has the id ", id.dump(), ", which is none"));
    }
    vocabulary[token] = id.get<int32_t>();
  }
  if (vocabulary.empty()) return Wrong(file, "there is no token in it");
  return absl::OkStatus();
}

// `where` says the line.
absl::Status AddMerge(const std::string& left, const std::string& right, int32_t rank, const std::string& where,
                      TokenizerTables& tables) {
  const auto find = [&](const std::string& token) { return tables.vocabulary.find(token); };
  for (const std::string& token : {left, right, left + right}) {
    if (find(token) == tables.vocabulary.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": the merge makes or takes '", token, "', which the vocabulary does not have."));
    }
  }
  // A pair that is there twice has the later rank, as in the tokenizers library.
  tables.merges[MergeKey(find(left)->second, find(right)->second)] = {rank, find(left + right)->second};
  return absl::OkStatus();
}

absl::Status ReadMergesText(const std::string& text, const std::string& file, TokenizerTables& tables) {
  size_t line_number = 0;
  int32_t rank = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line.compare(0, 8, "#version") == 0) continue;
    const size_t space = line.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string::npos) {
      return Wrong(file, absl::StrCat("line ", line_number, " is not two tokens with a space between them"));
    }
    absl::Status added = AddMerge(line.substr(0, space), line.substr(space + 1), rank++,
                                  absl::StrCat(file, " line ", line_number), tables);
    if (!added.ok()) return added;
  }
  return absl::OkStatus();
}

absl::Status ReadTokenizerJsonModel(const nlohmann::json& object, const std::string& file, TokenizerTables& tables) {
  const auto model = object.find("model");
  if (model == object.end() || !model->is_object() || !model->contains("vocab") || !(*model)["vocab"].is_object() ||
      !model->contains("merges") || !(*model)["merges"].is_array()) {
    return Wrong(file, "it has no byte-pair model with vocab and merges");
  }
  if (absl::Status s = ReadVocabulary((*model)["vocab"], file, tables.vocabulary); !s.ok()) return s;
  int32_t rank = 0;
  for (const nlohmann::json& merge : (*model)["merges"]) {
    const std::string where = absl::StrCat(file, " merge ", rank);
    std::string left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else if (merge.is_string()) {
      const std::string text = merge.get<std::string>();
      const size_t space = text.find(' ');
      if (space == std::string::npos) return Wrong(where, "it is not two tokens with a space between them");
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else {
      return Wrong(where, "it is not a pair of tokens");
    }
    if (absl::Status s = AddMerge(left, right, rank++, where, tables); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// A token as configs write it: its text, or an object with the text and flags.
absl::StatusOr<AddedToken> ReadToken(const nlohmann::json& value, const std::string& where) {
  AddedToken token;
  if (value.is_string()) {
    token.content = value.get<std::string>();
  } else if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    token.content = value["content"].get<std::string>();
    for (const char* flag : {"lstrip", "rstrip", "single_word"}) {
      if (value.contains(flag) && value[flag] != false) {
        return absl::UnimplementedError(
            absl::StrCat(where, ": ", flag, " is ", value[flag].dump(), "; supported: false."));
      }
    }
    token.normalized = value.contains("normalized") && value["normalized"] == true;
  } else {
    return Wrong(where, "this is no token");
  }
  if (token.content.empty()) return Wrong(where, "the token is empty");
  return token;
}

absl::Status AddToken(AddedToken token, const nlohmann::json& id, const std::string& where, TokenizerTables& tables) {
  if (!id.is_number_integer() || id < 0 || id > kMaxTokenId) return Wrong(where, "the token has no id");
  if (tables.added.size() >= kMaxAddedTokens) {
    return Wrong(where, absl::StrCat("there are more than ", kMaxAddedTokens, " added tokens"));
  }
  token.id = id.get<int32_t>();
  tables.added.push_back(std::move(token));
  return absl::OkStatus();
}

struct Objects {
  nlohmann::json tokenizer = nlohmann::json::object();  // tokenizer.json
  nlohmann::json config = nlohmann::json::object();
  nlohmann::json special_map = nlohmann::json::object();
  nlohmann::json added = nlohmann::json::object();
};

absl::Status ReadAddedTokens(const TokenizerFiles& files, const Objects& objects, TokenizerTables& tables) {
  const auto add = [&](const nlohmann::json& value, const nlohmann::json& id, const std::string& where) {
    absl::StatusOr<AddedToken> token = ReadToken(value, where);
    return token.ok() ? AddToken(*std::move(token), id, where, tables) : token.status();
  };
  if (const auto decoder = objects.config.find("added_tokens_decoder");
      decoder != objects.config.end() && decoder->is_object()) {
    const std::string where = files.folder + "/tokenizer_config.json: added_tokens_decoder";
    for (const auto& [id, value] : decoder->items()) {
      const nlohmann::json number = nlohmann::json::parse(id, nullptr, /*allow_exceptions=*/false);
      if (absl::Status s = add(value, number, where); !s.ok()) return s;
    }
    return absl::OkStatus();
  }
  if (const auto list = objects.tokenizer.find("added_tokens"); list != objects.tokenizer.end() && list->is_array()) {
    const std::string where = files.folder + "/tokenizer.json: added_tokens";
    for (const nlohmann::json& value : *list) {
      if (!value.is_object() || !value.contains("id")) return Wrong(where, "an entry has no id");
      if (absl::Status s = add(value, value["id"], where); !s.ok()) return s;
    }
    return absl::OkStatus();
  }
  for (const auto& [content, id] : objects.added.items()) {
    const nlohmann::json token = {{"content", content}, {"normalized", true}};
    if (absl::Status s = add(token, id, files.folder + "/added_tokens.json"); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// Start, end, unknown and pad token: their ids, and themselves as added tokens.
absl::Status ReadSpecialTokens(const TokenizerFiles& files, const Objects& objects, TokenizerTables& tables) {
  const bool has_decoder = objects.config.contains("added_tokens_decoder");
  const std::pair<const char*, std::pair<const char*, int32_t*>> roles[] = {{"bos_token", {kStart, &tables.start_id}},
                                                                            {"eos_token", {kEnd, &tables.end_id}},
                                                                            {"unk_token", {kEnd, &tables.unknown_id}},
                                                                            {"pad_token", {kEnd, &tables.pad_id}}};
  std::vector<AddedToken> named;
  for (const auto& [key, rest] : roles) {
    nlohmann::json value = rest.first;
    std::string where = absl::StrCat(files.folder, "/tokenizer_config.json: ", key);
    if (objects.config.contains(key) && !objects.config[key].is_null()) value = objects.config[key];
    if (!has_decoder && objects.special_map.contains(key) && !objects.special_map[key].is_null()) {
      value = objects.special_map[key];
      where = absl::StrCat(files.folder, "/special_tokens_map.json: ", key);
    }
    absl::StatusOr<AddedToken> token = ReadToken(value, where);
    if (!token.ok()) return token.status();
    const auto same = [&](const AddedToken& other) { return other.content == token->content; };
    const auto known = tables.vocabulary.find(token->content);
    const auto added = std::find_if(tables.added.begin(), tables.added.end(), same);
    if (added != tables.added.end()) {
      token->id = added->id;
    } else if (known != tables.vocabulary.end()) {
      token->id = known->second;
      // Where two roles have one token, the later one's flags count.
      const auto again = std::find_if(named.begin(), named.end(), same);
      if (again != named.end()) *again = *token;
      if (again == named.end()) named.push_back(*token);
    } else {
      return Wrong(where, absl::StrCat("the vocabulary has no token '", token->content, "'"));
    }
    *rest.second = token->id;
  }
  tables.added.insert(tables.added.end(), named.begin(), named.end());
  return absl::OkStatus();
}

absl::Status ReadLength(const TokenizerFiles& files, const nlohmann::json& config, TokenizerTables& tables) {
  tables.max_length = kClipLength;
  const auto length = config.find("model_max_length");
  if (length == config.end() || !length->is_number()) return absl::OkStatus();
  const double value = length->get<double>();
  if (value > static_cast<double>(kMaxLength)) return absl::OkStatus();  // Python's "no limit": CLIP has one
  if (!(value >= 3) || value != static_cast<double>(static_cast<size_t>(value))) {
    return Wrong(files.folder + "/tokenizer_config.json",
                 absl::StrCat("model_max_length is ", length->dump(), "; it must be a whole number of at least 3"));
  }
  tables.max_length = static_cast<size_t>(value);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerTables> ReadTokenizerTables(const TokenizerFiles& files) {
  Objects objects;
  const struct {
    const std::string& text;
    const char* name;
    nlohmann::json* object;
  } parts[] = {{files.tokenizer_json, "tokenizer.json", &objects.tokenizer},
               {files.tokenizer_config_json, "tokenizer_config.json", &objects.config},
               {files.special_tokens_map_json, "special_tokens_map.json", &objects.special_map},
               {files.added_tokens_json, "added_tokens.json", &objects.added}};
  for (const auto& part : parts) {
    if (part.text.empty()) continue;
    absl::StatusOr<nlohmann::json> object =
        ParseJsonObject(part.text, files.folder + "/" + part.name, kMaxTokenizerFileBytes);
    if (!object.ok()) return object.status();
    *part.object = *std::move(object);
  }

  TokenizerTables tables;
  if (!files.vocab_json.empty()) {
    const std::string name = files.folder + "/vocab.json";
    absl::StatusOr<nlohmann::json> vocabulary = ParseJsonObject(files.vocab_json, name, kMaxTokenizerFileBytes);
    if (!vocabulary.ok()) return vocabulary.status();
    if (absl::Status s = ReadVocabulary(*vocabulary, name, tables.vocabulary); !s.ok()) return s;
    if (absl::Status s = ReadMergesText(files.merges_txt, files.folder + "/merges.txt", tables); !s.ok()) return s;
  } else {
    absl::Status read = ReadTokenizerJsonModel(objects.tokenizer, files.folder + "/tokenizer.json", tables);
    if (!read.ok()) return read;
  }
  if (absl::Status s = ReadAddedTokens(files, objects, tables); !s.ok()) return s;
  if (absl::Status s = ReadSpecialTokens(files, objects, tables); !s.ok()) return s;
  if (absl::Status s = ReadLength(files, objects.config, tables); !s.ok()) return s;
  return tables;
}

}  // namespace storyfarm::model
