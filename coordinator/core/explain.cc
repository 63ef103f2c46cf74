// Why a task waits, or why it went where it went: computed when it is asked, from what the scheduler sees now; of tasks
// that were granted, from what it saw then. Asking changes nothing.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "coordinator/core/parts.h"
#include "pipeline/plan/names.h"
#include "pipeline/plan/pack.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_PAGE;
using farm::v1::TASK_TEXT;

constexpr int kMostCandidates = 50;  // a person reads no more

std::string Seconds(double seconds) {
  if (seconds < 0.05) return "0 s";
  return seconds < 10 ? absl::StrFormat("%.1f s", seconds) : absl::StrFormat("%.0f s", seconds);
}

}  // namespace

class Explainer {
 public:
  Explainer(Farm::Parts* farm, const Job& job, const farm::v1::TaskId& task)
      : farm_(*farm),
        job_(job),
        slot_(*job.slot(task.kind(), task.number())),
        task_(task),
        now_s_(static_cast<double>(farm->now.monotonic_ms) / 1000) {
    *explanation_.mutable_task() = task;
    explanation_.set_state(static_cast<farm::v1::TaskState>(slot_.state));
  }

  farm::v1::Explanation Explain() {
    switch (slot_.state) {
      case farm::v1::TASK_BLOCKED:
        ExplainBlocked();
        break;
      case farm::v1::TASK_READY:
        ExplainReady();
        break;
      case farm::v1::TASK_GRANTED:
        ExplainGranted();
        break;
      case farm::v1::TASK_DONE:
        if (const farm::v1::PackUse* pack = PackOf()) {
          SayPack(*pack);
          break;
        }
        Say(slot_.node > 0 ? absl::StrCat("It is done: ", NodeName(), " did it.") : "It is done, with its identity.");
        ExplainPlacement();
        break;
      default:
        Say(absl::StrCat("It is ", plan::StateName(static_cast<farm::v1::TaskState>(slot_.state)), "."));
    }
    if (const std::string problem = job_.ProblemOf(task_.kind(), task_.number()); !problem.empty()) {
      const bool failed = slot_.state == farm::v1::TASK_FAILED;
      Say(absl::StrCat(failed ? "Why: " : "Last time it came back: ", problem, "."));
    }
    return std::move(explanation_);
  }

 private:
  void Say(const std::string& sentence) { explanation_.add_sentences(sentence); }
  std::string NodeName() const { return job_.nodes()[slot_.node - 1].name; }
  // The pack that did the task, or the identity that a frame was drawn with; null: none.
  const farm::v1::PackUse* PackOf() const;
  void SayPack(const farm::v1::PackUse& pack);
  // Of an identity that is ready: a pack that is on its way, or is there and not worth fetching.
  void ExplainPacks();

  void ExplainBlocked();
  void ExplainReady();
  void ExplainGranted();
  void ExplainPlacement();
  // Fills explanation_.candidates, and runners_ and names_ of those that could take the task.
  void Compare();
  // `plan` gets what it would draw the task with, where it takes it and it is no page.
  farm::v1::Candidate CandidateOf(const Node& node, const Device& device, uint32_t index,
                                  const farm::v1::GroupShape& shape, farm::v1::MemoryPlan* plan);
  void ShowPlan(const farm::v1::MemoryPlan& plan, const std::string& node, uint32_t device);
  double TasksAhead() const;

  Farm::Parts& farm_;
  const Job& job_;
  const Slot& slot_;
  const farm::v1::TaskId task_;
  const double now_s_;
  farm::v1::Explanation explanation_;
  std::vector<Runner> runners_;
};

const farm::v1::PackUse* Explainer::PackOf() const {
  if (task_.kind() == TASK_IDENTITY) return job_.PackOf(task_.number());
  const int32_t owner = task_.kind() == TASK_FRAME ? job_.owner(task_.number()) : 0;
  return owner < 0 ? job_.PackOf(static_cast<uint32_t>(-1 - owner)) : nullptr;
}

void Explainer::SayPack(const farm::v1::PackUse& pack) {
  const std::string name = pack.name().empty() ? plan::ShortKey(pack.key())
                                               : absl::StrCat(pack.name(), " (", plan::ShortKey(pack.key()), ")");
  Say(absl::StrCat("It is done: a pack hit. Nothing was computed, as the pack ", name, " holds it; job ", pack.job_id(),
                   " had taken ", Seconds(static_cast<double>(pack.saved_ms()) / 1000), " to compute it."));
}

