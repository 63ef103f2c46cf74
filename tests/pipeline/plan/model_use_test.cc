#include "pipeline/plan/model_use.h"

#include <gtest/gtest.h>

namespace storyfarm::plan {
namespace {

TEST(ModelUse, NobodyBringsWeightsOfPartsThatDoNotRun) {
  const struct {
    const char* path;
    bool text, pictures;
  } files[] = {{"text_encoder/model.safetensors", true, false},
               {"text_encoder/model.fp16.safetensors", true, false},
               {"text_encoder_2/model-00001-of-00002.safetensors", true, false},
               {"text_encoder_2/model.safetensors.index.json", true, true},
               {"text_encoder/config.json", true, true},
               {"tokenizer/vocab.json", true, true},
               {"unet/diffusion_pytorch_model.safetensors", false, true},
               {"unet/diffusion_pytorch_model-00001-of-00003.safetensors", false, true},
               {"unet/config.json", true, true},
               {"vae/diffusion_pytorch_model.safetensors", false, true},
               {"vae/config.json", true, true},
               {"scheduler/scheduler_config.json", true, true},
               {"words.txt", true, true},
               {"model_index.json", true, true}};
  for (const auto& [path, text, pictures] : files) {
    farm::v1::ModelFile file;
    file.set_path(path);
    EXPECT_EQ(Needs(ModelUse::kText, file), text) << path;
    EXPECT_EQ(Needs(ModelUse::kPictures, file), pictures) << path;
    EXPECT_TRUE(Needs(ModelUse::kBoth, file)) << path;
  }
}

TEST(ModelUse, IsWhatAWorkDoesAndWhatItsGroupWasPlannedAs) {
  farm::v1::Work work;
  farm::v1::GroupShape shape;
  work.mutable_frames();
  EXPECT_EQ(UseOf(work), ModelUse::kBoth);
  EXPECT_EQ(UseOf(shape), ModelUse::kBoth);
  work.mutable_frames()->mutable_text();
  shape.set_text_from_file(true);
  EXPECT_EQ(UseOf(work), ModelUse::kPictures);
  EXPECT_EQ(UseOf(shape), ModelUse::kPictures);
  work.mutable_identity();
  EXPECT_EQ(UseOf(work), ModelUse::kBoth);
  work.mutable_identity()->mutable_text();
  EXPECT_EQ(UseOf(work), ModelUse::kPictures);
  work.mutable_text();
  shape.set_texts(3);
  EXPECT_EQ(UseOf(work), ModelUse::kText);
  EXPECT_EQ(UseOf(shape), ModelUse::kText);
}

}  // namespace
}  // namespace storyfarm::plan
