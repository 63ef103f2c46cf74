// A farm without a network: the real core, records kept in a list, workers played by the test. Every step replays
// nothing; CheckReplay folds all records into a fresh farm and compares bytes.
#ifndef STORYFARM_TESTS_COORDINATOR_CORE_HARNESS_H_
#define STORYFARM_TESTS_COORDINATOR_CORE_HARNESS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/core/farm.h"
#include "coordinator/core/token.h"
#include "tests/coordinator/core/table_planner.h"

namespace storyfarm::coordinator {

inline std::string DigestOf(const std::string& text) {
  std::string digest = text;
  digest.resize(32, '.');
  return digest;
}

inline farm::v1::TaskId Task(const std::string& job, farm::v1::TaskKind kind, uint32_t number) {
  farm::v1::TaskId task;
  task.set_job_id(job);
  task.set_kind(kind);
  task.set_number(number);
  return task;
}

// A story of `frames` panels in one chapter with one page and the book. With `identity_panels` the first ones are a
// character's identity frames, whose bank the others read.
inline farm::v1::JobSpec Story(const std::string& id, uint32_t frames, uint32_t identity_panels = 0) {
  farm::v1::JobSpec spec;
  spec.set_job_id(id);
  spec.set_idempotency_key("key-" + id);
  spec.set_request_digest(DigestOf("request-" + id));
  spec.mutable_story()->set_title("Story " + id);
  farm::v1::Chapter& chapter = *spec.mutable_story()->add_chapters();
  for (uint32_t i = 0; i < frames; ++i) chapter.add_panels()->set_prompt("p");
  spec.mutable_model()->set_name("tiny");
  spec.mutable_model()->set_digest(DigestOf("model"));
  farm::v1::FrameSet set;
  if (identity_panels > 0) {
    spec.mutable_story()->add_characters()->set_name("Ada");
    farm::v1::IdentityTask& identity = *spec.add_identities();
    for (uint32_t i = 0; i < identity_panels; ++i) identity.add_panels(i);
    identity.set_read_by_others(true);
    set.add_identities(0);
  }
  for (uint32_t i = identity_panels; i < frames; ++i) set.add_panels(i);
  if (set.panels_size() > 0) *spec.add_frame_sets() = set;
  farm::v1::PageTask page;
  for (uint32_t i = 0; i < frames; ++i) page.add_panels(i);
  *spec.add_pages() = page;
  page.set_book(true);
  *spec.add_pages() = page;
  return spec;
}

// What a worker would send for a finished task.
inline farm::v1::WorkerMessage ResultFor(const farm::v1::JobSpec& spec, const farm::v1::FencingToken& token,
                                         const farm::v1::TaskId& task, const std::string& who = "") {
  farm::v1::WorkerMessage message;
  farm::v1::Result& result = *message.mutable_result();
  *result.mutable_token() = token;
  *result.mutable_task() = task;
  auto blob = [&](farm::v1::BlobRef* ref, const std::string& what) {
    ref->set_digest(DigestOf(absl::StrCat(what, task.number(), who)));
    ref->set_size_bytes(10);
  };
  auto frame = [&](farm::v1::FrameResult* to, uint32_t panel) {
    to->set_panel(panel);
    to->set_render_ms(1000);
    blob(to->mutable_image(), "image");
  };
  if (task.kind() == farm::v1::TASK_FRAME) frame(result.mutable_frame(), task.number());
  if (task.kind() == farm::v1::TASK_IDENTITY) {
    for (uint32_t panel : spec.identities(static_cast<int>(task.number())).panels()) {
      frame(result.mutable_identity()->add_frames(), panel);
    }
    blob(result.mutable_identity()->mutable_bank()->add_steps(), "bank");
  }
  if (task.kind() == farm::v1::TASK_TEXT) blob(result.mutable_text()->mutable_embeddings(), "text");
  if (task.kind() == farm::v1::TASK_PAGE) {
    if (spec.pages(static_cast<int>(task.number())).book()) {
      blob(result.mutable_page()->mutable_pdf(), "pdf");
      blob(result.mutable_page()->mutable_cbz(), "cbz");
    } else {
      blob(result.mutable_page()->mutable_png(), "png");
    }
  }
  return message;
}

// One grant that a node got and has not finished.
struct Held {
  farm::v1::Grant grant;
  std::vector<farm::v1::TaskId> left;
};

class Harness {
 public:
  explicit Harness(Limits limits = Limits()) : limits_(limits) { Restart(); }
  void Restart(const Limits& limits) {
    limits_ = limits;
    Restart();
  }