void Explainer::ExplainPacks() {
  if (task_.kind() != TASK_IDENTITY) return;
  const std::string& key = job_.head().identities(static_cast<int>(task_.number())).pack_key();
  if (const Pack* pack = farm_.state.packs().Whole(key)) {
    Say(absl::StrCat("There is a pack of it (", plan::ShortKey(key), "), but by the measured network every device ",
                     "computes it sooner than it fetches ", pack->manifest.size_bytes() >> 20, " MiB."));
  }
  if (const auto pack = farm_.FindPackUnderWay(job_, task_.number())) {
    Say(absl::StrCat("The same identity is being computed for another job (", pack->task,
                     "). It waits for that pack, unless a device gets free that would have it sooner."));
  }
}

void Explainer::ExplainBlocked() {
  const farm::v1::JobSpec& spec = job_.head();
  if (task_.kind() == TASK_PAGE) {
    const farm::v1::PageTask& page = spec.pages(static_cast<int>(task_.number()));
    const auto missing = std::count_if(page.panels().begin(), page.panels().end(), [this](uint32_t panel) {
      return !IsFinal(job_.slot(TASK_FRAME, panel)->state);
    });
    return Say(page.book() && missing == 0 ? "It waits for the other pages, as the book comes last."
                                           : absl::StrCat("It waits for ", missing, " of its panels."));
  }
  const uint32_t text = job_.TextOf({task_.kind(), task_.number()});
  if (job_.LacksText(text)) {
    Say(absl::StrCat("It waits for its prompts to be encoded (", plan::TaskName(spec.job_id(), TASK_TEXT, text), ", ",
                     plan::StateName(static_cast<farm::v1::TaskState>(job_.slot(TASK_TEXT, text)->state)), ")."));
    if (task_.kind() == TASK_IDENTITY) return;
  }
  std::vector<std::string> waits;
  const auto wait_for = [&](uint32_t identity) {
    const Slot& slot = *job_.slot(TASK_IDENTITY, identity);
    if (IsFinal(slot.state)) return;
    const uint32_t character = spec.identities(static_cast<int>(identity)).character();
    const std::string where = slot.state == farm::v1::TASK_GRANTED && slot.node > 0
                                  ? absl::StrCat("on ", job_.nodes()[slot.node - 1].name)
                                  : plan::StateName(static_cast<farm::v1::TaskState>(slot.state));
    waits.push_back(absl::StrCat(spec.story().characters(static_cast<int>(character)).name(), " (",
                                 plan::TaskName(spec.job_id(), TASK_IDENTITY, identity), ", ", where, ")"));
  };
  const int32_t owner = job_.owner(task_.number());
  if (owner < 0) {
    wait_for(static_cast<uint32_t>(-1 - owner));
    return Say(absl::StrCat("It is drawn together with the identity of ", absl::StrJoin(waits, ", "), "."));
  }
  for (uint32_t identity : spec.frame_sets(owner).identities()) wait_for(identity);
  if (waits.empty()) return;
  Say(absl::StrCat("It waits for the identity of ", absl::StrJoin(waits, ", "), ", which it reads."));
}

double Explainer::TasksAhead() const {
  if (task_.kind() == TASK_PAGE) return 1;
  if (task_.kind() == TASK_TEXT) return job_.count(TASK_TEXT, farm::v1::TASK_READY);
  const double frames = farm_.queue.ExactBacklog(job_);
  return task_.kind() == TASK_FRAME ? frames : std::max(1.0, frames / JobQueue::IdentityFrames(job_, task_.number()));
}

void Explainer::ShowPlan(const farm::v1::MemoryPlan& plan, const std::string& node, uint32_t device) {
  if (task_.kind() == TASK_PAGE) return;
  *explanation_.mutable_plan() = plan;
  explanation_.set_plan_node(node);
  explanation_.set_plan_device(device);
}

