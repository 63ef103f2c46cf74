// Frames that follow their identities while these are computed: step s of a bank is all that step s of a frame reads.
//
//   writer's device ── BankStep(token, step, blob) ──> core ── BankGrown(reader's token, step, blob) ──> reader's device
//                                                                                                          fetches it
//                                                                                                          from the writer
//
// A frame goes ahead where some device is idle, nothing that is ready is worth its time, and the frame would be done
// sooner than by waiting. It belongs to its writers' tokens: where one ends without a result the frame comes back, its
// token is void, and it starts again with whoever computes the identity next. Nothing of the steps is recorded: after a
// restart the writer tells them all once more.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "coordinator/core/scheduling_round.h"

namespace storyfarm::coordinator {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;

namespace {

// Less gain than this is not worth a start that another writer may void.
constexpr double kLeastGainSeconds = 0.5;
// A bank has a step for each of the scheduler's; more than any story asks for is a worker's mistake.
constexpr uint32_t kMostSteps = 1000;

// The grant of an identity that is being computed; a token of number 0: it is not.
Token WriterOf(const Job& job, uint32_t identity) {
  const Slot& slot = *job.slot(TASK_IDENTITY, identity);
  return slot.state == farm::v1::TASK_GRANTED ? slot.token : Token();
}

}  // namespace

void Farm::Parts::OnBankStep(Node& node, const farm::v1::BankStep& step) {
  if (step.task().kind() != TASK_IDENTITY || step.step() >= kMostSteps) return;
  if (!Keep(node, step.token(), step.task())) return;
  const Token token = FromMessage(step.token());
  const Job& job = *state.FindJob(step.task().job_id());
  std::vector<farm::v1::BlobRef>& steps = fleet.leases[token].bank_steps;
  // They come in order, and from the start again after a Welcome.
  if (step.step() > steps.size()) return;
  if (step.step() == steps.size()) steps.emplace_back();
  steps[step.step()] = step.blob();
  node.NowCached(step.blob(), limits);
  schedule |= fleet.writers.insert(token).second;
  for (const uint32_t panel : job.GoneAhead(step.task().number())) {
    TellStep(job, panel, step.task().number(), step.step(), step.blob(), &node);
  }
}

void Farm::Parts::TellStep(const Job& job, uint32_t panel, uint32_t identity, uint32_t step,
                           const farm::v1::BlobRef& blob, const Node* writer) {
  const Slot& slot = *job.slot(TASK_FRAME, panel);
  const auto reader = fleet.nodes.find(job.nodes()[slot.node - 1].id);
  if (reader == fleet.nodes.end()) return;
  farm::v1::CoordinatorMessage message;
  farm::v1::BankGrown& grown = *message.mutable_bank_grown();
  *grown.mutable_token() = ToMessage(slot.token);
  grown.set_character(job.head().identities(static_cast<int>(identity)).character());
  grown.set_step(step);
  *grown.mutable_blob() = blob;
  const bool reachable = writer != nullptr && !writer->blob_address.empty() && writer->elsewhere == reader->second.elsewhere;
  if (reachable && writer->id != reader->first) {
    grown.mutable_writer()->set_node_id(writer->id);
    grown.mutable_writer()->set_address(writer->blob_address);
    grown.mutable_writer()->set_certificate_host(writer->certificate_host);
    grown.mutable_writer()->add_digests(blob.digest());
  }
  Send(reader->second.session, std::move(message));
}

void Farm::Parts::TellReader(const Job& job, uint32_t panel) {
  const Slot* slot = job.slot(TASK_FRAME, panel);
  if (slot == nullptr || !slot->ahead || slot->state != farm::v1::TASK_GRANTED) return;
  for (const uint32_t identity : job.head().frame_sets(job.owner(panel)).identities()) {
    const Slot& writer = *job.slot(TASK_IDENTITY, identity);
    const auto node = writer.node == 0 ? fleet.nodes.end() : fleet.nodes.find(job.nodes()[writer.node - 1].id);
    const Node* at = node == fleet.nodes.end() ? nullptr : &node->second;
    if (const farm::v1::Bank* bank = job.BankOf(identity)) {
      for (int step = 0; step < bank->steps_size(); ++step) {
        TellStep(job, panel, identity, static_cast<uint32_t>(step), bank->steps(step), at);
      }
    } else if (const auto lease = fleet.leases.find(WriterOf(job, identity)); lease != fleet.leases.end()) {
      for (size_t step = 0; step < lease->second.bank_steps.size(); ++step) {
        TellStep(job, panel, identity, static_cast<uint32_t>(step), lease->second.bank_steps[step], at);
      }
    }
  }
}

void Farm::Parts::CallBack(const std::string& job_id, uint32_t identity) {
  const Job& job = *state.FindJob(job_id);
  for (const uint32_t panel : job.GoneAhead(identity)) {
    const Token token = job.slot(TASK_FRAME, panel)->token;
    const auto grant = state.grants().find(token);
    const auto node = grant == state.grants().end() ? fleet.nodes.end() : fleet.nodes.find(grant->second.node_id);
    if (node != fleet.nodes.end()) {
      farm::v1::CoordinatorMessage message;
      *message.mutable_revoke()->mutable_token() = ToMessage(token);
      *message.mutable_revoke()->add_tasks() = MakeTask(job_id, TASK_FRAME, panel);
      Send(node->second.session, std::move(message));
      touched_nodes.insert(node->first);
    }
    GiveBack(token, MakeTask(job_id, TASK_FRAME, panel), Lost("the identity that it followed is computed anew"), false);
  }
}

void Farm::Parts::AddGrowing(const Job& job, uint32_t panel, plan::WorkInputs* inputs) const {
  for (const uint32_t identity : job.head().frame_sets(job.owner(panel)).identities()) {
    const Token writer = WriterOf(job, identity);
    if (writer.number == 0) continue;
    const farm::v1::IdentityTask& task = job.head().identities(static_cast<int>(identity));
    farm::v1::Bank& bank = inputs->banks.emplace_back();
    bank.set_character(task.character());
    bank.set_character_key(job.head().story().characters(static_cast<int>(task.character())).key());
    bank.set_identity_frames(static_cast<uint32_t>(task.panels_size() + task.hidden_prompts_size()));
    bank.set_growing(true);
  }
}

double SchedulingRound::WritersEnd(const Job& job, uint32_t set) const {
  double end_s = now_s_;
  for (const uint32_t identity : job.head().frame_sets(static_cast<int>(set)).identities()) {
    const Token writer = WriterOf(job, identity);
    if (writer.number == 0) continue;
    // One that has not begun is not followed yet.
    if (farm_.fleet.writers.count(writer) == 0) return -1;
    const LiveGrant& grant = farm_.state.grants().at(writer);
    const auto node = farm_.fleet.nodes.find(grant.node_id);
    if (node == farm_.fleet.nodes.end()) return -1;
    for (const Holding& holding : farm_.HoldingsOf(node->second, grant.device)) {
      if (holding.token == writer) end_s = std::max(end_s, holding.end_s);
    }
  }
  return end_s;
}

void SchedulingRound::GoAhead() {
  const std::set<Token> writers = farm_.fleet.writers;
  for (const Token& token : writers) {
    const auto grant = farm_.state.grants().find(token);
    if (grant == farm_.state.grants().end()) continue;
    const std::string job_id = grant->second.job_id;
    const uint32_t identity = *grant->second.numbers.begin();
    const Job& job = *farm_.state.FindJob(job_id);
    for (int set = 0; set < job.head().frame_sets_size() && !job.paused; ++set) {
      const auto& identities = job.head().frame_sets(set).identities();
      if (std::find(identities.begin(), identities.end(), identity) == identities.end()) continue;
      while (farm_.pool.idle() > 0 && GrantAhead(job, static_cast<uint32_t>(set))) farm_.Settle();
    }
    if (farm_.pool.idle() == 0) return;
  }
}

bool SchedulingRound::GrantAhead(const Job& job, uint32_t set) {
  const double end_s = WritersEnd(job, set);
  if (end_s < 0) return false;
  std::vector<uint32_t> waiting;
  for (const uint32_t panel : job.head().frame_sets(static_cast<int>(set)).panels()) {
    if (!job.slot(TASK_FRAME, panel)->alone && job.CanGoAhead(panel)) waiting.push_back(panel);
  }
  if (waiting.empty()) return false;
  Question question;
  question.job = &job;
  question.unit = {TASK_FRAME, set};
  question.ahead = true;
  question.ranking = farm_.pool.RankingFor(job, question.unit, {waiting.front()});
  if (question.ranking == nullptr) return false;
  // What waits is done at the latest when every device begins with it once the identities are there.
  std::vector<Runner> later = question.ranking->Runners(now_s_, [](Seat) { return 0.0; });
  for (Runner& runner : later) runner.start_s = std::max(runner.start_s, end_s);
  const double level_s = LevelFor(later, static_cast<double>(waiting.size()));
  for (const Candidate& candidate : question.ranking->Nearest(now_s_, kMostAheadCandidates)) {
    const Seated& seated = farm_.pool.seats()[candidate.seat];
    if (seated.room != Room::kIdle) continue;
    const double last_step_s = candidate.offer.task_s / std::max(1u, job.head().story().settings().steps());
    const double ahead_s = std::max(candidate.finish_s, end_s + last_step_s);
    const double alone_s = std::max(candidate.start_s, end_s) + candidate.offer.task_s;
    if (ahead_s > level_s || alone_s - ahead_s < kLeastGainSeconds) continue;
    std::vector<uint32_t> numbers = waiting;
    if (numbers.size() > candidate.offer.batch) numbers.resize(static_cast<size_t>(candidate.offer.batch));
    Placement placement;
    placement.finish_s = ahead_s - now_s_;
    placement.setup_s = candidate.offer.setup_s;
    placement.task_s = candidate.offer.task_s;
    placement.level_s = level_s - now_s_;
    placement.jobs = static_cast<uint32_t>(farm_.queue.size());
    placement.groups = job.live_grants;
    if (Grant(question, candidate, std::move(numbers), std::move(placement))) return true;
  }
  return false;
}

}  // namespace storyfarm::coordinator
