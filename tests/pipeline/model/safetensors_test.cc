// Safetensors: what is written comes back; what is hostile is refused in words and never read past.
#include "pipeline/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "pipeline/base/env.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::span<const std::byte> AsBytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string LittleEndian(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}

class Safetensors : public testing::Test {
 protected:
  std::string Put(const std::string& bytes) {
    const std::string path = folder_.File("f.safetensors");
    std::remove(path.c_str());  // rewriting one in place makes some file systems flush it on close
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  absl::StatusOr<std::shared_ptr<const SafetensorsFile>> OpenBytes(const std::string& bytes) {
    return SafetensorsFile::Open(Put(bytes), "hostile");
  }
  absl::StatusOr<std::shared_ptr<const SafetensorsFile>> OpenHeader(const std::string& header, size_t data_bytes) {
    return OpenBytes(LittleEndian(header.size()) + header + std::string(data_bytes, 'd'));
  }
  // The message of a refusal; the test fails where the file is taken.
  std::string Refusal(const std::string& header, size_t data_bytes) {
    auto file = OpenHeader(header, data_bytes);
    if (file.ok()) {
      ADD_FAILURE() << "taken: " << header;
      return "";
    }
    EXPECT_TRUE(absl::IsDataLoss(file.status())) << file.status();
    EXPECT_THAT(std::string(file.status().message()), HasSubstr("hostile is not a valid safetensors file"));
    return std::string(file.status().message());
  }

  testing_support::TempFolder folder_;
  base::Env& env_ = base::Env::Real();
};

TEST_F(Safetensors, WhatIsWrittenComesBack) {
  const std::string floats(24, 'f'), bytes = "abc";
  const std::vector<TensorToWrite> tensors = {{"z", TensorType::kF32, {2, 3}, AsBytes(floats)},
                                              {"a/empty", TensorType::kI64, {0, 7}, {}},
                                              {"mask", TensorType::kU8, {3}, AsBytes(bytes)},
                                              {"scalar \"ü\"", TensorType::kF16, {}, AsBytes(bytes).first(2)}};
  const std::string path = folder_.File("w.safetensors");
  ASSERT_TRUE(WriteSafetensors(env_, path, tensors, {{"format", "story-draws"}, {"version", "1"}}).ok());
  auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->tensors().size(), 4u);
  EXPECT_EQ((*file)->metadata().at("format"), "story-draws");
  for (const TensorToWrite& tensor : tensors) {
    const TensorInfo* info = (*file)->Find(tensor.name);
    ASSERT_NE(info, nullptr) << tensor.name;
    EXPECT_EQ(info->type, tensor.type);
    EXPECT_EQ(info->shape, tensor.shape);
    const auto back = (*file)->Bytes(*info);
    ASSERT_EQ(back.size(), tensor.bytes.size());
    EXPECT_TRUE(std::equal(back.begin(), back.end(), tensor.bytes.begin()));
  }
  EXPECT_EQ((*file)->Find("z")->offset_bytes % 8, 0u);
  EXPECT_EQ((*file)->Find("nothing"), nullptr);
}

TEST_F(Safetensors, TheSameTensorsMakeTheSameBytes) {
  const std::string data(8, 'x');
  const std::vector<TensorToWrite> tensors = {{"t", TensorType::kF32, {2}, AsBytes(data)}};
  const std::string one = folder_.File("1"), two = folder_.File("2");
  ASSERT_TRUE(WriteSafetensors(env_, one, tensors, {{"b", "2"}, {"a", "1"}}).ok());
  ASSERT_TRUE(WriteSafetensors(env_, two, tensors, {{"a", "1"}, {"b", "2"}}).ok());
  EXPECT_EQ(*env_.ReadFile(one), *env_.ReadFile(two));
  EXPECT_EQ(*env_.ReadFile(one),
            LittleEndian(88) +
                R"({"__metadata__":{"a":"1","b":"2"},"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})" + " " +
                data);
}

TEST_F(Safetensors, WhatCantBeWrittenIsRefusedAndLeavesNoFile) {
  const std::string data(8, 'x');
  const std::string path = folder_.File("w");
  const std::vector<std::vector<TensorToWrite>> bad = {
      {{"t", TensorType::kF32, {3}, AsBytes(data)}},
      {{"t", TensorType::kF32, {2}, AsBytes(data)}, {"t", TensorType::kF32, {2}, AsBytes(data)}},
      {{"__metadata__", TensorType::kF32, {2}, AsBytes(data)}},
      {{"t", TensorType::kF32, {-2}, AsBytes(data)}},
      {{"bad utf-8 \xff", TensorType::kF32, {2}, AsBytes(data)}},
      {{std::string(2000, 'n'), TensorType::kF32, {2}, AsBytes(data)}},
  };
  for (const auto& tensors : bad) {
    EXPECT_TRUE(absl::IsInvalidArgument(WriteSafetensors(env_, path, tensors))) << tensors.back().name;
  }
  EXPECT_TRUE(env_.List(folder_.path())->empty());
  EXPECT_TRUE(absl::IsNotFound(WriteSafetensors(env_, folder_.File("no/such/folder"), {})));
}