  // The coordinator dies and comes back from its records.
  void Restart() {
    farm_ = std::make_unique<Farm>(&planner, limits_);
    for (const auto& record : records) ASSERT_TRUE(farm_->Apply(record).ok());
    sessions_.clear();
    Started started;
    started.incarnation = ++incarnation_ * 1000003;
    started.seed = incarnation_;
    Step(started);
  }

  Decisions Step(Input input) {
    Decisions out = farm_->Step({now_ms, 1'700'000'000'000 + static_cast<uint64_t>(now_ms)}, std::move(input));
    for (const auto& record : out.records) records.push_back(record);
    for (const auto& message : out.messages) {
      // What a message says must be in the records by the time it may leave.
      EXPECT_LE(message.after_record, records.size());
      Deliver(message);
    }
    for (const auto& notice : out.notices) {
      EXPECT_LE(notice.after_record, records.size());
      notices[notice.body.job_id()].push_back(notice.body);
    }
    for (const auto& close : out.closes) closed[close.session] = close.status;
    last = out;
    return out;
  }
  void Advance(int64_t ms) {
    const int64_t until = now_ms + ms;
    while (now_ms < until) {
      now_ms = std::min(until, now_ms + kTickMs);
      Step(Tick{});
    }
  }

  Reply Submit(farm::v1::JobSpec spec) {
    specs[spec.job_id()] = spec;
    return Step(SubmitJob{++request_, std::move(spec)}).replies.at(0);
  }
  Reply Cancel(const std::string& job) { return Step(CancelJob{++request_, job}).replies.at(0); }

  static farm::v1::DeviceReport Gpu(double tflops, uint64_t bytes = 8000) {
    farm::v1::DeviceReport report;
    report.set_backend(farm::v1::CUDA);
    report.set_total_bytes(bytes);
    report.set_speed_tflops(tflops);
    return report;
  }
  farm::v1::Hello HelloOf(const std::string& node, double tflops = 100, uint64_t bytes = 8000) {
    farm::v1::Hello hello;
    hello.set_protocol_version(kProtocolVersion);
    hello.set_node_id(node);
    hello.set_node_name(node);
    *hello.add_devices() = Gpu(tflops, bytes);
    return hello;
  }
  // Connects with what the node holds and has in its outbox.
  uint64_t Connect(const std::string& node, double tflops = 100, uint64_t bytes = 8000,
                   std::vector<farm::v1::OutboxEntry> outbox = {}) {
    farm::v1::Hello hello = HelloOf(node, tflops, bytes);
    for (const Held& held : holds[node]) {
      for (const auto& task : held.left) {
        farm::v1::HeldTask& entry = *hello.add_held();
        *entry.mutable_token() = held.grant.token();
        *entry.mutable_task() = task;
      }
    }
    for (auto& entry : outbox) *hello.add_outbox() = entry;
    return ConnectWith(hello);
  }
  uint64_t ConnectWith(const farm::v1::Hello& hello, const std::string& member_id = "") {
    const uint64_t session = ++session_;
    sessions_[session] = hello.node_id();
    session_of[hello.node_id()] = session;
    Step(WorkerConnected{session, hello, member_id});
    return session;
  }
  void Say(const std::string& node, farm::v1::WorkerMessage message, std::vector<std::string> missing = {}) {
    Step(WorkerSaid{session_of[node], std::move(message), std::move(missing)});
  }
  void Heartbeat(const std::string& node) {
    farm::v1::WorkerMessage message;
    message.mutable_heartbeat();
    for (const Held& held : holds[node]) {
      for (const auto& task : held.left) {
        farm::v1::HeldTask& entry = *message.mutable_heartbeat()->add_held();
        *entry.mutable_token() = held.grant.token();
        *entry.mutable_task() = task;
      }
    }
    Say(node, message);
  }

