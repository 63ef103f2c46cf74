// Token ids equal to those of transformers 5.23's CLIPTokenizer: tests/data/tokenizer, made by
// tools/golden/clip_tokenizer.py. STORYFARM_TOKENIZER_GOLDEN names another folder of that form, such as one over
// OpenAI's own vocabulary.
#include "pipeline/model/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "pipeline/base/env.h"

namespace storyfarm::model {
namespace {

using testing::HasSubstr;

std::string GoldenFolder() {
  const char* other = std::getenv("STORYFARM_TOKENIZER_GOLDEN");
  return other != nullptr ? other : std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tokenizer";
}

std::string ReadGolden(const std::string& name) {
  absl::StatusOr<std::string> text = base::Env::Real().ReadFile(GoldenFolder() + "/" + name);
  if (!text.ok()) ADD_FAILURE() << text.status();
  return text.value_or("");
}

TokenizerFiles VocabularyFiles() {
  TokenizerFiles files;
  files.folder = "tokenizer";
  files.vocab_json = ReadGolden("vocab.json");
  files.merges_txt = ReadGolden("merges.txt");
  return files;
}

TokenizerFiles WithConfigs(const nlohmann::json& configs) {
  TokenizerFiles files = VocabularyFiles();
  files.tokenizer_config_json = configs.value("tokenizer_config.json", "");
  files.special_tokens_map_json = configs.value("special_tokens_map.json", "");
  files.added_tokens_json = configs.value("added_tokens.json", "");
  return files;
}

TEST(ClipTokenizer, GivesTheIdsThatTransformersGives) {
  const nlohmann::json golden = nlohmann::json::parse(ReadGolden("golden.json"));
  size_t texts = 0, padded = 0, different = 0;
  for (const nlohmann::json& variant : golden["variants"]) {
    absl::StatusOr<ClipTokenizer> tokenizer = ClipTokenizer::Create(WithConfigs(variant["files"]));
    ASSERT_TRUE(tokenizer.ok()) << variant["name"] << ": " << tokenizer.status();
    EXPECT_EQ(tokenizer->pad_id(), variant["pad"].get<int32_t>()) << variant["name"];
    EXPECT_EQ(tokenizer->max_length(), 77u);
    for (const nlohmann::json& test_case : variant["cases"]) {
      const std::string text = test_case[0];
      const std::vector<int32_t> expected = test_case[1];
      ++texts;
      const std::vector<int32_t> ids = tokenizer->EncodeUnbounded(text);
      if (ids != expected) {
        ++different;
        EXPECT_EQ(ids, expected) << variant["name"] << ": " << test_case[0];
      }
      const Encoding encoding = tokenizer->Encode(text);
      EXPECT_EQ(encoding.ids.size(), 77u);
      EXPECT_EQ(encoding.token_count + encoding.dropped_tokens, expected.size());
      EXPECT_EQ(encoding.dropped_text.empty(), expected.size() <= 75) << test_case[0];
      if (!test_case[2].is_null()) {
        ++padded;
        EXPECT_EQ(encoding.ids, test_case[2].get<std::vector<int32_t>>()) << variant["name"] << ": " << test_case[0];
      }
      ASSERT_LT(different, 20u) << "too many differences to print";
    }
  }
  std::printf("CLIP tokenizer | %s | %zu of %zu texts differ, %zu padded rows checked\n",
              golden["made_by"].get<std::string>().c_str(), different, texts, padded);
  EXPECT_GT(texts, 1000u);
  EXPECT_GT(padded, 10u);
}

TEST(ClipTokenizer, ReportsWhatDidNotFit) {
  absl::StatusOr<ClipTokenizer> tokenizer = ClipTokenizer::Create(VocabularyFiles());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::string text;
  for (int i = 0; i < 75; ++i) text += "1 ";
  EXPECT_EQ(tokenizer->Encode(text).dropped_tokens, 0u);
  EXPECT_EQ(tokenizer->Encode(text).ids[76], tokenizer->end_id());
  const Encoding cut = tokenizer->Encode(text + "7  8\tNine");
  EXPECT_EQ(cut.token_count, 75u);
  EXPECT_EQ(cut.dropped_text, "7 8 nine");
  EXPECT_GE(cut.dropped_tokens, 3u);
  EXPECT_EQ(cut.ids, tokenizer->Encode(text).ids);
}

TEST(ClipTokenizer, AWordCutInTheMiddleIsReportedWhole) {
  absl::StatusOr<ClipTokenizer> tokenizer = ClipTokenizer::Create(VocabularyFiles());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::string text;
  for (int i = 0; i < 74; ++i) text += "1 ";
  const Encoding cut = tokenizer->Encode(text + "Zqxjzqxj end");
  EXPECT_EQ(cut.token_count, 75u);
  EXPECT_EQ(cut.dropped_text, "zqxjzqxj end");
}

TEST(ClipTokenizer, BytesThatAreNotUtf8CountAsReplacementCharacters) {
  absl::StatusOr<ClipTokenizer> tokenizer = ClipTokenizer::Create(VocabularyFiles());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const struct {
    std::string bad, good;
  } cases[] = {{"a\xff z", "a\uFFFD z"},
               {"\xc0\xaf", "\uFFFD\uFFFD"},
               {"\xe4\xb8", "\uFFFD"},
               {"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},
               {"\xf4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
               {"\xe4\xb8z", "\uFFFDz"}};
  for (const auto& c : cases)
    EXPECT_EQ(tokenizer->EncodeUnbounded(c.bad), tokenizer->EncodeUnbounded(c.good)) << c.good;
}

TEST(ClipTokenizer, AVeryLongTextTakesNoQuadraticTime) {
  absl::StatusOr<ClipTokenizer> tokenizer = ClipTokenizer::Create(VocabularyFiles());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  // Quadratic merging of one word of 100,000 bytes would take minutes.
  EXPECT_FALSE(tokenizer->EncodeUnbounded(std::string(100'000, 'a')).empty());
  EXPECT_FALSE(tokenizer->EncodeUnbounded(std::string(100'000, '\'')).empty());
}

TEST(ClipTokenizer, ReadsItsVocabularyFromTokenizerJsonToo) {
  nlohmann::json merges = nlohmann::json::array();
  const TokenizerFiles plain = VocabularyFiles();
  std::string line;
  std::istringstream lines(plain.merges_txt);
  std::getline(lines, line);  // #version
  while (std::getline(lines, line)) merges.push_back(line);
  TokenizerFiles files;
  files.folder = "tokenizer";
  files.tokenizer_json =
      nlohmann::json{{"model", {{"vocab", nlohmann::json::parse(plain.vocab_json)}, {"merges", merges}}}}.dump();
  absl::StatusOr<ClipTokenizer> one = ClipTokenizer::Create(files), other = ClipTokenizer::Create(plain);
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(one->EncodeUnbounded("a red fox, 狐狸 !"), other->EncodeUnbounded("a red fox, 狐狸 !"));
}

TEST(ClipTokenizer, BrokenFilesAreRefusedInWords) {
  const auto message = [](auto change) {
    TokenizerFiles files = VocabularyFiles();
    change(files);
    absl::StatusOr<ClipTokenizer> tokenizer = ClipTokenizer::Create(files);
    EXPECT_FALSE(tokenizer.ok());
    return std::string(tokenizer.status().message());
  };
  EXPECT_THAT(message([](TokenizerFiles& f) { f.vocab_json = "[]"; }), HasSubstr("tokenizer/vocab.json"));
  EXPECT_THAT(message([](TokenizerFiles& f) { f.vocab_json = "{\"a\": -1}"; }), HasSubstr("'a'"));
  EXPECT_THAT(message([](TokenizerFiles& f) { f.vocab_json = "{\"a\": 99999999999}"; }), HasSubstr("'a'"));
  EXPECT_THAT(message([](TokenizerFiles& f) { f.merges_txt = "#version\na\n"; }), HasSubstr("merges.txt: line 2"));
  EXPECT_THAT(message([](TokenizerFiles& f) { f.merges_txt = "#version\n\na nosuchtoken\n"; }), HasSubstr("line 3"));
  EXPECT_THAT(message([](TokenizerFiles& f) { f.tokenizer_config_json = "{"; }), HasSubstr("tokenizer_config.json"));
  EXPECT_THAT(message([](TokenizerFiles& f) { f.tokenizer_config_json = "{\"pad_token\": \"<nowhere>\"}"; }),
              HasSubstr("<nowhere>"));
  EXPECT_THAT(message([](TokenizerFiles& f) { f.tokenizer_config_json = "{\"model_max_length\": 2}"; }),
              HasSubstr("model_max_length"));
  EXPECT_THAT(message([](TokenizerFiles& f) {
                f.tokenizer_config_json = "{\"pad_token\": {\"content\": \"!\", \"lstrip\": true}}";
              }),
              HasSubstr("lstrip"));
}

}  // namespace
}  // namespace storyfarm::model
