// The words that a model was taught: how the list is read, which words of a text are none of them, what is near.
#include "pipeline/model/word_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace storyfarm::model {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kWords[] =
    "# What the tests know.\n\n"
    "a\nbear\nberry\nbicycle\nbox\ncafé\ndress\nforest\nfox\nglasses\nhouse\nin\njump\nred\nriding\nrun\nstriped\nthe\n"
    "tree\nwith\n";

WordList Known(const std::string& words = kWords) {
  auto list = WordList::Parse(words, "words.txt");
  EXPECT_TRUE(list.ok()) << list.status();
  return *std::move(list);
}

// The unknown words of one text as they are written there.
std::vector<std::string> UnknownOf(const std::string& text, const WordList& list = Known()) {
  std::vector<std::string> words;
  for (const UnknownWord& word : list.FindUnknown({text}, 100).words) {
    words.push_back(text.substr(word.byte, word.byte_count));
  }
  return words;
}

std::string NearestOf(const std::string& word) {
  const UnknownWords unknown = Known().FindUnknown({word}, 100);
  EXPECT_EQ(unknown.words.size(), 1u) << word;
  return unknown.words.empty() ? "" : unknown.words[0].nearest;
}

std::string FaultOf(const std::string& words) {
  const auto list = WordList::Parse(words, "words.txt");
  EXPECT_TRUE(absl::IsInvalidArgument(list.status())) << words;
  return std::string(list.status().message());
}

TEST(WordList, OnlyWordsThatAreNotListedAreFoundWhereTheyStand) {
  EXPECT_THAT(UnknownOf("a red fox with a unicycle, in the forest"), ElementsAre("unicycle"));
  EXPECT_THAT(UnknownOf("a red fox"), IsEmpty());
  EXPECT_THAT(UnknownOf(""), IsEmpty());
}

TEST(WordList, WordsAreReadAsTheTokenizerReadsThem) {
  EXPECT_THAT(UnknownOf("The FOX, (red:1.2) 3 bears-bicycle!"), ElementsAre("bears")) << "case, digits and signs";
  EXPECT_THAT(UnknownOf("the fox's tree, they'll run"), ElementsAre("they")) << "contractions are no words";
  EXPECT_THAT(UnknownOf("a cafe\xCC\x81, a CAF\xC3\x89"), IsEmpty()) << "composed and decomposed letters are the same";
  EXPECT_THAT(UnknownOf("a naive\xCC\x81,fox"), ElementsAre("naive\xCC\x81,fox"))
      << "where composing changes the count of letters, what stands together is shown";
  EXPECT_THAT(UnknownOf("\xE3\x80\x80moon\xC2\xA0sun"), ElementsAre("moon", "sun")) << "all of Unicode's white space";
}

TEST(WordList, AWordIsFoundOnceInEachText) {
  const UnknownWords unknown = Known().FindUnknown({"moon Moon MOON", "a fox", "the moon"}, 100);
  ASSERT_EQ(unknown.words.size(), 2u);
  EXPECT_EQ(unknown.words[0].text, 0u);
  EXPECT_EQ(unknown.words[1].text, 2u);
  EXPECT_EQ(unknown.words[1].byte, 4u);
  EXPECT_EQ(unknown.left_out, 0u);
}

TEST(WordList, WhatIsOverTheLimitIsCounted) {
  const UnknownWords unknown = Known().FindUnknown({"one two three", "four"}, 3);
  EXPECT_EQ(unknown.words.size(), 3u);
  EXPECT_EQ(unknown.left_out, 1u);
}

