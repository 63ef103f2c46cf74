#include "tests/coordinator/rpc/scripted_worker.h"

#include "absl/strings/str_cat.h"
#include "coordinator/core/limits.h"

namespace storyfarm::coordinator {
namespace {

std::string NameOf(const farm::v1::TaskId& task) {
  return absl::StrCat(task.job_id(), "/", static_cast<int>(task.kind()), "/", task.number());
}

farm::v1::BlobRef Blob(Client& client, const std::string& bytes, bool upload) {
  if (upload) return client.Put(bytes);
  farm::v1::BlobRef blob;
  blob.set_digest(base::Digest::Of(bytes).Bytes());
  blob.set_size_bytes(bytes.size());
  return blob;
}

farm::v1::FrameResult FrameOf(Client& client, const std::string& job_id, uint32_t panel, bool upload) {
  farm::v1::FrameResult result;
  result.set_panel(panel);
  *result.mutable_image() = Blob(client, absl::StrCat("image ", job_id, " ", panel), upload);
  *result.mutable_latents() = Blob(client, absl::StrCat("latents ", job_id, " ", panel), upload);
  result.set_render_ms(7);
  result.add_warnings("a warning");
  return result;
}

}  // namespace

farm::v1::Hello HelloOf(const std::string& node) {
  farm::v1::Hello hello;
  hello.set_protocol_version(kProtocolVersion);
  hello.set_software_version("test");
  hello.set_node_id(node);
  hello.set_node_name(node);
  farm::v1::DeviceReport* device = hello.add_devices();
  device->set_backend(farm::v1::CPU);
  device->set_name("scripted");
  device->set_total_bytes(uint64_t{16} << 30);
  device->set_free_bytes(uint64_t{12} << 30);
  device->set_unified(true);
  device->set_speed_tflops(0.1);
  device->set_threads(2);
  device->add_dtypes("fp32");
  return hello;
}

std::vector<farm::v1::WorkerMessage> ResultsOf(Client& client, const farm::v1::Grant& grant, bool upload) {
  std::vector<farm::v1::WorkerMessage> messages;
  for (const farm::v1::TaskId& task : grant.tasks()) {
    farm::v1::WorkerMessage& message = messages.emplace_back();
    farm::v1::Result* result = message.mutable_result();
    *result->mutable_token() = grant.token();
    *result->mutable_task() = task;
    if (grant.work().has_frames()) *result->mutable_frame() = FrameOf(client, task.job_id(), task.number(), upload);
    if (grant.work().has_identity()) {
      const farm::v1::IdentityWork& work = grant.work().identity();
      for (const farm::v1::Frame& frame : work.frames()) {
        if (frame.hidden()) continue;
        *result->mutable_identity()->add_frames() = FrameOf(client, task.job_id(), frame.panel(), upload);
      }
      farm::v1::Bank* bank = result->mutable_identity()->mutable_bank();
      bank->set_character(work.character());
      bank->set_character_key(work.character_key());
      bank->set_identity_frames(static_cast<uint32_t>(work.frames_size()));
      for (uint32_t step = 0; step < work.settings().steps(); ++step) {
        farm::v1::BlobRef* blob = bank->add_steps();
        if (work.keep_bank() && step > 0) *blob = Blob(client, absl::StrCat("bank ", NameOf(task), " ", step), upload);
      }
    }
    if (grant.work().has_text()) {
      *result->mutable_text()->mutable_embeddings() = Blob(client, absl::StrCat("text ", NameOf(task)), upload);
    }
    if (grant.work().has_page()) {
      farm::v1::PageResult* page = result->mutable_page();
      if (grant.work().page().book()) {
        *page->mutable_pdf() = Blob(client, absl::StrCat("pdf ", task.job_id()), upload);
        *page->mutable_cbz() = Blob(client, absl::StrCat("cbz ", task.job_id()), upload);
      } else {
        *page->mutable_png() = Blob(client, absl::StrCat("page ", NameOf(task)), upload);
      }
    }
  }
  return messages;
}

ScriptedWorker::ScriptedWorker(Client client, const std::string& node, int results) : client_(std::move(client)) {
  stream_ = client_.workers->Session(&context_);
  thread_ = std::thread([this, node, results] { Main(node, results); });
}

void ScriptedWorker::Main(const std::string& node, int results) {
  farm::v1::WorkerMessage hello;
  *hello.mutable_hello() = HelloOf(node);
  stream_->Write(hello);
  farm::v1::CoordinatorMessage message;
  while (stream_->Read(&message)) {
    if (message.has_grant() && results > 0) {
      for (const farm::v1::WorkerMessage& result : ResultsOf(client_, message.grant(), true)) {
        if (results-- > 0) stream_->Write(result);
      }
    }
    if (message.has_verdict() && message.verdict().verdict() == farm::v1::ACCEPTED) {
      std::lock_guard<std::mutex> lock(mutex_);
      done_.push_back(NameOf(message.verdict().task()));
      changed_.notify_all();
    }
  }
  const grpc::Status status = stream_->Finish();
  std::lock_guard<std::mutex> lock(mutex_);
  status_ = status;
  ended_ = true;
  changed_.notify_all();
}

grpc::Status ScriptedWorker::Stop() {
  context_.TryCancel();
  if (thread_.joinable()) thread_.join();
  return status_;
}

grpc::Status ScriptedWorker::WaitForEnd() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return ended_; });
  return status_;
}

bool ScriptedWorker::WaitForAccepted(int count) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return ended_ || static_cast<int>(done_.size()) >= count; });
  return static_cast<int>(done_.size()) >= count;
}

std::vector<std::string> ScriptedWorker::done() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return done_;
}

}  // namespace storyfarm::coordinator
