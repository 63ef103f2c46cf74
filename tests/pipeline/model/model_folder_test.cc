// A diffusers folder: which files it has, what is missing, what it counts to.
#include "pipeline/model/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "pipeline/model/profile.h"
#include "pipeline/model/word_list.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::model {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::string kTiny = std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tiny_sdxl";

class ModelFolderTest : public testing::Test {
 protected:
  ModelFolderTest() : path_(folder_.File("model")) { fs::copy(kTiny, path_, fs::copy_options::recursive); }

  absl::StatusOr<ModelFolder> Open(WeightVariant variant = WeightVariant::kDefault) {
    return ModelFolder::Open(env_, path_, variant);
  }
  std::string CheckMessage() {
    auto model = Open();
    return std::string(model.ok() ? model->Check().message() : model.status().message());
  }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(path_ + "/" + name, std::ios::binary | std::ios::trunc) << text;
  }
  // Takes a single weight file apart into two shards with an index.
  void Shard(const std::string& component, const std::string& stem, const std::string& index) {
    const std::string single = path_ + "/" + component + "/" + stem + ".safetensors";
    {
      auto file = SafetensorsFile::Open(single);
      ASSERT_TRUE(file.ok()) << file.status();
      std::vector<TensorToWrite> shards[2];
      std::string map;
      for (const TensorInfo& tensor : (*file)->tensors()) {
        const size_t shard = shards[0].size() > shards[1].size() ? 1 : 0;
        shards[shard].push_back({tensor.name, tensor.type, tensor.shape, (*file)->Bytes(tensor)});
        map += (map.empty() ? "\"" : ", \"") + tensor.name + "\": \"shard-" + std::to_string(shard) + ".safetensors\"";
      }
      for (int i = 0; i < 2; ++i) {
        const std::string name = path_ + "/" + component + "/shard-" + std::to_string(i) + ".safetensors";
        ASSERT_TRUE(WriteSafetensors(env_, name, shards[i]).ok());
      }
      Write(component + "/" + index, "{\"metadata\": {}, \"weight_map\": {" + map + "}}");
    }
    fs::remove(single);
  }

  testing_support::TempFolder folder_;
  base::Env& env_ = base::Env::Real();
  const std::string path_;
};

TEST_F(ModelFolderTest, AWholeModelPassesItsCheck) {
  auto model = Open();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->Check().ok()) << model->Check();
  EXPECT_THAT(*model->WeightFiles("unet"), ElementsAre("unet/diffusion_pytorch_model.safetensors"));
  EXPECT_THAT(*model->WeightFiles("text_encoder"), ElementsAre("text_encoder/model.safetensors"));
}

TEST_F(ModelFolderTest, ListsTheFilesThatBelongToItInOneOrderAndNoOthers) {
  Write("README.md", "x");
  Write("unet/diffusion_pytorch_model.bin", "x");
  auto model = Open();
  ASSERT_TRUE(model.ok()) << model.status();
  const auto files = model->Files();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_TRUE(std::is_sorted(files->begin(), files->end()));
  EXPECT_THAT(*files,
              AllOf(Contains("model_index.json"), Contains("unet/config.json"), Contains("tokenizer_2/vocab.json"),
                    Contains("scheduler/scheduler_config.json"), Contains("vae/diffusion_pytorch_model.safetensors")));
  EXPECT_THAT(*files, AllOf(Not(Contains("README.md")), Not(Contains("unet/diffusion_pytorch_model.bin"))));
}

TEST_F(ModelFolderTest, AWordListBelongsToTheModelAndIsCheckedWithIt) {
  EXPECT_FALSE(WordList::Load(*Open())->has_value()) << "it knows every word";
  Write("words.txt", "bear\nfox\n");
  EXPECT_THAT(*Open()->Files(), Contains("words.txt"));
  EXPECT_EQ(CheckMessage(), "");
  const auto list = WordList::Load(*Open());
  ASSERT_TRUE(list.ok() && list->has_value()) << list.status();
  EXPECT_EQ((*list)->size(), 2u);
  Write("words.txt", "fox\nbear\n");
  EXPECT_THAT(CheckMessage(), HasSubstr("words.txt:2: 'bear' comes after fox"));
}

TEST_F(ModelFolderTest, Fp16FilesAreTakenWhereTheyAreAskedForOrAlone) {
  const std::string unet = path_ + "/unet/diffusion_pytorch_model";
  fs::copy(unet + ".safetensors", unet + ".fp16.safetensors");
  EXPECT_THAT(*Open()->WeightFiles("unet"), ElementsAre("unet/diffusion_pytorch_model.safetensors"));
  EXPECT_THAT(*Open(WeightVariant::kFp16)->WeightFiles("unet"),
              ElementsAre("unet/diffusion_pytorch_model.fp16.safetensors"));
  EXPECT_THAT(*Open(WeightVariant::kFp16)->WeightFiles("vae"), ElementsAre("vae/diffusion_pytorch_model.safetensors"));
  fs::remove(unet + ".safetensors");
  EXPECT_THAT(*Open()->WeightFiles("unet"), ElementsAre("unet/diffusion_pytorch_model.fp16.safetensors"));
}

