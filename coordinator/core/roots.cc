// What lives in the blob store and in the archive on the farm's behalf.
#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {

void CollectBlobs(const google::protobuf::Message& message, BlobSizes* blobs) {
  if (message.GetDescriptor() == farm::v1::BlobRef::descriptor()) {
    const auto& blob = static_cast<const farm::v1::BlobRef&>(message);
    if (!blob.digest().empty()) (*blobs)[blob.digest()] = blob.size_bytes();
    return;
  }
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const google::protobuf::FieldDescriptor* field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      CollectBlobs(reflection.GetMessage(message, field), blobs);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      CollectBlobs(reflection.GetRepeatedMessage(message, field, i), blobs);
    }
  }
}

std::vector<std::string> Farm::ArchivedJobs() const {
  std::vector<std::string> ids;
  for (const auto& [id, ordinal] : parts_->state.archived_ordinals()) ids.push_back(id);
  return ids;
}

BlobSizes Farm::LiveBlobs() const {
  BlobSizes blobs;
  const State& state = parts_->state;
  for (const auto& [name, model] : state.models()) CollectBlobs(model, &blobs);
  for (const auto& [key, pack] : state.packs().packs()) {
    if (!pack.lost) CollectBlobs(pack.manifest, &blobs);
  }
  for (const auto& [key, entry] : state.texts().entries()) CollectBlobs(entry.embeddings, &blobs);
  for (const auto& [id, job] : state.jobs()) {
    CollectBlobs(job.head(), &blobs);
    for (uint32_t i = 0; i < job.size(farm::v1::TASK_TEXT); ++i) {
      if (const farm::v1::BlobRef* embeddings = job.EmbeddingsOf(i)) CollectBlobs(*embeddings, &blobs);
    }
    for (uint32_t i = 0; i < job.size(farm::v1::TASK_IDENTITY); ++i) {
      if (const farm::v1::Bank* bank = job.BankOf(i)) CollectBlobs(*bank, &blobs);
    }
    for (uint32_t i = 0; i < job.size(farm::v1::TASK_FRAME); ++i) {
      if (const auto result = job.FrameResultOf(i)) CollectBlobs(*result, &blobs);
    }
    for (uint32_t i = 0; i < job.size(farm::v1::TASK_PAGE); ++i) {
      if (const farm::v1::PageResult* result = job.PageResultOf(i)) CollectBlobs(*result, &blobs);
    }
  }
  return blobs;
}

}  // namespace storyfarm::coordinator
