#include "coordinator/web/farm_follower.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/web/proto_json.h"

namespace storyfarm::coordinator {
namespace {

// A node that is heard from as often as it should be need not be told of each time.
constexpr uint64_t kHeardLatelyMs = 10'000;

std::string Event(const char* name, const std::string& data) {
  return absl::StrCat("event: ", name, "\ndata: ", data, "\n\n");
}

bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsCancelled(status) ||
         absl::IsAborted(status) || absl::IsResourceExhausted(status);
}

// {"order": [...], "changed": [...]`extra`} of a list, or "" where nothing of it changed.
template <typename List, typename KeyOf>
std::string ListChanges(const List& list, KeyOf key_of, Changes<std::string>& known, const std::string& extra,
                        bool first) {
  std::string order, changed;
  for (const auto& entry : list) {
    absl::StrAppend(&order, order.empty() ? "" : ",", "\"", key_of(entry), "\"");
    if (known.Note(key_of(entry), entry)) absl::StrAppend(&changed, changed.empty() ? "" : ",", ToJson(entry));
  }
  const bool fewer = known.EndOfList();
  if (changed.empty() && !fewer && !first) return "";
  return absl::StrCat("{\"order\":[", order, "],\"changed\":[", changed, "]", extra, "}");
}

}  // namespace

// Guarded by the follower's mutex, but for what is const.
struct OpenPage::JobFeed {
  std::string job_id;
  size_t pages = 0;
  std::shared_ptr<const farm::v1::JobStatus> newest;
  std::string trouble;  // why there is no more
  uint64_t version = 0;
  bool closed = false;
  std::shared_ptr<JobStream> stream;
  std::thread thread;
};

OpenPage::OpenPage(FarmFollower* follower, std::shared_ptr<JobFeed> feed)
    : follower_(follower), feed_(std::move(feed)) {}

OpenPage::~OpenPage() { follower_->Close(feed_); }

std::optional<std::string> OpenPage::Next(int64_t wait_ms) {
  FarmFollower& farm = *follower_;
  std::optional<std::string> trouble, gone;
  std::shared_ptr<const farm::v1::ListNodesResponse> nodes;
  std::shared_ptr<const farm::v1::ListJobsResponse> jobs;
  std::shared_ptr<const farm::v1::JobStatus> job;
  const bool first_nodes = nodes_version_ == 0, first_jobs = jobs_version_ == 0;
  {
    std::unique_lock<std::mutex> lock(farm.mutex_);
    const auto news = [&] {
      return farm.stopping_ || farm_version_ != farm.farm_version_ || nodes_version_ != farm.nodes_version_ ||
             jobs_version_ != farm.jobs_version_ || (feed_ != nullptr && feed_version_ != feed_->version);
    };
    farm.changed_.wait_for(lock, std::chrono::milliseconds(wait_ms), news);
    if (farm.stopping_) return std::nullopt;
    if (std::exchange(farm_version_, farm.farm_version_) != farm.farm_version_) trouble = farm.trouble_;
    if (std::exchange(nodes_version_, farm.nodes_version_) != farm.nodes_version_) nodes = farm.node_list_;
    if (std::exchange(jobs_version_, farm.jobs_version_) != farm.jobs_version_) jobs = farm.job_list_;
    if (feed_ != nullptr && std::exchange(feed_version_, feed_->version) != feed_->version) {
      job = feed_->newest;
      if (!feed_->trouble.empty()) gone = feed_->trouble;
    }
  }
  std::string events;
  if (trouble.has_value()) events += Event("farm", nlohmann::json{{"trouble", *trouble}}.dump());
  if (nodes != nullptr) {
    const auto id = [](const farm::v1::NodeStatus& node) { return node.node_id(); };
    const std::string data = ListChanges(nodes->nodes(), id, nodes_, "", first_nodes);
    if (!data.empty()) events += Event("nodes", data);
  }
  if (jobs != nullptr) {
    const auto id = [](const farm::v1::JobStatus& status) { return status.job_id(); };
    const char* more = jobs->next_page_token().empty() ? ",\"more\":false" : ",\"more\":true";
    const std::string data = ListChanges(jobs->jobs(), id, jobs_, more, first_jobs);
    if (!data.empty()) events += Event("jobs", data);
  }
  if (job != nullptr) {
    farm::v1::JobStatus told = *job;
    told.clear_tasks();
    for (const farm::v1::TaskStatus& task : job->tasks()) {
      if (tasks_.Note({task.task().kind(), task.task().number()}, task)) *told.add_tasks() = task;
    }
    events += Event("job", ToJson(told));
  }
  if (gone.has_value()) events += Event("gone", nlohmann::json{{"job_id", feed_->job_id}, {"trouble", *gone}}.dump());
  return events;
}

FarmFollower::FarmFollower(FarmDoor* door, base::Env* env, MemoryHistory* history)
    : door_(door), env_(env), history_(history), thread_([this] { Main(); }) {}

FarmFollower::~FarmFollower() { Stop(); }

void FarmFollower::Stop() {
  std::map<std::string, std::shared_ptr<OpenPage::JobFeed>> feeds;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    feeds.swap(feeds_);
    for (const auto& [job_id, feed] : feeds) {
      feed->closed = true;
      if (feed->stream != nullptr) feed->stream->Cancel();
    }
  }
  changed_.notify_all();
  wanted_.notify_all();
  for (const auto& [job_id, feed] : feeds) feed->thread.join();
  if (thread_.joinable()) thread_.join();
}

