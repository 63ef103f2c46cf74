#include "tools/bench/farm_load/sim_worker.h"

#include <algorithm>
#include <chrono>
#include <variant>

#include "absl/strings/str_cat.h"

namespace storyfarm::bench {
namespace {

constexpr uint64_t kDeviceBytes = 80'000'000'000;
constexpr double kTflops = 700;  // an H100

worker::Self MakeSelf(int number) {
  worker::Self self;
  self.software_version = "farm_load";
  self.node_id = absl::StrCat("load-", number);
  self.node_name = self.node_id;
  self.process = static_cast<uint64_t>(number) + 1;
  farm::v1::DeviceReport device;
  device.set_backend(farm::v1::CUDA);
  device.set_name("null");
  device.set_total_bytes(kDeviceBytes);
  device.set_free_bytes(kDeviceBytes);
  device.set_speed_tflops(kTflops);
  for (const char* dtype : {"fp32", "fp16"}) device.add_dtypes(dtype);
  self.devices.push_back(device);
  return self;
}

farm::v1::DeviceMemory Memory(uint32_t device) {
  farm::v1::DeviceMemory memory;
  memory.set_index(device);
  memory.set_free_bytes(kDeviceBytes);
  return memory;
}

}  // namespace

SimWorker::SimWorker(Fleet* fleet, int number) : fleet_(fleet), number_(number), session_(MakeSelf(number), {}) {}

void SimWorker::Start(const std::shared_ptr<grpc::Channel>& channel) {
  stub_ = farm::v1::WorkerService::NewStub(channel);
  context_.set_wait_for_ready(true);
  stub_->async()->Session(&context_, this);
  AddHold();  // writes start outside of reactions; removed when the reads end
  StartRead(&incoming_);
  StartCall();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    started_ = true;
  }
  Do(worker::Connected{});
  Do(worker::EngineReady{0});
  Do(worker::MemoryMeasured{0, Memory(0)});
}

void SimWorker::Do(worker::Event event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  events_.push_back(std::move(event));
  while (!events_.empty()) {
    worker::Event next = std::move(events_.front());
    events_.pop_front();
    worker::Actions actions = session_.Step(NowMs(), std::move(next));
    for (worker::Action& action : actions) {
      std::visit([this](auto& item) { Take(item); }, action);
    }
  }
}

// ---- The stream ---------------------------------------------------------------------------------------------------

void SimWorker::OnReadDone(bool ok) {
  if (!ok) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
    }
    RemoveHold();
    return;
  }
  if (incoming_.has_welcome()) ++fleet_->tally_.welcomed;
  if (incoming_.has_grant() && incoming_.grant().work().has_frames()) {
    fleet_->tally_.granted += incoming_.grant().tasks_size();
  }
  if (incoming_.has_verdict() && incoming_.verdict().verdict() == farm::v1::STALE) {
    ++fleet_->tally_.stale;
    const std::lock_guard<std::mutex> lock(mutex_);  // its Clear counts for nothing
    finished_.erase({worker::KeyOf(incoming_.verdict().token()), worker::KeyOf(incoming_.verdict().task())});
  }
  Do(worker::CoordinatorSaid{std::move(incoming_)});
  incoming_ = farm::v1::CoordinatorMessage();
  StartRead(&incoming_);
}

void SimWorker::OnWriteDone(bool ok) {
  const std::lock_guard<std::mutex> lock(mutex_);
  writing_ = false;
  outgoing_.pop_front();
  if (ok) WriteNext();
}

void SimWorker::OnDone(const grpc::Status& status) {
  if (!fleet_->stopping_) {
    ++fleet_->tally_.broken;
    fprintf(stderr, "a worker's stream ended: %s\n", status.error_message().c_str());
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  done_ = true;
  changed_.notify_all();
}

void SimWorker::WaitDone() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!started_) return;
  changed_.wait(lock, [this] { return done_; });
}

void SimWorker::WriteNext() {
  if (ended_ || writing_ || outgoing_.empty()) return;
  writing_ = true;
  StartWrite(&outgoing_.front());
}

void SimWorker::Take(worker::Send& action) {
  if (ended_) return;
  if (action.message.has_fault()) fleet_->tally_.faults += action.message.fault().tasks_size();
  outgoing_.push_back(std::move(action.message));
  WriteNext();
}

// ---- The engine that renders nothing ------------------------------------------------------------------------------