TEST_F(Safetensors, AFileWithoutTensorsIsValid) {
  EXPECT_TRUE(OpenHeader("{}", 0).ok());
  EXPECT_TRUE(OpenHeader("{\"__metadata__\":{}}   ", 0).ok());
}

TEST_F(Safetensors, CutAndOversizedFilesAreRefused) {
  EXPECT_THAT(std::string(OpenBytes("").status().message()), HasSubstr("only 0 bytes"));
  EXPECT_THAT(std::string(OpenBytes("1234567").status().message()), HasSubstr("only 7 bytes"));
  EXPECT_THAT(std::string(OpenBytes(LittleEndian(3) + "{}").status().message()), HasSubstr("it was cut"));
  EXPECT_THAT(std::string(OpenBytes(LittleEndian(kMaxHeaderBytes + 1) + "{}").status().message()),
              HasSubstr("at most 100000000"));
  EXPECT_THAT(std::string(OpenBytes(LittleEndian(~uint64_t{0}) + "{}").status().message()), HasSubstr("at most"));
  EXPECT_THAT(std::string(OpenBytes(LittleEndian(0)).status().message()), HasSubstr("not JSON"));
  EXPECT_TRUE(absl::IsNotFound(SafetensorsFile::Open(folder_.File("absent")).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(SafetensorsFile::Open(folder_.path()).status()));
}

TEST_F(Safetensors, HostileHeadersAreRefusedWithTheTensorsName) {
  const auto tensor = [](const std::string& body) { return "{\"w\":{" + body + "}}"; };
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  ASSERT_TRUE(OpenHeader(tensor(good), 8).ok());
  const struct {
    std::string header;
    size_t data_bytes;
    std::string says;
  } cases[] = {
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,16])"), 8, "lie outside"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), 8, "lie outside"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775807])"), 8, "lie outside"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615])"), 8, "too large"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,99999999999999999999999])"), 8, "natural number"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[-8,0])"), 8, "negative"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 8, "need 8 bytes, its data_offsets hold 4"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), 8, "two numbers"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])"), 8, "two numbers"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[[0],8])"), 8, "list"},
      {tensor(R"("dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8])"), 8, "impossibly large"},
      {tensor(R"("dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0])"), 0, "impossibly large"},
      {tensor(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), 8, "negative"},
      {tensor(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), 8, "natural number"},
      {tensor(R"("dtype":"F32","shape":["2"],"data_offsets":[0,8])"), 8, "string"},
      {tensor(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"), 8, "number"},
      {tensor(R"("dtype":"F32","shape":null,"data_offsets":[0,8])"), 8, "null"},
      {tensor(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2],"data_offsets":[0,8])"), 8, "dimensions"},
      {tensor(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"), 8, "F33"},
      {tensor(R"("dtype":5,"shape":[2],"data_offsets":[0,8])"), 8, "number"},
      {tensor(R"("shape":[2],"data_offsets":[0,8])"), 8, "dtype is missing"},
      {tensor(R"("dtype":"F32","data_offsets":[0,8])"), 8, "shape is missing"},
      {tensor(R"("dtype":"F32","shape":[2])"), 8, "data_offsets is missing"},
      {tensor(good + R"(,"shape":[2])"), 8, "twice"},
      {tensor(good + R"(,"extra":1)"), 8, "extra"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":{"a":0})"), 8, "object"},
      {"{\"w\":{" + good + "},\"w\":{" + good + "}}", 8, "twice"},
      {"{\"w\":3}", 8, "number"},
      {"{\"w\":[]}", 8, "list"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(Refusal(c.header, c.data_bytes), AllOf(HasSubstr("'w'"), HasSubstr(c.says))) << c.header;
  }
}

TEST_F(Safetensors, OverlapsGapsAndLeftoversAreRefused) {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  ASSERT_TRUE(OpenHeader(two("[4,8]", "[0,4]"), 8).ok()) << "any order in the header";
  EXPECT_THAT(Refusal(two("[0,4]", "[2,6]"), 8), AllOf(HasSubstr("'b'"), HasSubstr("overlaps")));
  EXPECT_THAT(Refusal(two("[0,4]", "[0,4]"), 8), HasSubstr("overlaps"));
  EXPECT_THAT(Refusal(two("[0,4]", "[5,9]"), 9), AllOf(HasSubstr("'b'"), HasSubstr("gap")));
  EXPECT_THAT(Refusal(two("[1,5]", "[5,9]"), 9), AllOf(HasSubstr("'a'"), HasSubstr("gap")));
  EXPECT_THAT(Refusal(two("[0,4]", "[4,8]"), 9), HasSubstr("last 1 bytes belong to no tensor"));
  EXPECT_THAT(Refusal("{}", 5), HasSubstr("last 5 bytes"));
}

TEST_F(Safetensors, WhatIsNotAnObjectOfTensorsIsRefused) {
  for (const char* header :
       {"", "[]", "5", "null", "\"text\"", "{", "{\"a\":}", "{}{}", "{} x", "{\"a\":{\"dtype\":"}) {
    EXPECT_FALSE(Refusal(header, 0).empty()) << header;
  }
  EXPECT_THAT(Refusal(R"({"__metadata__":{"a":1}})", 0), HasSubstr("metadata"));
  EXPECT_THAT(Refusal(R"({"__metadata__":{"a":"1","a":"2"}})", 0), HasSubstr("twice"));
  EXPECT_THAT(Refusal(R"({"__metadata__":{"a":{}}})", 0), HasSubstr("object"));
  EXPECT_THAT(Refusal("{\"" + std::string(2000, 'n') + "\":{}}", 0), HasSubstr("2000 bytes"));
  EXPECT_THAT(Refusal(std::string(100'000, '['), 0), HasSubstr("not a JSON object"));
  EXPECT_THAT(Refusal("{\"a\":" + std::string(100'000, '{'), 0), HasSubstr("JSON"));
  EXPECT_THAT(Refusal("{\"a\xff\":{}}", 0), HasSubstr("not JSON"));
}

TEST_F(Safetensors, OddNamesAreShownSafely) {
  const std::string message = Refusal("{\"evil\\u001b[31m\\nname\":7}", 0);
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

// Thousands of damaged headers: each is refused, or every tensor's bytes lie in the file. Run under the address
// sanitizer, every byte that is handed out is read.
TEST_F(Safetensors, MutatedHeadersNeverReachOutsideTheFile) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},)"
      R"("b":{"dtype":"F32","shape":[],"data_offsets":[12,16]},"c":{"dtype":"U8","shape":[0],"data_offsets":[16,16]}})";
  const std::string alphabet = "{}[]\",:0123456789-eE.aF \\nullU8I64\xff";
  std::mt19937 random(20261122);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  size_t taken = 0, refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = header;
    for (size_t change = 0, changes = 1 + below(4); change < changes; ++change) {
      const size_t at = below(text.size());
      switch (below(5)) {
        case 0:
          text[at] = alphabet[below(alphabet.size())];
          break;
        case 1:
          text.erase(at, 1 + below(6));
          break;
        case 2:
          text.insert(at, 1, alphabet[below(alphabet.size())]);
          break;
        case 3:
          text.insert(at, text.substr(below(text.size()), 1 + below(40)));
          break;
        default:
          text[at] = static_cast<char>(random());
      }
      if (text.empty()) text = "{";
    }
    // Now and then the length lies, too.
    const uint64_t length = below(10) == 0 ? below(400) : text.size();
    auto file = OpenBytes(LittleEndian(length) + text + std::string(below(8) == 0 ? below(32) : 16, 'd'));
    if (!file.ok()) {
      ++refused;
      EXPECT_TRUE(absl::IsDataLoss(file.status())) << file.status();
      continue;
    }
    ++taken;
    const auto whole = (*file)->mapping().bytes();
    unsigned sum = 0;
    for (const TensorInfo& tensor : (*file)->tensors()) {
      ASSERT_LE(tensor.offset_bytes, whole.size());
      ASSERT_LE(tensor.size_bytes, whole.size() - tensor.offset_bytes);
      for (std::byte byte : (*file)->Bytes(tensor)) sum += std::to_integer<unsigned>(byte);
    }
    EXPECT_LE(sum, 255u * whole.size());
  }
  EXPECT_GT(refused, 2000u);
  EXPECT_GT(taken, 25u) << "mutations must also reach what lies behind the parser";
}

}  // namespace
}  // namespace storyfarm::model
