// What loading refuses and accepts, and what UNet and VAE promise beyond single numbers.
#include "pipeline/sdxl/sdxl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/model/safetensors.h"

namespace storyfarm::sdxl {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

// A tensor of a checkpoint that a test is about to change.
struct Entry {
  std::string name;
  model::TensorType type;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

class SdxlTest : public ::testing::Test {
 protected:
  SdxlTest() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / ("storyfarm_sdxl_" + std::to_string(::getpid()) + "_" + info->name());
    fs::remove_all(folder_);
    fs::copy(fs::path(STORYFARM_SOURCE_DIR) / "tests/data/tiny_sdxl", folder_, fs::copy_options::recursive);
  }
  ~SdxlTest() override { fs::remove_all(folder_); }

  model::ModelFolder Folder() const {
    auto folder = model::ModelFolder::Open(base::Env::Real(), folder_.string());
    EXPECT_TRUE(folder.ok()) << folder.status();
    return *std::move(folder);
  }

  // Rewrites a component's file with its tensors changed.
  void Change(const std::string& file, const std::function<void(std::vector<Entry>&)>& change) const {
    const std::string path = (folder_ / file).string();
    std::vector<Entry> entries;
    {
      const auto stored = model::SafetensorsFile::Open(path);
      ASSERT_TRUE(stored.ok()) << stored.status();
      for (const model::TensorInfo& info : (*stored)->tensors()) {
        const auto bytes = (*stored)->Bytes(info);
        entries.push_back({info.name, info.type, info.shape, {bytes.begin(), bytes.end()}});
      }
    }
    change(entries);
    std::vector<model::TensorToWrite> tensors;
    for (const Entry& entry : entries) tensors.push_back({entry.name, entry.type, entry.shape, entry.bytes});
    const absl::Status written = model::WriteSafetensors(base::Env::Real(), path, tensors);
    ASSERT_TRUE(written.ok()) << written;
  }