farm::v1::Candidate Explainer::CandidateOf(const Node& node, const Device& device, uint32_t index,
                                           const farm::v1::GroupShape& shape, farm::v1::MemoryPlan* plan) {
  farm::v1::Candidate candidate;
  candidate.set_node(node.name);
  candidate.set_device(index);
  candidate.set_name(device.report.name());
  Offer offer{true, 0, kPageSeconds, 1};
  if (task_.kind() != TASK_PAGE) {
    OfferSource source(&farm_.state, &farm_.fleet.plans);
    const farm::v1::ModelManifest& model = job_.head().model();
    const auto& answer = source.Plan(model, shape, device);
    if (const auto* refusal = std::get_if<farm::v1::Refusal>(&answer)) {
      candidate.set_refusal(farm_.WhyRefused(node, *refusal));
      return candidate;
    }
    *plan = std::get<farm::v1::MemoryPlan>(answer);
    offer = source.Make(model, shape, node, device);
    for (const farm::v1::Bank& bank : job_.InputsFor(task_.kind(), {task_.number()}).banks) {
      offer.setup_s += plan::FetchSeconds(device.report, node.MissingBytes(bank));
    }
  }
  const std::vector<Holding> holdings = farm_.HoldingsOf(node, index);
  candidate.set_free_s(holdings.empty() ? 0 : std::max(0.0, holdings.back().end_s - now_s_));
  candidate.set_setup_s(offer.setup_s);
  candidate.set_task_s(offer.task_s);
  candidate.set_finish_s(candidate.free_s() + offer.setup_s + offer.task_s);
  candidate.set_refusal(farm_.WhyIdle(node, device));
  return candidate;
}

void Explainer::Compare() {
  const uint32_t number = task_.number();
  const auto shape = farm_.planner->ShapeOf(job_.View(), task_.kind(), {&number, 1});
  struct Compared {
    farm::v1::Candidate candidate;
    farm::v1::MemoryPlan plan;
  };
  std::vector<Compared> all;
  for (const auto& [id, node] : farm_.fleet.nodes) {
    if (node.session == 0 || !shape.ok()) continue;
    for (const auto& [index, device] : node.devices) {
      Compared& compared = all.emplace_back();
      compared.candidate = CandidateOf(node, device, index, *shape, &compared.plan);
    }
  }
  explanation_.set_devices(static_cast<uint32_t>(all.size()));
  std::stable_sort(all.begin(), all.end(), [](const Compared& left, const Compared& right) {
    const farm::v1::Candidate &a = left.candidate, &b = right.candidate;
    return a.refusal().empty() != b.refusal().empty() ? a.refusal().empty() : a.finish_s() < b.finish_s();
  });
  if (!all.empty() && all.front().candidate.refusal().empty()) {
    ShowPlan(all.front().plan, all.front().candidate.node(), all.front().candidate.device());
  }
  for (const auto& [candidate, plan] : all) {
    if (candidate.refusal().empty()) {
      runners_.push_back({candidate.free_s() + candidate.setup_s(), candidate.task_s()});
    }
    if (explanation_.candidates_size() < kMostCandidates) *explanation_.add_candidates() = candidate;
  }
}

void Explainer::ExplainReady() {
  if (job_.paused) {
    Say(absl::StrCat("The job is paused: storyctl resume ", job_.head().job_id(), " lets it go on."));
  }
  if (!farm_.dispatch_held.empty()) Say(absl::StrCat("Nothing is handed out just now: ", farm_.dispatch_held, "."));
  ExplainPacks();
  Compare();
  if (explanation_.devices() == 0) {
    return Say("No worker is connected: start storyfarm-worker on a machine that can render.");
  }
  if (runners_.empty()) {
    return Say(explanation_.devices() == 1 ? "The only connected device does not take it; why stands below."
                                           : absl::StrCat("None of the ", explanation_.devices(),
                                                          " connected devices takes it; why stands below."));
  }
  if (job_.paused || !farm_.dispatch_held.empty()) return;
  const farm::v1::Candidate& first = explanation_.candidates(0);
  const double level_s = LevelFor(runners_, TasksAhead());
  const auto free = std::find_if(
      explanation_.candidates().begin(), explanation_.candidates().end(),
      [](const farm::v1::Candidate& candidate) { return candidate.refusal().empty() && candidate.free_s() <= 0; });
  if (free == explanation_.candidates().end()) {
    Say(absl::StrCat("Every device that can take it is busy. ", first.node(), " would have it done first, in ",
                     Seconds(first.finish_s()), "."));
  } else if (free->finish_s() > level_s) {
    const auto since = farm_.fleet.held_since_s.find(job_.ordinal());
    const double held_s = since == farm_.fleet.held_since_s.end() ? 0 : now_s_ - since->second;
    Say(absl::StrCat(free->node(), " is free, but would have it done only in ", Seconds(free->finish_s()),
                     "; spread best over all devices, what waits will be done in ", Seconds(level_s),
                     ". So it waits for a faster one."));
    Say(absl::StrCat("The job has been held back for ", Seconds(held_s), " and will be for at most ",
                     Seconds(free->finish_s()), "; then any device that is free takes it."));
  } else {
    Say(absl::StrCat(free->node(), " is free and takes what is ready, lower panels first."));
  }
  size_t ahead = 0;
  for (const Turn& turn : farm_.queue.turns()) {
    if (turn.ordinal == job_.ordinal()) break;
    ++ahead;
  }
  Say(absl::StrCat("Of ", farm_.queue.size(), farm_.queue.size() == 1 ? " job" : " jobs", " with something ready, ",
                   ahead, ahead == 1 ? " is" : " are", " asked before this one (priority ", job_.priority,
                   "; it holds ", job_.live_grants, job_.live_grants == 1 ? " group" : " groups", " now)."));
}

