// A farm for the web server's tests: it answers what it was told to, and remembers what it was asked to do.
#ifndef STORYFARM_TESTS_COORDINATOR_WEB_FAKE_DOOR_H_
#define STORYFARM_TESTS_COORDINATOR_WEB_FAKE_DOOR_H_

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/web/farm_door.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {

class FakeDoor : public FarmDoor {
 public:
  // Set before it is asked.
  absl::Status trouble;  // of every call
  farm::v1::ListJobsResponse jobs;
  farm::v1::ListNodesResponse nodes;
  farm::v1::Figures figures;
  std::map<std::string, std::vector<std::string>> blobs;  // pieces by digest

  absl::StatusOr<farm::v1::ListJobsResponse> ListJobs(const farm::v1::ListJobsRequest&) override { return Give(jobs); }
  absl::StatusOr<farm::v1::JobStatus> GetJob(const farm::v1::GetJobRequest& request) override {
    for (const auto& job : jobs.jobs()) {
      if (job.job_id() == request.job_id()) return Give(job);
    }
    return absl::NotFoundError(absl::StrCat("there is no job ", request.job_id()));
  }
  absl::StatusOr<farm::v1::ListOutputsResponse> ListOutputs(const farm::v1::ListOutputsRequest&) override {
    return Give(farm::v1::ListOutputsResponse());
  }
  absl::StatusOr<farm::v1::Explanation> ExplainTask(const farm::v1::ExplainTaskRequest& request) override {
    farm::v1::Explanation explanation;
    *explanation.mutable_task() = request.task();
    explanation.add_sentences("It waits.");
    return Give(explanation);
  }
  absl::StatusOr<farm::v1::ListNodesResponse> ListNodes() override { return Give(nodes); }
  absl::StatusOr<farm::v1::Figures> GetFigures() override { return Give(figures); }
  absl::StatusOr<farm::v1::JobStatus> ChangeJob(const farm::v1::ChangeJobRequest& request) override {
    std::string what = absl::StrCat("change ", request.job_id());
    if (request.has_paused()) absl::StrAppend(&what, request.paused() ? " pause" : " resume");
    if (request.has_priority()) absl::StrAppend(&what, " priority ", request.priority());
    return Do(what, farm::v1::JobStatus());
  }
  absl::StatusOr<farm::v1::JobStatus> CancelJob(const farm::v1::CancelJobRequest& request) override {
    return Do(absl::StrCat("cancel ", request.job_id()), farm::v1::JobStatus());
  }
  absl::StatusOr<farm::v1::JobStatus> RetryJob(const farm::v1::RetryJobRequest& request) override {
    const std::string task = request.has_task() ? absl::StrCat(" ", plan::TaskName(request.task())) : "";
    return Do(absl::StrCat("retry ", request.job_id(), task), farm::v1::JobStatus());
  }
  absl::StatusOr<farm::v1::ReadLogResponse> ReadLog(const farm::v1::ReadLogRequest& request) override {
    farm::v1::ReadLogResponse log;
    log.add_lines()->set_event(absl::StrCat("of ", plan::TaskName(request.task())));
    return Give(log);
  }
  absl::StatusOr<farm::v1::RemoveJobResponse> RemoveJob(const farm::v1::RemoveJobRequest& request) override {
    return Do(absl::StrCat("remove ", request.job_id()), farm::v1::RemoveJobResponse());
  }
  absl::StatusOr<farm::v1::NodeStatus> DrainNode(const farm::v1::DrainNodeRequest& request) override {
    return Do(absl::StrCat(request.drained() ? "drain " : "undrain ", request.node(), request.at_once() ? " now" : ""),
              farm::v1::NodeStatus());
  }
  std::unique_ptr<JobStream> WatchJob(const std::string& job_id) override {
    return std::make_unique<Stream>(this, job_id);
  }
  absl::StatusOr<std::unique_ptr<BlobStream>> ReadBlob(const std::string& digest) override {
    if (!trouble.ok()) return trouble;
    const auto found = blobs.find(digest);
    if (found == blobs.end()) return absl::NotFoundError("The farm has no such blob.");
    return std::make_unique<Blob>(found->second);
  }

  // What every stream of this job gets next.
  void Tell(farm::v1::JobStatus status) {
    const std::lock_guard<std::mutex> lock(mutex_);
    told_[status.job_id()].push_back(std::move(status));
    changed_.notify_all();
  }
  // What it was asked to do, in order.
  std::vector<std::string> done() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return done_;
  }

 private:
  class Stream : public JobStream {
   public:
    Stream(FakeDoor* door, std::string job_id) : door_(door), job_id_(std::move(job_id)) {}
    absl::StatusOr<farm::v1::JobStatus> Next() override {
      std::unique_lock<std::mutex> lock(door_->mutex_);
      const auto& told = door_->told_[job_id_];
      door_->changed_.wait(lock, [&] { return cancelled_ || given_ < told.size(); });
      if (cancelled_) return absl::CancelledError("cancelled");
      return told[given_++];
    }
    void Cancel() override {
      const std::lock_guard<std::mutex> lock(door_->mutex_);
      cancelled_ = true;
      door_->changed_.notify_all();
    }

   private:
    FakeDoor* const door_;
    const std::string job_id_;
    size_t given_ = 0;
    bool cancelled_ = false;
  };
  class Blob : public BlobStream {
   public:
    explicit Blob(std::vector<std::string> pieces) : pieces_(pieces.begin(), pieces.end()) {
      for (const std::string& piece : pieces) size_bytes_ += piece.size();
    }
    uint64_t size_bytes() const override { return size_bytes_; }
    absl::StatusOr<std::string> Next() override {
      if (pieces_.empty()) return std::string();
      std::string piece = std::move(pieces_.front());
      pieces_.pop_front();
      return piece;
    }

   private:
    std::deque<std::string> pieces_;
    uint64_t size_bytes_ = 0;
  };

  template <typename Message>
  absl::StatusOr<Message> Give(const Message& message) const {
    if (!trouble.ok()) return trouble;
    return message;
  }
  template <typename Message>
  absl::StatusOr<Message> Do(const std::string& what, Message message) {
    const std::lock_guard<std::mutex> lock(mutex_);
    done_.push_back(what);
    return Give(message);
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::deque<farm::v1::JobStatus>> told_;
  std::vector<std::string> done_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_TESTS_COORDINATOR_WEB_FAKE_DOOR_H_