  fs::path folder_;
};

constexpr char kUNetFile[] = "unet/diffusion_pytorch_model.safetensors";
constexpr char kVaeFile[] = "vae/diffusion_pytorch_model.safetensors";
constexpr char kTextFile[] = "text_encoder/model.safetensors";

Entry& Named(std::vector<Entry>& entries, const std::string& name) {
  for (Entry& entry : entries) {
    if (entry.name == name) return entry;
  }
  ADD_FAILURE() << "no tensor " << name;
  return entries.front();
}

Entry Zeros(const std::string& name, std::vector<int64_t> shape) {
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  return {name, model::TensorType::kF32, std::move(shape), std::vector<std::byte>(static_cast<size_t>(elements) * 4)};
}

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

UNetInput SomeInput(int64_t batch, int64_t height, int64_t width) {
  at::manual_seed(7);
  return {.latents = at::randn({batch, 4, height, width}),
          .timestep = 500,
          .encoder_hidden_states = at::randn({batch, 77, 32}),
          .pooled = at::randn({batch, 24}),
          .time_ids = at::tensor({64.f, 64.f, 0.f, 0.f, 64.f, 64.f}).repeat({batch, 1})};
}

double Difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

TEST_F(SdxlTest, MissingTensorIsNamedWithItsFileAndShape) {
  Change(kUNetFile, [](std::vector<Entry>& entries) {
    std::erase_if(entries, [](const Entry& entry) { return entry.name == "conv_in.weight"; });
  });
  const auto unet = LoadUNet(Folder(), {});
  EXPECT_EQ(unet.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(unet.status()),
              AllOf(HasSubstr("\"conv_in.weight\" [8, 4, 3, 3] is missing"), HasSubstr(kUNetFile)));
}

TEST_F(SdxlTest, SurplusTensorIsNamedWithItsFileAndShape) {
  Change(kUNetFile, [](std::vector<Entry>& entries) { entries.push_back(Zeros("label_emb.0.weight", {2, 3})); });
  const auto unet = LoadUNet(Folder(), {});
  EXPECT_EQ(unet.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(unet.status()), AllOf(HasSubstr("\"label_emb.0.weight\" [2, 3]"), HasSubstr(kUNetFile)));
}

TEST_F(SdxlTest, MisshapedTensorIsNamedWithBothShapes) {
  Change(kVaeFile, [](std::vector<Entry>& entries) { Named(entries, "decoder.conv_in.weight").shape = {4, 16, 3, 3}; });
  const auto vae = LoadVae(Folder(), {});
  EXPECT_EQ(vae.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(vae.status()), AllOf(HasSubstr("\"decoder.conv_in.weight\" has shape [4, 16, 3, 3]"),
                                             HasSubstr("[16, 4, 3, 3]"), HasSubstr(kVaeFile)));
}

TEST_F(SdxlTest, AllProblemsAreToldAtOnceUpToALimit) {
  Change(kUNetFile, [](std::vector<Entry>& entries) {
    for (Entry& entry : entries) entry.name = "model." + entry.name;
  });
  const std::string message = MessageOf(LoadUNet(Folder(), {}).status());
  EXPECT_THAT(message, AllOf(HasSubstr("is missing"), HasSubstr(" more")));
  EXPECT_LT(message.size(), 4000u);
}

TEST_F(SdxlTest, IntegerWeightsAreRefused) {
  Change(kVaeFile, [](std::vector<Entry>& entries) {
    Entry& entry = Named(entries, "quant_conv.bias");
    entry.type = model::TensorType::kU8;
    entry.bytes.resize(8);
  });
  const auto vae = LoadVae(Folder(), {});
  EXPECT_EQ(vae.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(MessageOf(vae.status()), AllOf(HasSubstr("quant_conv.bias"), HasSubstr("U8")));
}

TEST_F(SdxlTest, OldNamesOfTheVaesAttentionAreUnderstood) {
  const at::Tensor latents = SomeInput(1, 8, 8).latents;
  const at::Tensor expected = (*LoadVae(Folder(), {}))->Decode(latents);
  const std::vector<std::pair<std::string, std::string>> renamed = {
      {".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}};
  Change(kVaeFile, [&](std::vector<Entry>& entries) {
    for (Entry& entry : entries) {
      for (const auto& [now, before] : renamed) {
        if (const size_t at = entry.name.find(now); at != std::string::npos) entry.name.replace(at, now.size(), before);
      }
    }
  });
  const auto vae = LoadVae(Folder(), {});
  ASSERT_TRUE(vae.ok()) << vae.status();
  EXPECT_EQ(Difference((*vae)->Decode(latents), expected), 0);
}

TEST_F(SdxlTest, TextEncodersLoadUnderBothNamingsAndWithPositionIds) {
  const std::vector<std::vector<int32_t>> ids = {std::vector<int32_t>(77, 707)};
  const at::Tensor expected = (*LoadTextEncoders(Folder(), {}))->Encode(ids, ids).embeds;
  Change(kTextFile, [](std::vector<Entry>& entries) {
    for (Entry& entry : entries) entry.name = "text_model." + entry.name;
    entries.push_back({"text_model.embeddings.position_ids",
                       model::TensorType::kI64,
                       {1, 77},
                       std::vector<std::byte>(77 * sizeof(int64_t))});
  });
  const auto encoders = LoadTextEncoders(Folder(), {});
  ASSERT_TRUE(encoders.ok()) << encoders.status();
  EXPECT_EQ(Difference((*encoders)->Encode(ids, ids).embeds, expected), 0);
}

TEST_F(SdxlTest, WeightsStayMappedWhereFormatAndDeviceAgree) {
  auto weights = Weights::Open(Folder(), "unet", {});
  ASSERT_TRUE(weights.ok()) << weights.status();
  const auto file = model::SafetensorsFile::Open((folder_ / kUNetFile).string());
  ASSERT_TRUE(file.ok());
  const at::Tensor taken = weights->Take("conv_in.weight", {8, 4, 3, 3});
  EXPECT_FALSE(taken.storage().resizable()) << "a view of memory that torch does not own";
  EXPECT_EQ(std::memcmp(taken.data_ptr(), (*file)->Bytes(*(*file)->Find("conv_in.weight")).data(), taken.nbytes()), 0);
}

// Gives back plain self-attention and writes down where it was asked.
class RecordingHook : public SelfAttentionHook {
 public:
  struct Call {
    int64_t layer, height, width, tokens, channels;
  };
  at::Tensor Attend(const SelfAttentionSite& site, const at::Tensor& x) override {
    calls.push_back({site.layer, site.height, site.width, x.size(1), x.size(2)});
    return site.attention(x);
  }
  std::vector<Call> calls;
};

TEST_F(SdxlTest, HookIsCalledAtEverySiteInOrderAndPlainAttentionChangesNothing) {
  const auto unet = LoadUNet(Folder(), {});
  ASSERT_TRUE(unet.ok()) << unet.status();
  const auto& layers = (*unet)->self_attention_layers();
  ASSERT_EQ(layers.size(), 9u);  // three transformers of two blocks, then three of one
  EXPECT_EQ(layers[0].name, "up_blocks.0.attentions.0.transformer_blocks.0.attn1");
  EXPECT_EQ(layers[5].name, "up_blocks.0.attentions.2.transformer_blocks.1.attn1");
  EXPECT_EQ(layers[8].name, "up_blocks.1.attentions.2.transformer_blocks.0.attn1");

  const UNetInput input = SomeInput(2, 13, 10);
  RecordingHook hook;
  EXPECT_EQ(Difference((*unet)->Forward(input, &hook), (*unet)->Forward(input)), 0);
  ASSERT_EQ(hook.calls.size(), layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    const RecordingHook::Call& call = hook.calls[i];
    EXPECT_EQ(call.layer, static_cast<int64_t>(i));
    EXPECT_EQ(call.height, (13 + layers[i].downsampling - 1) / layers[i].downsampling);
    EXPECT_EQ(call.width, (10 + layers[i].downsampling - 1) / layers[i].downsampling);
    EXPECT_EQ(call.tokens, call.height * call.width);
    EXPECT_EQ(call.channels, layers[i].channels);
  }
}

TEST_F(SdxlTest, ImagesOfABatchDoNotTouchEachOther) {
  const auto unet = LoadUNet(Folder(), {});
  ASSERT_TRUE(unet.ok()) << unet.status();
  const UNetInput both = SomeInput(2, 8, 8);
  UNetInput second = both;
  for (at::Tensor* part : {&second.latents, &second.encoder_hidden_states, &second.pooled, &second.time_ids}) {
    *part = part->narrow(0, 1, 1);
  }
  EXPECT_LT(Difference((*unet)->Forward(both).narrow(0, 1, 1), (*unet)->Forward(second)), 1e-5);
}

TEST_F(SdxlTest, SixteenBitFloatsGiveNearlyTheSame) {
  const UNetInput input = SomeInput(1, 8, 8);
  const at::Tensor exact = (*LoadUNet(Folder(), {}))->Forward(input);
  const auto unet = LoadUNet(Folder(), {.dtype = at::kBFloat16});
  ASSERT_TRUE(unet.ok()) << unet.status();
  const at::Tensor rough = (*unet)->Forward(input);
  EXPECT_EQ(rough.scalar_type(), at::kBFloat16);
  const double difference = Difference(rough.to(at::kFloat), exact) / exact.abs().max().item<double>();
  EXPECT_GT(difference, 0);
  EXPECT_LT(difference, 0.1);  // 8 bits of mantissa through 60 layers
}

TEST_F(SdxlTest, AVaeThatOverflowsRunsInFloat32) {
  const auto vae = LoadVae(Folder(), {.dtype = at::kHalf});  // force_upcast is true in this model
  ASSERT_TRUE(vae.ok()) << vae.status();
  EXPECT_EQ((*vae)->placement().dtype, at::kFloat);
}

TEST(ToRgb8Test, RoundsHalvesToEvenAndClamps) {
  const at::Tensor x = at::tensor({-3.0f, -1.0f, 0.0f, 1.0f / 255, 1.0f, 7.0f}).view({1, 1, 2, 3}).expand({1, 3, 2, 3});
  const at::Tensor rgb = ToRgb8(x);
  ASSERT_EQ(rgb.sizes(), at::IntArrayRef({1, 2, 3, 3}));
  std::vector<int> red;
  for (int i = 0; i < 6; ++i) red.push_back(rgb.view({6, 3})[i][0].item<int>());
  EXPECT_EQ(red, (std::vector<int>{0, 0, 128, 128, 255, 255}));  // 127.5 -> 128; 128.0 -> 128
}

}  // namespace
}  // namespace storyfarm::sdxl
