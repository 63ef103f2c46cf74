#include "tests/coordinator/rpc/test_farm.h"

#include <cstring>
#include <map>

#include "pipeline/model/model_folder.h"

namespace storyfarm::coordinator {

absl::Status TestFarm::Start(ServerOptions options, std::unique_ptr<Store> store) {
  store_ = store != nullptr ? std::move(store) : std::make_unique<MemoryStore>(disk_);
  options.data_folder = folder_.path();
  if (options.socket_path.empty()) options.socket_path = folder_.path() + "/coordinator.sock";
  options.software_version = "test";
  ServerParts parts;
  parts.env = &base::Env::Real();
  parts.log = &log_;
  parts.log_book = &log_book_;
  parts.store = store_.get();
  parts.random_bits = [] {
    uint64_t bits = 0;
    std::memcpy(&bits, base::Env::Real().RandomBytes(sizeof(bits)).data(), sizeof(bits));
    return bits;
  };
  parts.webhook = webhook;
  parts.open_web = open_web;
  parts.visitor_socket = visitor_socket;
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options, parts);
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  return absl::OkStatus();
}

farm::v1::BlobRef Client::PutAs(const std::string& bytes, const base::Digest& digest, grpc::Status* status) {
  farm::v1::BlobRef blob;
  blob.set_digest(digest.Bytes());
  blob.set_size_bytes(bytes.size());
  grpc::ClientContext context;
  farm::v1::WriteResponse response;
  const auto stream = blobs->Write(&context, &response);
  constexpr size_t kChunk = 512 << 10;
  size_t offset = 0;
  do {
    farm::v1::WriteRequest request;
    if (offset == 0) {
      *request.mutable_blob() = blob;
      request.set_upload_id("test");
    }
    request.set_offset_bytes(offset);
    request.set_data(bytes.substr(offset, kChunk));
    offset += request.data().size();
    if (!stream->Write(request)) break;
  } while (offset < bytes.size());
  stream->WritesDone();
  const grpc::Status ended = stream->Finish();
  if (status != nullptr) {
    *status = ended;
  } else {
    EXPECT_TRUE(ended.ok()) << ended.error_message();
  }
  return blob;
}

std::string Client::Get(const farm::v1::BlobRef& blob) {
  grpc::ClientContext context;
  farm::v1::ReadRequest request;
  request.set_digest(blob.digest());
  const auto stream = blobs->Read(&context, request);
  std::string bytes;
  farm::v1::ReadResponse response;
  while (stream->Read(&response)) bytes += response.data();
  const grpc::Status ended = stream->Finish();
  EXPECT_TRUE(ended.ok()) << ended.error_message();
  return bytes;
}

farm::v1::ModelManifest Client::UploadModel(const std::string& name, const std::string& folder) {
  farm::v1::ModelManifest manifest;
  manifest.set_name(name);
  base::Env& env = base::Env::Real();
  const auto model = model::ModelFolder::Open(env, folder);
  EXPECT_TRUE(model.ok()) << model.status();
  if (!model.ok()) return manifest;
  const auto files = model->Files();
  EXPECT_TRUE(files.ok()) << files.status();
  std::vector<model::ModelFileEntry> entries;
  for (const std::string& path : *files) {
    const auto bytes = env.ReadFile(folder + "/" + path);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    farm::v1::ModelFile* file = manifest.add_files();
    file->set_path(path);
    *file->mutable_blob() = Put(*bytes);
    entries.push_back({path, base::Digest::Of(*bytes), bytes->size()});
  }
  manifest.set_digest(model::ManifestDigest(entries).Bytes());
  return manifest;
}

void Client::AddTinyModel() {
  farm::v1::AddModelRequest request;
  *request.mutable_model() = UploadModel("tiny", std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tiny_sdxl");
  grpc::ClientContext context;
  farm::v1::ModelManifest answer;
  const grpc::Status status = farm->AddModel(&context, request, &answer);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_GT(answer.profile().unet_parameters(), 0u);
}

grpc::Status Client::Submit(const std::string& key, const std::string& story, farm::v1::SubmitResponse* response,
                            const std::string& settings) {
  farm::v1::SubmitRequest request;
  request.set_idempotency_key(key);
  request.set_story(story);
  request.set_file_name("story.yaml");
  request.set_model("tiny");
  request.set_settings(settings);
  grpc::ClientContext context;
  return farm->Submit(&context, request, response);
}

std::string Client::MustSubmit(const std::string& key, const std::string& story) {
  farm::v1::SubmitResponse response;
  const grpc::Status status = Submit(key, story, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.job_id();
}

grpc::Status Client::GetJob(const std::string& job_id, farm::v1::JobStatus* status, bool tasks) {
  farm::v1::GetJobRequest request;
  request.set_job_id(job_id);
  request.set_with_tasks(tasks);
  grpc::ClientContext context;
  return farm->GetJob(&context, request, status);
}

std::vector<farm::v1::JobStatus> Client::WatchToTheEnd(const std::string& job_id) {
  farm::v1::GetJobRequest request;
  request.set_job_id(job_id);
  grpc::ClientContext context;
  const auto stream = farm->WatchJob(&context, request);
  std::vector<farm::v1::JobStatus> seen;
  farm::v1::JobStatus status;
  while (stream->Read(&status)) seen.push_back(status);
  const grpc::Status ended = stream->Finish();
  EXPECT_TRUE(ended.ok()) << ended.error_message();
  return seen;
}

}  // namespace storyfarm::coordinator