TEST(WordList, EastAsianTextIsOneUnknownWord) {
  EXPECT_THAT(UnknownOf("一只红狐狸，在森林里。"), ElementsAre("一只红狐狸，在森林里"));
  EXPECT_THAT(UnknownOf("the fox 在森林里 2 号 in a 家"), ElementsAre("在森林里 2 号", "家"));
  EXPECT_THAT(UnknownOf("きつね が 森 を"), ElementsAre("きつね が 森 を"));
  EXPECT_THAT(UnknownOf("붉은 여우"), ElementsAre("붉은 여우"));
  EXPECT_THAT(UnknownOf("红 狐狸 在", Known("fox\n狐狸\n")), ElementsAre("红", "在")) << "a known word parts them";
}

TEST(WordList, ARelatedOrAlmostEqualWordIsOffered) {
  EXPECT_EQ(NearestOf("foxes"), "fox");
  EXPECT_EQ(NearestOf("houses"), "house");
  EXPECT_EQ(NearestOf("berries"), "berry");
  EXPECT_EQ(NearestOf("dresses"), "dress");
  EXPECT_EQ(NearestOf("trees"), "tree");
  EXPECT_EQ(NearestOf("running"), "run");
  EXPECT_EQ(NearestOf("ride"), "riding");
  EXPECT_EQ(NearestOf("jumping"), "jump");
  EXPECT_EQ(NearestOf("stripes"), "striped");
  EXPECT_EQ(NearestOf("bycicle"), "bicycle");
  EXPECT_EQ(NearestOf("Forrest"), "forest");
  EXPECT_EQ(NearestOf("reed"), "red");
}

TEST(WordList, NothingIsOfferedForAWordThatIsLikeNone) {
  EXPECT_EQ(NearestOf("astronaut"), "");
  EXPECT_EQ(NearestOf("of"), "") << "any short word would be near";
  EXPECT_EQ(NearestOf("pig"), "");
  EXPECT_EQ(NearestOf("ring"), "") << "no form of another word";
  EXPECT_EQ(NearestOf(std::string(100'000, 'x')), "");
}

TEST(WordList, AListMayHaveCommentsBlankLinesAndLineEndsOfWindows) {
  EXPECT_EQ(Known("# words\r\n\r\nbear\r\n  fox\r\n").size(), 2u);
  EXPECT_THAT(UnknownOf("bear fox", Known("# words\r\n\r\nbear\r\n  fox\r\n")), IsEmpty());
}

TEST(WordList, AListThatIsNoneIsRefusedWithItsLine) {
  EXPECT_THAT(FaultOf("bear\nFox\n"),
              HasSubstr("words.txt:2: 'Fox' is not written as the tokenizer reads it; write fox"));
  EXPECT_THAT(FaultOf("fox\n\nbear\n"), AllOf(HasSubstr("words.txt:3: 'bear' comes after fox"), HasSubstr("sort")));
  EXPECT_THAT(FaultOf("bear\nbear\n"), HasSubstr("words.txt:2: 'bear' is there twice"));
  EXPECT_THAT(FaultOf("teddy bear\n"), HasSubstr("one word a line"));
  EXPECT_THAT(FaultOf("don't\n"), HasSubstr("one word a line"));
  EXPECT_THAT(FaultOf("7\n"), HasSubstr("without digits"));
  EXPECT_THAT(FaultOf("bear\xFF\n"), HasSubstr("not UTF-8"));
  EXPECT_THAT(FaultOf(std::string(65, 'x')), HasSubstr("longer than 64 letters"));
  EXPECT_THAT(FaultOf("# nothing\n"), HasSubstr("lists no word"));
  EXPECT_THAT(FaultOf(std::string(kMaxWordsFileBytes + 1, '\n')), HasSubstr("at most 1048576"));
}

TEST(WordList, AListHasABoundOnItsWords) {
  std::string words;
  for (size_t i = 0; i <= kMaxWords; ++i) {
    for (size_t power : {17'576u, 676u, 26u, 1u}) words += static_cast<char>('a' + i / power % 26);
    words += '\n';
  }
  EXPECT_THAT(FaultOf(words), HasSubstr("words.txt:50001: more than 50000 words"));
}

}  // namespace
}  // namespace storyfarm::model
