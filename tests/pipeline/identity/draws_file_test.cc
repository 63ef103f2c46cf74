#include "pipeline/identity/draws_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/model/safetensors.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::identity {
namespace {

using model::TensorType;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_support::TempFolder;

using Metadata = std::map<std::string, std::string, std::less<>>;

Metadata GoodMetadata() {
  return {{"format", "story-draws"},
          {"version", "1"},
          {"panels", "2"},
          {"steps", "2"},
          {"height", "32"},
          {"width", "32"},
          {"characters", "[\"Bo\"]"},
          {"id_panels", "{\"0\": [0]}"},
          {"layers", "[\"a\", \"b\"]"}};
}

struct Entry {
  std::string name;
  TensorType type;
  std::vector<int64_t> shape;
  std::string bytes;
};

template <typename T>
Entry MakeEntry(const std::string& name, TensorType type, std::vector<int64_t> shape, const std::vector<T>& values) {
  return {name, type, std::move(shape),
          std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))};
}

class DrawsFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<DrawsFile>> Open(const std::vector<Entry>& entries,
                                                  const Metadata& metadata = GoodMetadata()) {
    std::vector<model::TensorToWrite> tensors;
    for (const Entry& entry : entries) {
      tensors.push_back({entry.name, entry.type, entry.shape, std::as_bytes(std::span(entry.bytes))});
    }
    EXPECT_TRUE(model::WriteSafetensors(base::Env::Real(), path_, tensors, metadata).ok());
    return DrawsFile::Open(path_);
  }

  TempFolder temp_;
  std::string path_ = temp_.File("draws.safetensors");
};

TEST_F(DrawsFileTest, GivesWhatItHolds) {
  const auto file = Open({MakeEntry<float>("noise/1", TensorType::kF32, {1, 1, 2}, {0.5f, -1.0f}),
                          MakeEntry<uint8_t>("gate/frame/1", TensorType::kU8, {2, 2}, {0, 0, 1, 0}),
                          MakeEntry<int32_t>("tokens/0/1/2x2/0", TensorType::kI32, {3}, {0, 1, 3}),
                          MakeEntry<int32_t>("tokens/0/0/2x2/0", TensorType::kI32, {0}, {})});
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(*(*file)->Noise({.panel = 1}, {1, 1, 2}), ElementsAre(0.5f, -1.0f));
  EXPECT_THAT((*file)->FrameGates({.panel = 1})->open, ElementsAre(0, 0, 1, 0));
  EXPECT_THAT(*(*file)->Tokens({}, 1, {2, 2}, 0), ElementsAre(0, 1, 3));
  EXPECT_THAT(*(*file)->Tokens({}, 0, {2, 2}, 0), IsEmpty());
  EXPECT_EQ((*file)->header().characters, std::vector<std::string>{"Bo"});
  EXPECT_TRUE((*file)->CheckIdentityPanels(0, {0}).ok());
  EXPECT_FALSE((*file)->CheckIdentityPanels(0, {1}).ok());
  EXPECT_TRUE((*file)->CheckFits(2, {"a", "b"}).ok());
  EXPECT_FALSE((*file)->CheckFits(2, {"a", "c"}).ok());
}

TEST_F(DrawsFileTest, RefusesHeadersThatAreNotItsOwn) {
  for (const char* key :
       {"format", "version", "panels", "steps", "height", "width", "characters", "id_panels", "layers"}) {
    for (const char* value : {"", "-1", "{", "nonsense"}) {
      Metadata metadata = GoodMetadata();
      metadata[key] = value;
      const auto file = Open({}, metadata);
      ASSERT_FALSE(file.ok()) << key << " = " << value;
      EXPECT_THAT(std::string(file.status().message()), AllOf(HasSubstr("draws.safetensors"), HasSubstr(key)));
    }
  }
}

