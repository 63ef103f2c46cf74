// Embeddings of prompts through the renderer's door: made once, read instead of encoded.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"
#include "pipeline/render/request.h"
#include "tests/pipeline/render/render_fixture.h"

namespace storyfarm::render {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Text : public Render {
 protected:
  TextFiles Encode(std::vector<std::string> texts, const std::string& name = "text.safetensors") {
    TextRequest request;
    request.model_folder = kModel;
    request.encoders = "the tiny ones";
    request.plan.threads = 1;
    request.texts = std::move(texts);
    request.output_path = temp_.File(name);
    Collector collector;
    const auto done = renderer_->EncodeTexts(request, collector);
    EXPECT_TRUE(done.ok()) << done.status();
    steps_ = collector.steps;
    const auto hashed = base::HashFile(base::Env::Real(), request.output_path);
    EXPECT_TRUE(hashed.ok());
    return {{{request.output_path, hashed->digest.Bytes()}}, "the tiny ones"};
  }
  // A folder of the model without its text encoders' weights.
  std::string ModelWithoutEncoders() {
    const std::string folder = temp_.File("model");
    std::filesystem::copy(kModel, folder, std::filesystem::copy_options::recursive);
    for (const char* encoder : {"/text_encoder", "/text_encoder_2"}) {
      for (const auto& entry : std::filesystem::directory_iterator(folder + encoder)) {
        if (entry.path().extension() == ".safetensors") std::filesystem::remove(entry.path());
      }
    }
    return folder;
  }
  absl::Status Why(FramesRequest request) {
    Collector collector;
    return renderer_->RenderFrames(request, collector).status();
  }
  std::vector<int> steps_;
};

TEST_F(Text, PicturesFromAFileOfEmbeddingsAreThoseOfEncodedPromptsToTheBit) {
  const std::vector<BankFiles> banks = WriteBanks();
  const Collector encoded = RunOk(Read(Readers(), banks));
  std::vector<std::string> texts = {""};
  for (const Frame& frame : Readers()) texts.push_back(frame.prompt);
  FramesRequest request = Read(Readers(), banks);
  request.text = Encode(texts);
  EXPECT_THAT(steps_, ElementsAre(5));
  const Collector read = RunOk(request);
  EXPECT_EQ(read.latents, encoded.latents);
  EXPECT_EQ(read.images, encoded.images);
}

TEST_F(Text, ADeviceThatReadsEmbeddingsNeedsNoEncodersWeights) {
  FramesRequest request = Read({Panel(5, "the mountains at night")}, {});
  request.text = Encode({"the mountains at night", ""});
  const Collector with = RunOk(request);
  request.model_folder = ModelWithoutEncoders();
  EXPECT_EQ(RunOk(request).latents, with.latents);
  IdentityRequest identity = Identity(0, {Panel(0, "a cat")}, temp_.path());
  identity.model_folder = request.model_folder;
  identity.text = Encode({"a cat", ""}, "cat.safetensors");
  Collector collector;
  const auto done = renderer_->RenderIdentity(identity, collector);
  EXPECT_TRUE(done.ok()) << done.status();
  identity.text = {};
  EXPECT_FALSE(renderer_->RenderIdentity(identity, collector).ok());
}

TEST_F(Text, APromptThatIsCutIsToldOfAlsoWhereItComesFromAFile) {
  std::string prompt;
  for (int i = 0; i < 90; ++i) prompt += "cat ";
  FramesRequest request = Read({Panel(0, prompt)}, {});
  request.text = Encode({prompt, ""});
  EXPECT_THAT(RunOk(request).warnings[0], ElementsAre(HasSubstr("cut at 77 tokens")));
}

TEST_F(Text, SeveralFilesTogetherHoldAllPrompts) {
  FramesRequest request = Read({Panel(0, "a cat"), Panel(1, "a dog")}, {});
  request.text = Encode({"a cat", ""}, "cat.safetensors");
  request.text.files.push_back(Encode({"a dog", ""}, "dog.safetensors").files[0]);
  const Collector together = RunOk(request);
  EXPECT_EQ(together.latents, RunOk(Read({Panel(0, "a cat"), Panel(1, "a dog")}, {})).latents);
}

TEST_F(Text, AFileThatIsMissingOrDamagedIsUnavailableAndOneOfOtherEncodersOrPromptsIsRefused) {
  FramesRequest request = Read({Panel(0, "a cat")}, {});
  request.text = Encode({"a cat", ""});
  const std::string path = request.text.files[0].path;
  FramesRequest other = request;
  other.text.encoders = "others";
  EXPECT_EQ(KindOf(Why(other)), FailureKind::kBadInput);
  other = request;
  other.frames[0].prompt = "a dog";
  EXPECT_EQ(KindOf(Why(other)), FailureKind::kBadInput);
  EXPECT_THAT(std::string(Why(other).message()), HasSubstr("a dog"));

  const auto size = std::filesystem::file_size(path);
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary)
      .seekp(static_cast<std::streamoff>(size) - 3)
      .put('x');
  EXPECT_EQ(KindOf(Why(request)), FailureKind::kBlobUnavailable);
  EXPECT_THAT(std::string(Why(request).message()), HasSubstr("damaged"));
  std::filesystem::resize_file(path, size / 2);
  EXPECT_EQ(KindOf(Why(request)), FailureKind::kBlobUnavailable);
  std::filesystem::remove(path);
  EXPECT_EQ(KindOf(Why(request)), FailureKind::kBlobUnavailable);
}

}  // namespace
}  // namespace storyfarm::render