  // The first task that the node holds; ends the test where it holds none.
  std::pair<farm::v1::FencingToken, farm::v1::TaskId> First(const std::string& node) {
    if (holds[node].empty()) {
      ADD_FAILURE() << node << " holds nothing";
      return {};
    }
    return {holds[node].front().grant.token(), holds[node].front().left.front()};
  }
  size_t HeldTasks(const std::string& node) {
    size_t tasks = 0;
    for (const Held& held : holds[node]) tasks += held.left.size();
    return tasks;
  }
  void Drop(const std::string& node, const farm::v1::FencingToken& token, const farm::v1::TaskId& task) {
    auto& groups = holds[node];
    for (size_t i = 0; i < groups.size(); ++i) {
      if (FromMessage(groups[i].grant.token()) != FromMessage(token)) continue;
      auto& left = groups[i].left;
      for (size_t j = 0; j < left.size(); ++j) {
        if (left[j].SerializeAsString() == task.SerializeAsString()) left.erase(left.begin() + static_cast<long>(j--));
      }
      if (left.empty()) groups.erase(groups.begin() + static_cast<long>(i));
      return;
    }
  }
  // The node finishes its first task.
  void FinishOne(const std::string& node) {
    const auto [token, task] = First(node);
    Drop(node, token, task);
    Say(node, ResultFor(specs[task.job_id()], token, task, node));
  }
  void Fault(const std::string& node, farm::v1::FailureKind kind, const std::string& why = "why",
             uint64_t needed_bytes = 0) {
    farm::v1::Failure failure;
    failure.set_kind(kind);
    failure.set_message(why);
    failure.set_needed_bytes(needed_bytes);
    GiveBackFirst(node, failure, {});
  }
  // The node gives back its first group, as the coordinator's store has no whole file of this digest.
  void LackBlob(const std::string& node, const std::string& digest) {
    farm::v1::Failure failure;
    failure.set_kind(farm::v1::BLOB_UNAVAILABLE);
    failure.set_missing_digest(digest);
    GiveBackFirst(node, failure, {digest});
  }
  // The node gives back all that it was asked for, as none of it has begun.
  void AnswerTrims(const std::string& node) {
    std::vector<farm::v1::Trim> asked;
    asked.swap(trims[node]);
    for (const auto& trim : asked) {
      farm::v1::WorkerMessage message;
      *message.mutable_trim_reply()->mutable_token() = trim.token();
      *message.mutable_trim_reply()->mutable_released() = trim.tasks();
      for (const auto& task : trim.tasks()) Drop(node, trim.token(), task);
      Say(node, message);
    }
  }
  // All nodes work until no job is live, or the steps are used up.
  void RunAll(int steps = 2000) {
    for (int i = 0; i < steps; ++i) {
      bool any = false;
      for (auto& [node, session] : session_of) {
        if (holds[node].empty()) continue;
        FinishOne(node);
        any = true;
      }
      if (!any) Advance(1000);
      for (auto& [node, session] : session_of) Heartbeat(node);
      bool live = false;
      for (const auto& [id, spec] : specs) live |= Status(id).finished_unix_ms() == 0;
      if (!live) return;
    }
    ADD_FAILURE() << "jobs are still live";
  }

  farm::v1::JobStatus Status(const std::string& job, bool with_tasks = false) {
    const auto status = farm_->GetJob({now_ms, 0}, job, with_tasks);
    return status.ok() ? *status : farm::v1::JobStatus();
  }
  farm::v1::TaskStatus TaskOf(const std::string& job, farm::v1::TaskKind kind, uint32_t number) {
    const farm::v1::JobStatus status = Status(job, true);
    for (const auto& task : status.tasks()) {
      if (task.task().kind() == kind && task.task().number() == number) return task;
    }
    return {};
  }