TEST_F(DrawsFileTest, NamesTheEntryThatIsMissingOrMisshapen) {
  const auto file = Open({MakeEntry<float>("noise/0", TensorType::kF32, {1, 1, 3}, {0, 0, 0}),
                          MakeEntry<float>("noise/1", TensorType::kF32, {1, 1, 2}, {0, NAN}),
                          MakeEntry<uint8_t>("gate/frame/0", TensorType::kU8, {2, 2}, {0, 2, 0, 0}),
                          MakeEntry<uint8_t>("gate/frame/1", TensorType::kU8, {1, 2}, {0, 0}),
                          MakeEntry<int32_t>("tokens/0/0/2x2/0", TensorType::kI32, {2}, {1, 1}),
                          MakeEntry<int32_t>("tokens/0/0/2x2/1", TensorType::kI32, {1}, {4}),
                          MakeEntry<int32_t>("tokens/0/0/2x2/2", TensorType::kI32, {1}, {-1})});
  ASSERT_TRUE(file.ok()) << file.status();
  const auto says = [](const auto& answer, const char* entry, const char* what) {
    ASSERT_FALSE(answer.ok()) << entry;
    EXPECT_THAT(std::string(answer.status().message()), AllOf(HasSubstr(entry), HasSubstr(what)));
  };
  says((*file)->Noise({.panel = 7}, {1, 1, 2}), "noise/7", "missing");
  says((*file)->Noise({.panel = 0}, {1, 1, 2}), "noise/0", "[1, 1, 3]");
  says((*file)->Noise({.panel = 1}, {1, 1, 2}), "noise/1", "finite");
  says((*file)->FrameGates({.panel = 0}), "gate/frame/0", "neither 0 nor 1");
  says((*file)->FrameGates({.panel = 1}), "gate/frame/1", "[2, 2]");
  for (const int i : {0, 1, 2}) {
    says((*file)->Tokens({}, 0, {2, 2}, i), ("tokens/0/0/2x2/" + std::to_string(i)).c_str(), "ascend");
  }
}

TEST_F(DrawsFileTest, IsNotFooledByOtherFiles) {
  ASSERT_TRUE(base::Env::Real().WriteFileDurably(path_, "not safetensors at all").ok());
  EXPECT_FALSE(DrawsFile::Open(path_).ok());
  EXPECT_FALSE(DrawsFile::Open(temp_.File("absent")).ok());
}

TEST_F(DrawsFileTest, RecordingsOfSeveralPassesBecomeOneFile) {
  PhiloxDraws own({.seed = 1, .steps = 2, .layers = 2, .token_rate = {0.5}, .identity_grids = {{2, 2}}});
  const DrawsHeader header{
      .panels = 2, .steps = 2, .height = 32, .width = 32, .characters = {"Bo"}, .layers = {"a", "b"}};
  const FrameName identity{.panel = 0, .id = "x", .identity_frame = 0}, reader{.panel = 1, .id = "y"};
  const LatentShape shape{1, 2, 2};
  {
    RecordingDraws recording(&own);
    ASSERT_TRUE(recording.Noise(identity, shape).ok() && recording.IdentityGates({}).ok() &&
                recording.Tokens({}, 0, {2, 2}, 0).ok() && recording.Tokens({}, 1, {2, 2}, 0).ok());
    DrawsHeader first = header;
    first.identity_panels[0] = {0};
    ASSERT_TRUE(recording.Save(base::Env::Real(), path_, first).ok());
  }
  RecordingDraws recording(&own);
  ASSERT_TRUE(recording.Noise(reader, shape).ok() && recording.FrameGates(reader).ok());
  ASSERT_TRUE(recording.Save(base::Env::Real(), path_, header).ok());

  const auto file = DrawsFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*(*file)->Noise(identity, shape), *own.Noise(identity, shape));
  EXPECT_EQ(*(*file)->Noise(reader, shape), *own.Noise(reader, shape));
  EXPECT_EQ((*file)->FrameGates(reader)->open, own.FrameGates(reader)->open);
  EXPECT_EQ(*(*file)->Tokens({}, 1, {2, 2}, 0), *own.Tokens({}, 1, {2, 2}, 0));
  EXPECT_TRUE((*file)->CheckIdentityPanels(0, {0}).ok());

  DrawsHeader other = header;
  other.steps = 3;
  const absl::Status status = recording.Save(base::Env::Real(), path_, other);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("another story"));
}

}  // namespace
}  // namespace storyfarm::identity