void Explainer::ExplainGranted() {
  const auto grant = farm_.state.grants().find(slot_.token);
  const auto lease = farm_.fleet.leases.find(slot_.token);
  const bool begun = lease != farm_.fleet.leases.end() && lease->second.started.count(task_.number()) > 0;
  const auto before = grant == farm_.state.grants().end()
                          ? 0
                          : std::distance(grant->second.numbers.begin(), grant->second.numbers.find(task_.number()));
  if (begun) {
    Say(absl::StrCat(NodeName(), " is at it."));
  } else if (before == 0) {
    Say(absl::StrCat(NodeName(), " holds it and begins it next in its group."));
  } else {
    Say(absl::StrCat(NodeName(), " holds it and begins it after ", before, before == 1 ? " other" : " others",
                     " of its group."));
  }
  ExplainPlacement();
}

void Explainer::ExplainPlacement() {
  const auto found = farm_.fleet.placements.find(slot_.token);
  if (found == farm_.fleet.placements.end()) {
    if (slot_.token.number > 0) Say("The numbers that decided are no longer kept.");
    return;
  }
  const Placement& why = found->second;
  if (slot_.node > 0) ShowPlan(why.plan, NodeName(), slot_.device);
  Say(absl::StrCat("It went there in a group of ", why.size, ", as the first of them would be done in ",
                   Seconds(why.finish_s), ": ", Seconds(why.free_s), " until the device was free, ",
                   Seconds(why.setup_s), " to fetch and load, ", Seconds(why.task_s), " to render."));
  Say(why.next_node.empty() ? "No other device had room for it."
                            : absl::StrCat("The next best with room, ", why.next_node, ", would have taken ",
                                           Seconds(why.next_finish_s), "."));
  if (task_.kind() != TASK_PAGE) {
    Say(absl::StrCat("Spread best over all devices, what waited would be done in ", Seconds(why.level_s), "."));
  }
  if (why.held_s > 0) {
    Say(absl::StrCat("A faster device was waited for, but not longer than ", Seconds(why.held_s), "."));
  }
  Say(absl::StrCat("Jobs with something ready: ", why.jobs, "; this one held ", why.groups,
                   why.groups == 1 ? " group" : " groups", " then."));
}

absl::StatusOr<farm::v1::Explanation> Farm::Explain(const Time& now, const farm::v1::TaskId& task) const {
  const Job* job = parts_->state.FindJob(task.job_id());
  if (job == nullptr) {
    return absl::NotFoundError(FindJob(task.job_id()) == JobPlace::kArchived
                                   ? absl::StrCat("job ", task.job_id(),
                                                  " has ended and left the queue: storyctl status ", task.job_id(),
                                                  " --tasks tells who did what")
                                   : absl::StrCat("there is no job ", task.job_id()));
  }
  if (job->slot(task.kind(), task.number()) == nullptr) {
    return absl::NotFoundError(absl::StrCat("job ", task.job_id(), " has no task ", plan::TaskName(task)));
  }
  parts_->now = now;
  return Explainer(parts_.get(), *job, task).Explain();
}

}  // namespace storyfarm::coordinator