size_t FarmFollower::open_pages() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return pages_;
}

absl::StatusOr<std::unique_ptr<OpenPage>> FarmFollower::Open(const std::string& job_id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return absl::UnavailableError("The coordinator is going down; the page looks again by itself.");
  if (pages_ >= kOpenPages) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "The farm's page is open ", kOpenPages, " times already. Close some of those; this one tries again by itself."));
  }
  std::shared_ptr<OpenPage::JobFeed> feed;
  if (!job_id.empty()) {
    std::shared_ptr<OpenPage::JobFeed>& known = feeds_[job_id];
    if (known == nullptr) {
      known = std::make_shared<OpenPage::JobFeed>();
      known->job_id = job_id;
      known->thread = std::thread([this, feed = known] { Follow(feed); });
    }
    feed = known;
    ++feed->pages;
  }
  ++pages_;
  wanted_.notify_all();
  return std::unique_ptr<OpenPage>(new OpenPage(this, std::move(feed)));
}

void FarmFollower::Close(const std::shared_ptr<OpenPage::JobFeed>& feed) {
  std::shared_ptr<OpenPage::JobFeed> ended;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    --pages_;
    if (feed == nullptr || --feed->pages > 0 || feed->closed) return;
    feed->closed = true;
    if (feed->stream != nullptr) feed->stream->Cancel();
    feeds_.erase(feed->job_id);
    ended = feed;
  }
  changed_.notify_all();
  ended->thread.join();
}

void FarmFollower::Follow(std::shared_ptr<OpenPage::JobFeed> feed) {
  for (;;) {
    std::shared_ptr<JobStream> stream = door_->WatchJob(feed->job_id);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (feed->closed) return;
      feed->stream = stream;
    }
    absl::StatusOr<farm::v1::JobStatus> status = stream->Next();
    for (; status.ok(); status = stream->Next()) {
      auto newest = std::make_shared<const farm::v1::JobStatus>(*std::move(status));
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (feed->newest != nullptr && feed->newest->SerializeAsString() == newest->SerializeAsString()) continue;
        feed->newest = std::move(newest);
        ++feed->version;
      }
      changed_.notify_all();
    }
    const bool ended = absl::IsOutOfRange(status.status());
    if (!ended && !MayPass(status.status())) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        feed->trouble = std::string(status.status().message());
        ++feed->version;
      }
      changed_.notify_all();
      return;
    }
    if (!PauseBeforeAgain(*feed, ended ? kEndedJobMs : kPollMs)) return;
  }
}

bool FarmFollower::PauseBeforeAgain(const OpenPage::JobFeed& feed, int64_t ms) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(ms), [&] { return feed.closed; });
  return !feed.closed;
}

void FarmFollower::Main() {
  for (;;) {
    bool for_pages = false;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (pages_ == 0) {
        wanted_.wait_for(lock, std::chrono::milliseconds(kSampleMs), [this] { return stopping_ || pages_ > 0; });
      } else {
        wanted_.wait_for(lock, std::chrono::milliseconds(kPollMs), [this] { return stopping_; });
      }
      if (stopping_) return;
      for_pages = pages_ > 0;
    }
    Poll(for_pages);
  }
}

absl::StatusOr<farm::v1::ListJobsResponse> FarmFollower::AskForJobs() {
  farm::v1::ListJobsRequest request;
  request.set_live(true);
  request.set_page_size(kJobsShown);
  absl::StatusOr<farm::v1::ListJobsResponse> jobs = door_->ListJobs(request);
  if (!jobs.ok()) return jobs;
  request.set_live(false);
  const absl::StatusOr<farm::v1::ListJobsResponse> newest = door_->ListJobs(request);
  if (!newest.ok()) return newest;
  std::set<std::string> live;
  for (const auto& job : jobs->jobs()) live.insert(job.job_id());
  for (const auto& job : newest->jobs()) {
    if (live.count(job.job_id()) == 0) *jobs->add_jobs() = job;
  }
  jobs->set_next_page_token(newest->next_page_token());
  return jobs;
}

void FarmFollower::Poll(bool for_pages) {
  absl::StatusOr<farm::v1::ListNodesResponse> nodes = door_->ListNodes();
  absl::Status status = nodes.status();
  if (nodes.ok()) history_->Add(static_cast<uint64_t>(env_->NowUnixMs()), *nodes);
  absl::StatusOr<farm::v1::ListJobsResponse> jobs = absl::UnavailableError("not asked");
  if (status.ok() && for_pages) {
    jobs = AskForJobs();
    status = jobs.status();
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (nodes.ok()) {
      for (farm::v1::NodeStatus& node : *nodes->mutable_nodes()) {
        if (node.connected() && node.last_heard_ms() < kHeardLatelyMs) node.clear_last_heard_ms();
      }
      node_list_ = std::make_shared<const farm::v1::ListNodesResponse>(*std::move(nodes));
      ++nodes_version_;
    }
    if (jobs.ok()) {
      job_list_ = std::make_shared<const farm::v1::ListJobsResponse>(*std::move(jobs));
      ++jobs_version_;
    }
    const std::string trouble = status.ok() ? "" : std::string(status.message());
    if (trouble != trouble_) {
      trouble_ = trouble;
      ++farm_version_;
    }
  }
  changed_.notify_all();
}

}  // namespace storyfarm::coordinator
