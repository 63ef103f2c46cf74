#include "tests/sim/submitter.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::sim {

using coordinator::Reply;

namespace {

// A request without an answer is sent again, with the same key.
constexpr int64_t kPatienceMs = 4000;

}  // namespace

Submitter::Submitter(World* world, std::function<Coordinator*()> serving)
    : world_(*world), serving_(std::move(serving)), dice_(world->options.seed, 2) {
  for (uint32_t i = 0; i < world->options.jobs; ++i) {
    Job& job = jobs_.emplace_back();
    job.key = absl::StrCat("key-", i);
    job.spec = DrawStory(dice_, "", job.key);
    if (dice_.Chance(10)) job.cancel_after_ms = dice_.Between(0, 30'000);
    tasks_ += TasksOf(job.spec);
  }
}

void Submitter::Start() {
  const int64_t span_ms = world_.options.fault_ms / 2;
  for (size_t i = 0; i < jobs_.size(); ++i) {
    const int64_t at_ms = span_ms * static_cast<int64_t>(i) / static_cast<int64_t>(jobs_.size());
    world_.time.After(at_ms, [this, i] {
      Submit(i);
      if (dice_.Chance(20)) Submit(i);
    });
  }
}

void Submitter::Submit(size_t index) {
  Job& job = jobs_[index];
  if (job.accepted) return;
  Coordinator* coordinator = serving_();
  if (coordinator == nullptr) return world_.time.After(500, [this, index] { Submit(index); });
  coordinator::SubmitJob submit;
  submit.spec = job.spec;
  submit.spec.set_job_id(absl::StrCat("j-", index, "-", ++job.tries));
  coordinator->Ask(
      [&submit](uint64_t request) {
        submit.request = request;
        return coordinator::Input(submit);
      },
      job.key,
      [this, index](const Reply& reply) {
        world_.time.After(dice_.Between(1, 8), [this, index, reply] { Answered(index, reply); });
      });
  world_.time.After(kPatienceMs, [this, index, tries = job.tries] {
    if (tries == jobs_[index].tries) Submit(index);
  });
}

void Submitter::Answered(size_t index, const Reply& reply) {
  Job& job = jobs_[index];
  if (job.accepted) return;
  if (!reply.status.ok()) {
    // Busy, or gone: again a little later. Nothing else can be wrong with these stories.
    if (!absl::IsResourceExhausted(reply.status) && !absl::IsUnavailable(reply.status))
      world_.judge.Complain(Rule::kFinishes,
                            absl::StrCat("a story was refused: ", std::string(reply.status.message())));
    return;
  }
  job.accepted = true;
  ++accepted_;
  if (job.cancel_after_ms < 0) return;
  world_.time.After(job.cancel_after_ms, [this, id = reply.job_id] { Cancel(id); });
}

void Submitter::Cancel(const std::string& job_id) {
  Coordinator* coordinator = serving_();
  // Asked once: a person who hears nothing lets it be.
  if (coordinator == nullptr) return;
  coordinator->Ask(
      [&job_id](uint64_t request) {
        return coordinator::Input(coordinator::CancelJob{request, job_id});
      },
      "", [](const Reply&) {});
}

}  // namespace storyfarm::sim