void SimWorker::Take(worker::Measure& action) {
  events_.push_back(worker::MemoryMeasured{action.device, Memory(action.device)});
}

void SimWorker::Take(worker::StopEngine& action) {
  farm::v1::Failure failure;
  failure.set_kind(farm::v1::LOST);
  failure.set_message("stopped");
  events_.push_back(worker::EngineEnded{action.device, failure});
}

void SimWorker::Take(worker::StartRun& run) {
  const int frames = run.work.has_frames() ? run.work.frames().frames_size() : 0;
  const int64_t frame_ms = fleet_->FrameMs();
  if (frame_ms == 0 || frames == 0) {
    if (run.work.has_page()) StorePages(run);
    if (run.work.has_text()) events_.push_back(worker::TextStored{run.run, fleet_->shared_});
    for (int i = 0; i < frames; ++i) StoreFrame(run, i);
    return EndRun(run);
  }
  // One frame after the other; the workers' first ones spread over a frame's time.
  const auto shared = std::make_shared<const worker::StartRun>(std::move(run));
  const int64_t first_ms = NowMs() + frame_ms * (number_ + 1) / fleet_->options_.workers;
  for (int i = 0; i < frames; ++i) {
    fleet_->clock_->At(first_ms + i * frame_ms, [this, shared, i, last = i + 1 == frames] {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        StoreFrame(*shared, i);
        if (last) EndRun(*shared);
      }
      Do(worker::Tick{});  // takes what was stored
    });
  }
}

void SimWorker::StorePages(const worker::StartRun& run) {
  worker::PagesStored pages;
  pages.run = run.run;
  if (run.work.page().book()) {
    *pages.result.mutable_pdf() = fleet_->shared_;
    *pages.result.mutable_cbz() = fleet_->shared_;
  } else {
    *pages.result.mutable_png() = fleet_->shared_;
  }
  events_.push_back(std::move(pages));
}

void SimWorker::StoreFrame(const worker::StartRun& run, int index) {
  worker::FrameStored stored;
  stored.run = run.run;
  stored.result.set_panel(run.work.frames().frames(index).panel());
  *stored.result.mutable_image() = fleet_->shared_;
  *stored.result.mutable_latents() = fleet_->shared_;
  if (fleet_->options_.blobs) {
    const uint64_t number = fleet_->next_blob_++;
    *stored.result.mutable_latents() = RefOf(FrameBytes(number));
    blobs_[stored.result.latents().digest()] = number;
  }
  stored.result.set_render_ms(static_cast<uint64_t>(std::max<int64_t>(1, fleet_->FrameMs())));
  stored.result.set_finished_unix_ms(static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count()));
  events_.push_back(std::move(stored));
}

void SimWorker::EndRun(const worker::StartRun& run) {
  worker::RunEnded ended;
  ended.run = run.run;
  ended.render_ms = 1;
  events_.push_back(std::move(ended));
}

// ---- The outbox, without a disk -----------------------------------------------------------------------------------

void SimWorker::Take(worker::Persist& action) {
  const farm::v1::Result& result = action.result;
  finished_[{worker::KeyOf(result.token()), worker::KeyOf(result.task())}] = NowSeconds();
  events_.push_back(worker::Persisted{result.token(), result.task()});
}

void SimWorker::Take(worker::Clear& action) {
  const auto found = finished_.find({worker::KeyOf(action.token), worker::KeyOf(action.task)});
  if (found == finished_.end()) return;
  if (action.task.kind() == farm::v1::TASK_FRAME) {
    ++fleet_->tally_.frames;
    fleet_->tally_.finished_to_cleared.Add((NowSeconds() - found->second) * 1000);
  } else if (action.task.kind() == farm::v1::TASK_PAGE) {
    ++fleet_->tally_.pages;
  }
  finished_.erase(found);
}

void SimWorker::Take(worker::Upload& action) {
  const auto own = blobs_.find(action.blob.digest());
  if (own == blobs_.end()) {  // the shared one: it is there
    events_.push_back(worker::Uploaded{action.blob.digest()});
    return;
  }
  fleet_->uploader_->Post(own->second, action.blob, [this, digest = action.blob.digest()](const absl::Status& status) {
    if (!status.ok()) {
      ++fleet_->tally_.failed_uploads;
      return Do(worker::UploadFailed{digest, std::string(status.message()), false});
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      blobs_.erase(digest);
    }
    Do(worker::Uploaded{digest});
  });
}

}  // namespace storyfarm::bench
