#include "tools/bench/farm_load/probes.h"

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>

#include "absl/strings/str_cat.h"
#include "farm/v1/client.grpc.pb.h"
#include "farm/v1/session.grpc.pb.h"
#include "tools/bench/farm_load/stories.h"
#include "worker/core/limits.h"

namespace storyfarm::bench {
namespace {

constexpr auto kHeartbeatPause = std::chrono::milliseconds(25);
constexpr auto kStatusPause = std::chrono::milliseconds(20);
constexpr auto kSubmitPause = std::chrono::milliseconds(200);
constexpr int kSmallStory = 12;
constexpr int kOverloadConnections = 16;

// A machine without a device: it gets no work.
farm::v1::WorkerMessage ProbeHello() {
  farm::v1::WorkerMessage message;
  farm::v1::Hello& hello = *message.mutable_hello();
  hello.set_protocol_version(worker::kProtocolVersion);
  hello.set_software_version("farm_load");
  hello.set_node_id("load-probe");
  hello.set_node_name("load-probe");
  return message;
}

}  // namespace

Probes::Probes(const FarmProcess& farm, ProbeResults* results) : farm_(farm), results_(results) {
  threads_.emplace_back([this] { Heartbeats(); });
  threads_.emplace_back([this] { Statuses(); });
  threads_.emplace_back([this] { Submits(); });
}

Probes::~Probes() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
}

void Probes::Heartbeats() {
  const auto stub = farm::v1::WorkerService::NewStub(farm_.ConnectAsWorker());
  grpc::ClientContext context;
  const auto stream = stub->Session(&context);
  farm::v1::CoordinatorMessage answer;
  bool ok = stream->Write(ProbeHello()) && stream->Read(&answer) && answer.has_welcome();
  farm::v1::WorkerMessage heartbeat;
  heartbeat.mutable_heartbeat();
  farm::v1::WorkerMessage result;
  result.mutable_result()->mutable_token()->set_number(1);
  result.mutable_result()->mutable_task()->set_job_id("j-none");
  result.mutable_result()->mutable_task()->set_kind(farm::v1::TASK_FRAME);
  result.mutable_result()->mutable_frame();
  while (ok && !stopping_) {
    const double began = NowSeconds();
    ok = stream->Write(heartbeat) && stream->Write(result) && stream->Read(&answer) && answer.has_verdict();
    if (ok) results_->heartbeat.Add((NowSeconds() - began) * 1000);
    std::this_thread::sleep_for(kHeartbeatPause);
  }
  if (!ok) ++results_->failed;
  if (!ok) fprintf(stderr, "the heartbeats' session had another answer: %s\n", answer.ShortDebugString().c_str());
  context.TryCancel();
  const grpc::Status status = stream->Finish();
  if (status.error_code() != grpc::StatusCode::CANCELLED) {
    fprintf(stderr, "the heartbeats' session ended: %s\n", status.error_message().c_str());
  }
}

void Probes::Statuses() {
  const auto stub = farm::v1::ClientService::NewStub(farm_.Connect());
  farm::v1::SubmitResponse job;
  {
    grpc::ClientContext context;
    if (!stub->Submit(&context, StoryOf("status", kSmallStory), &job).ok()) ++results_->failed;
  }
  while (!stopping_) {
    grpc::ClientContext context;
    farm::v1::GetJobRequest request;
    request.set_job_id(job.job_id());
    farm::v1::JobStatus status;
    const double began = NowSeconds();
    if (!stub->GetJob(&context, request, &status).ok()) ++results_->failed;
    results_->status.Add((NowSeconds() - began) * 1000);
    std::this_thread::sleep_for(kStatusPause);
  }
}

void Probes::Submits() {
  const auto stub = farm::v1::ClientService::NewStub(farm_.Connect());
  for (int number = 0; !stopping_; ++number) {
    grpc::ClientContext context;
    farm::v1::SubmitResponse response;
    const double began = NowSeconds();
    if (!stub->Submit(&context, StoryOf(absl::StrCat("probe-", number), kSmallStory), &response).ok()) {
      ++results_->failed;
    }
    results_->submit.Add((NowSeconds() - began) * 1000);
    std::this_thread::sleep_for(kSubmitPause);
  }
}

OverloadResults Overload(const FarmProcess& farm, int calls) {
  struct Call {
    grpc::ClientContext context;
    farm::v1::GetJobRequest get;
    farm::v1::JobStatus status;
    farm::v1::SubmitResponse submitted;
  };
  std::vector<std::unique_ptr<farm::v1::ClientService::Stub>> stubs;
  for (int i = 0; i < kOverloadConnections; ++i) {
    stubs.push_back(farm::v1::ClientService::NewStub(farm.Connect()));
  }
  const farm::v1::SubmitRequest story = StoryOf("status", kSmallStory);  // it exists: no new jobs
  OverloadResults results;
  results.calls = calls;
  std::mutex mutex;
  std::condition_variable changed;
  int open = calls;
  std::deque<Call> all(static_cast<size_t>(calls));
  const double began = NowSeconds();
  for (int i = 0; i < calls; ++i) {
    Call& call = all[static_cast<size_t>(i)];
    const auto done = [&, i](const grpc::Status& status) {
      const auto& trailers = all[static_cast<size_t>(i)].context.GetServerTrailingMetadata();
      const std::lock_guard<std::mutex> lock(mutex);
      if (status.ok() || status.error_code() == grpc::StatusCode::NOT_FOUND) {
        ++results.served;
      } else if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED &&
                 trailers.count("grpc-retry-pushback-ms") > 0) {
        ++results.refused;
      } else {
        ++results.unexplained;
        if (results.unexplained <= 3) fprintf(stderr, "unexpected answer: %s\n", status.error_message().c_str());
      }
      if (--open == 0) changed.notify_all();
    };
    auto* const async = stubs[static_cast<size_t>(i % kOverloadConnections)]->async();
    if (i % 2 == 0) {
      call.get.set_job_id("j-none");
      async->GetJob(&call.context, &call.get, &call.status, done);
    } else {
      async->Submit(&call.context, &story, &call.submitted, done);
    }
  }
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait(lock, [&] { return open == 0; });
  results.seconds = NowSeconds() - began;
  return results;
}

}  // namespace storyfarm::bench