  // The fold of the records and a load of the bytes give the same bytes.
  void CheckReplay() {
    Farm fold(&planner, limits_);
    for (const auto& record : records) ASSERT_TRUE(fold.Apply(record).ok());
    const std::vector<std::string> pieces = farm_->SerializeState();
    ASSERT_TRUE(fold.SerializeState() == pieces);
    Farm loaded(&planner, limits_);
    ASSERT_TRUE(loaded.LoadState(pieces).ok());
    ASSERT_TRUE(loaded.SerializeState() == pieces);
  }

  Farm& farm() { return *farm_; }

  TablePlanner planner;
  int64_t now_ms = 0;
  std::vector<farm::v1::Record> records;
  std::map<std::string, farm::v1::JobSpec> specs;
  std::map<std::string, std::vector<Held>> holds;                        // by node
  std::map<std::string, uint64_t> session_of;                            // by node
  std::map<uint64_t, absl::Status> closed;                               // by session
  std::map<std::string, farm::v1::Welcome> welcomes;                     // by node, the last one
  std::map<std::string, std::vector<farm::v1::ResultVerdict>> verdicts;  // by node
  std::map<std::string, std::vector<farm::v1::Revoke>> revokes;          // by node
  std::map<std::string, std::vector<farm::v1::WorkerLimits>> limited;    // by node
  std::map<std::string, std::vector<farm::v1::ReadersChanged>> readers;  // by node
  std::map<std::string, std::vector<farm::v1::Trim>> trims;              // by node, not answered
  std::map<std::string, std::vector<farm::v1::JobNotice>> notices;       // by job: how often its end was offered
  Decisions last;

 private:
  void GiveBackFirst(const std::string& node, const farm::v1::Failure& failure, std::vector<std::string> missing) {
    ASSERT_FALSE(holds[node].empty()) << node << " holds nothing";
    const Held held = holds[node].front();
    holds[node].erase(holds[node].begin());
    farm::v1::WorkerMessage message;
    *message.mutable_fault()->mutable_token() = held.grant.token();
    for (const auto& task : held.left) *message.mutable_fault()->add_tasks() = task;
    *message.mutable_fault()->mutable_failure() = failure;
    Say(node, std::move(message), std::move(missing));
  }

  void Deliver(const OutgoingMessage& out) {
    const auto node = sessions_.find(out.session);
    if (node == sessions_.end() || session_of[node->second] != out.session) return;
    const std::string& name = node->second;
    const farm::v1::CoordinatorMessage& message = out.message;
    if (message.has_grant()) {
      Held held;
      held.grant = message.grant();
      held.left.assign(message.grant().tasks().begin(), message.grant().tasks().end());
      holds[name].push_back(std::move(held));
    } else if (message.has_welcome()) {
      welcomes[name] = message.welcome();
      for (const auto& verdict : message.welcome().held()) {
        if (!verdict.keep()) Drop(name, verdict.token(), verdict.task());
      }
    } else if (message.has_verdict()) {
      verdicts[name].push_back(message.verdict());
    } else if (message.has_readers()) {
      readers[name].push_back(message.readers());
    } else if (message.has_limits()) {
      limited[name].push_back(message.limits());
    } else if (message.has_trim()) {
      trims[name].push_back(message.trim());
    } else if (message.has_revoke()) {
      revokes[name].push_back(message.revoke());
      auto& groups = holds[name];
      for (size_t i = 0; i < groups.size(); ++i) {
        if (FromMessage(groups[i].grant.token()) != FromMessage(message.revoke().token())) continue;
        if (message.revoke().tasks().empty()) {
          groups.erase(groups.begin() + static_cast<long>(i--));
          continue;
        }
        for (const auto& task : message.revoke().tasks()) Drop(name, message.revoke().token(), task);
        break;
      }
    }
  }

  Limits limits_;
  std::unique_ptr<Farm> farm_;
  uint64_t incarnation_ = 0;
  uint64_t session_ = 0;
  uint64_t request_ = 0;
  std::map<uint64_t, std::string> sessions_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_TESTS_COORDINATOR_CORE_HARNESS_H_
