#include "tools/bench/farm_load/stories.h"

#include <grpcpp/client_context.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"
#include "pipeline/model/model_folder.h"
#include "tools/bench/farm_load/uploader.h"

namespace storyfarm::bench {
namespace {

constexpr int kPanelsAChapter = 200;
constexpr char kModel[] = "tiny";

}  // namespace

farm::v1::SubmitRequest StoryOf(const std::string& key, int panels) {
  std::string story = "title: Load\nchapters:\n";
  for (int panel = 0; panel < panels; ++panel) {
    if (panel % kPanelsAChapter == 0) absl::StrAppend(&story, "  - panels:\n");
    absl::StrAppend(&story, "      - \"[NC] the tree in its year ", panel, "\"\n");
  }
  absl::StrAppend(&story, "settings:\n  steps: 3\n");
  farm::v1::SubmitRequest request;
  request.set_idempotency_key(key);
  request.set_story(std::move(story));
  request.set_file_name("load.yaml");
  request.set_model(kModel);
  return request;
}

absl::Status AddModel(const FarmProcess& farm) {
  const std::string folder = STORYFARM_SOURCE_DIR "/tests/data/tiny_sdxl";
  base::Env& env = base::Env::Real();
  const auto model = model::ModelFolder::Open(env, folder);
  if (!model.ok()) return model.status();
  const auto files = model->Files();
  if (!files.ok()) return files.status();
  const auto channel = farm.Connect();
  const auto blobs = farm::v1::BlobService::NewStub(channel);
  farm::v1::AddModelRequest request;
  request.mutable_model()->set_name(kModel);
  std::vector<model::ModelFileEntry> entries;
  for (const std::string& path : *files) {
    const auto bytes = env.ReadFile(folder + "/" + path);
    if (!bytes.ok()) return bytes.status();
    entries.push_back({path, base::Digest::Of(*bytes), bytes->size()});
    farm::v1::ModelFile& file = *request.mutable_model()->add_files();
    file.set_path(path);
    *file.mutable_blob() = RefOf(*bytes);
    if (absl::Status status = Upload(*blobs, file.blob(), *bytes, "model"); !status.ok()) return status;
  }
  request.mutable_model()->set_digest(model::ManifestDigest(std::move(entries)).Bytes());
  grpc::ClientContext context;
  farm::v1::ModelManifest answer;
  const grpc::Status status = farm::v1::ClientService::NewStub(channel)->AddModel(&context, request, &answer);
  if (status.ok()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("The model ", folder, " was not accepted: ", status.error_message()));
}

absl::Status SubmitStories(const FarmProcess& farm, const std::string& key, int frames, Latencies* took) {
  const auto stub = farm::v1::ClientService::NewStub(farm.Connect());
  for (int number = 0; frames > 0; ++number) {
    const int panels = std::min(frames, kMostPanels);
    const farm::v1::SubmitRequest request = StoryOf(absl::StrCat(key, "-", number), panels);
    grpc::ClientContext context;
    farm::v1::SubmitResponse response;
    const double began = NowSeconds();
    const grpc::Status status = stub->Submit(&context, request, &response);
    if (!status.ok()) {
      return absl::InternalError(absl::StrCat("Story ", number, " was not accepted: ", status.error_message()));
    }
    took->Add((NowSeconds() - began) * 1000);
    frames -= panels;
  }
  return absl::OkStatus();
}

}  // namespace storyfarm::bench