TEST_F(ModelFolderTest, ShardsAreFoundThroughTheirIndex) {
  const ModelProfile whole = *ProfileModel(*Open());
  Shard("unet", "diffusion_pytorch_model", "diffusion_pytorch_model.safetensors.index.json");
  auto model = Open();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->Check().ok()) << model->Check();
  EXPECT_THAT(*model->WeightFiles("unet"), ElementsAre("unet/shard-0.safetensors", "unet/shard-1.safetensors"));
  EXPECT_THAT(*model->Files(), AllOf(Contains("unet/diffusion_pytorch_model.safetensors.index.json"),
                                     Contains("unet/shard-1.safetensors")));
  EXPECT_EQ(ProfileModel(*model)->unet_parameters, whole.unet_parameters);

  fs::remove(path_ + "/unet/shard-1.safetensors");
  EXPECT_THAT(CheckMessage(), AllOf(HasSubstr("unet/shard-1.safetensors is missing"), HasSubstr("index.json")));
  fs::copy(path_ + "/unet/shard-0.safetensors", path_ + "/unet/shard-1.safetensors");
  EXPECT_THAT(CheckMessage(), HasSubstr("is in two files"));
}

TEST_F(ModelFolderTest, AnIndexCantNameFilesElsewhere) {
  fs::remove(path_ + "/unet/diffusion_pytorch_model.safetensors");
  for (const char* name : {"../vae/diffusion_pytorch_model.safetensors", "/etc/passwd", "a/b.safetensors", "", ".."}) {
    Write("unet/diffusion_pytorch_model.safetensors.index.json",
          std::string("{\"weight_map\": {\"w\": \"") + name + "\"}}");
    EXPECT_TRUE(absl::IsInvalidArgument(Open()->Check())) << name;
    EXPECT_THAT(CheckMessage(), HasSubstr("weight_map"));
  }
}

TEST_F(ModelFolderTest, WhatIsMissingIsNamedWithWhatIsExpected) {
  fs::remove(path_ + "/vae/diffusion_pytorch_model.safetensors");
  Write("vae/diffusion_pytorch_model.bin", "x");
  EXPECT_THAT(CheckMessage(), AllOf(HasSubstr("weights of vae"), HasSubstr("vae/diffusion_pytorch_model.safetensors"),
                                    HasSubstr("Found only diffusion_pytorch_model.bin")));
  for (const char* name : {"tokenizer/merges.txt", "unet/config.json", "scheduler/scheduler_config.json",
                           "text_encoder_2/config.json", "model_index.json"}) {
    fs::remove_all(path_);
    fs::copy(kTiny, path_, fs::copy_options::recursive);
    fs::remove(path_ + "/" + name);
    EXPECT_TRUE(absl::IsNotFound(Open()->Check())) << name;
    EXPECT_THAT(CheckMessage(), HasSubstr(std::string(name) + " is missing"));
  }
}

TEST_F(ModelFolderTest, WhatIsNoModelFolderIsToldApart) {
  EXPECT_TRUE(absl::IsNotFound(ModelFolder::Open(env_, folder_.File("nowhere")).status()));
  fs::create_directory(folder_.File("empty"));
  EXPECT_THAT(std::string(ModelFolder::Open(env_, folder_.File("empty")).status().message()),
              HasSubstr("model_index.json"));
  std::ofstream(folder_.File("sdxl.safetensors")) << "x";
  EXPECT_THAT(std::string(ModelFolder::Open(env_, folder_.File("sdxl.safetensors")).status().message()),
              HasSubstr("from_single_file"));
}

TEST_F(ModelFolderTest, ATruncatedWeightFileIsRefusedByName) {
  const std::string file = path_ + "/vae/diffusion_pytorch_model.safetensors";
  fs::resize_file(file, fs::file_size(file) - 1);
  EXPECT_THAT(CheckMessage(), HasSubstr("vae/diffusion_pytorch_model.safetensors is not a valid safetensors file"));
}

TEST_F(ModelFolderTest, FilesMayLieAnywhereUnderTheirPaths) {
  std::map<std::string, std::string> files;
  const auto listed = Open()->Files();
  ASSERT_TRUE(listed.ok());
  int number = 0;
  for (const std::string& file : *listed) {
    const std::string place = folder_.File("blob-" + std::to_string(number++));
    fs::copy(path_ + "/" + file, place);
    files[file] = place;
  }
  auto model = ModelFolder::FromFiles(env_, files);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->Check().ok()) << model->Check();
  EXPECT_EQ(*model->Files(), *listed);
  EXPECT_EQ(ProfileModel(*model)->stored_bytes, ProfileModel(*Open())->stored_bytes);
  EXPECT_TRUE(absl::IsInvalidArgument(ModelFolder::FromFiles(env_, {{"../x", "/etc/passwd"}}).status()));
}

TEST(ModelPath, StaysInsideTheModel) {
  for (const char* good : {"a", "unet/config.json", "a.b/c-d_e", "..a/b.."}) EXPECT_TRUE(IsModelPath(good)) << good;
  for (const char* bad : {"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\nb"}) {
    EXPECT_FALSE(IsModelPath(bad)) << bad;
  }
  EXPECT_FALSE(IsModelPath(std::string(256, 'a')));
  EXPECT_FALSE(IsModelPath(std::string_view("a\0b", 3)));
}

TEST(ManifestDigest, IsOfTheSortedEntriesAndOfEachField) {
  const base::Digest one = base::Digest::Of("1"), two = base::Digest::Of("2");
  const base::Digest digest = ManifestDigest({{"a", one, 1}, {"b", two, 2}});
  EXPECT_EQ(digest, ManifestDigest({{"b", two, 2}, {"a", one, 1}}));
  // The rule of the header, by hand.
  const std::string bytes = std::string("a\0", 2) + one.Bytes() + std::string("\x01\0\0\0\0\0\0\0", 8) +
                            std::string("b\0", 2) + two.Bytes() + std::string("\x02\0\0\0\0\0\0\0", 8);
  EXPECT_EQ(digest, base::Digest::Of(bytes));
  EXPECT_NE(digest, ManifestDigest({{"a", one, 1}, {"b", two, 3}}));
  EXPECT_NE(digest, ManifestDigest({{"a", two, 1}, {"b", two, 2}}));
  EXPECT_NE(digest, ManifestDigest({{"a", one, 1}}));
}

TEST_F(ModelFolderTest, TheProfileIsCountedFromConfigsAndHeaders) {
  auto model = Open();
  ASSERT_TRUE(model.ok()) << model.status();
  const auto profile = ProfileModel(*model);
  ASSERT_TRUE(profile.ok()) << profile.status();
  const UNetConfig unet = *model->UNet();
  const VaeConfig vae = *model->Vae();
  EXPECT_EQ(profile->levels.size(), unet.down_blocks.size());
  for (size_t l = 0; l < profile->levels.size(); ++l) {
    const UNetLevelProfile& level = profile->levels[l];
    const UNetBlock& up = unet.up_blocks[unet.up_blocks.size() - 1 - l];
    EXPECT_EQ(level.downsampling, 1u << l);
    EXPECT_EQ(level.channels, unet.down_blocks[l].channels);
    EXPECT_EQ(level.resnets_up, level.resnets_down + 1);
    uint32_t csa = 0;
    for (int64_t layers : up.transformer_layers) csa += static_cast<uint32_t>(layers);
    EXPECT_EQ(level.csa_layers, csa);
  }
  EXPECT_EQ(profile->vae_scale_factor, vae.scale_factor());
  EXPECT_EQ(profile->native_width, unet.sample_width * vae.scale_factor());
  EXPECT_EQ(profile->size_multiple, vae.scale_factor() * unet.total_downsampling());
  uint64_t bytes = 0, parameters = 0;
  for (const char* component : {"unet", "vae", "text_encoder", "text_encoder_2"}) {
    const auto files = model->WeightFiles(component);
    ASSERT_TRUE(files.ok()) << files.status();
    for (const std::string& file : *files) bytes += fs::file_size(path_ + "/" + file);
  }
  EXPECT_EQ(profile->stored_bytes, bytes);
  const auto unet_file = SafetensorsFile::Open(path_ + "/unet/diffusion_pytorch_model.safetensors");
  for (const TensorInfo& tensor : (*unet_file)->tensors()) parameters += tensor.elements();
  EXPECT_EQ(profile->unet_parameters, parameters);
  EXPECT_GT(profile->text_encoder_parameters, 0u);
  EXPECT_GT(profile->vae_parameters, 0u);
}

TEST_F(ModelFolderTest, PartsThatDontFitTogetherAreRefused) {
  const std::string original = *env_.ReadFile(path_ + "/unet/config.json");
  const auto with = [&](const std::string& key, int value) {
    nlohmann::json config = nlohmann::json::parse(original);
    config[key] = value;
    Write("unet/config.json", config.dump());
    return std::string(ProfileModel(*Open()).status().message());
  };
  EXPECT_THAT(with("in_channels", 9), HasSubstr("Inpainting"));
  EXPECT_THAT(with("cross_attention_dim", 7), HasSubstr("cross_attention_dim is 7"));
  EXPECT_THAT(with("projection_class_embeddings_input_dim", 4000), HasSubstr("pooled text"));
}

}  // namespace
}  // namespace storyfarm::model
