#include "coordinator/core/job.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_PAGE;
using farm::v1::TASK_TEXT;
using farm::v1::TaskKind;
using farm::v1::TaskState;

// Enough for a sentence with a path and numbers; a worker may not fill the state with prose.
constexpr size_t kProblemBytes = 500;

template <typename Number>
void Raise(Number& number) {
  if (number < std::numeric_limits<Number>::max()) ++number;
}

std::string Cut(const std::string& text) { return text.substr(0, kProblemBytes); }

void CopyDigest(const std::string& from, std::array<char, 32>& to) {
  to.fill(0);
  std::copy_n(from.begin(), std::min(from.size(), to.size()), to.begin());
}

}  // namespace

Job::Job(std::shared_ptr<const PackedSpec> spec, uint64_t ordinal, PanelCache* cache)
    : panels_(std::move(spec), ordinal, cache) {
  priority = head().priority() > 0 ? head().priority() : kUsualPriority;
  LayOut();
  for (const auto& set : head().frame_sets()) {
    if (!set.identities().empty()) continue;
    for (uint32_t panel : set.panels()) {
      if (!LacksText(TextOf({TASK_FRAME, panel}))) slots_[TASK_FRAME].set_state(panel, farm::v1::TASK_READY);
    }
  }
  Reindex();
}

void Job::LayOut() {
  const uint32_t panels = panels_.spec().panels();
  slots_[TASK_IDENTITY].Resize(static_cast<uint32_t>(head().identities_size()), farm::v1::TASK_READY);
  slots_[TASK_TEXT].Resize(static_cast<uint32_t>(head().texts_size()), farm::v1::TASK_READY);
  slots_[TASK_FRAME].Resize(panels, farm::v1::TASK_BLOCKED);
  slots_[TASK_PAGE].Resize(static_cast<uint32_t>(head().pages_size()), farm::v1::TASK_BLOCKED);
  owner_.assign(panels, 0);
  for (int set = 0; set < head().frame_sets_size(); ++set) {
    for (uint32_t panel : head().frame_sets(set).panels()) owner_[panel] = set;
  }
  for (int identity = 0; identity < head().identities_size(); ++identity) {
    for (uint32_t panel : head().identities(identity).panels()) owner_[panel] = -1 - identity;
  }
  text_of_identity_.assign(head().identities_size(), kNoText);
  if (!head().texts().empty()) text_of_panel_.assign(panels, kNoText);
  for (int text = 0; text < head().texts_size(); ++text) {
    for (uint32_t panel : head().texts(text).panels()) text_of_panel_[panel] = text;
    for (uint32_t identity : head().texts(text).identities()) {
      text_of_identity_[identity] = text;
      slots_[TASK_IDENTITY].set_state(identity, farm::v1::TASK_BLOCKED);
    }
  }
  page_of_.assign(panels, head().pages_size());
  for (int page = 0; page < head().pages_size(); ++page) {
    if (head().pages(page).book()) continue;
    for (uint32_t panel : head().pages(page).panels()) page_of_[panel] = page;
  }
}

void Job::Reindex() {
  counts_ = {};
  pending_ = 0;
  ready_units_.clear();
  for (int kind = kFirstKind; kind <= kLastKind; ++kind) {
    for (uint32_t i = 0; i < slots_[kind].size(); ++i) {
      const uint8_t state = slots_[kind].state(i);
      ++counts_[kind][state];
      if (!IsFinal(state)) ++pending_;
      if (kind != TASK_FRAME && state == farm::v1::TASK_READY)
        ready_units_.insert({static_cast<TaskKind>(kind), i});
    }
  }
  ready_in_set_.assign(head().frame_sets_size(), 0);
  ready_.clear();
  identities_missing_.assign(head().frame_sets_size(), 0);
  for (int set = 0; set < head().frame_sets_size(); ++set) {
    const auto& panels = head().frame_sets(set).panels();
    ready_.emplace_back(static_cast<size_t>(panels.size()));
    for (int i = 0; i < panels.size(); ++i) {
      if (slots_[TASK_FRAME].state(panels[i]) != farm::v1::TASK_READY) continue;
      ++ready_in_set_[set];
      ready_[set].Insert(static_cast<size_t>(i));
    }
    if (ready_in_set_[set] > 0) ready_units_.insert({TASK_FRAME, static_cast<uint32_t>(set)});
    for (uint32_t identity : head().frame_sets(set).identities()) {
      if (slots_[TASK_IDENTITY].state(identity) != farm::v1::TASK_DONE) ++identities_missing_[set];
    }
  }
  panels_missing_.assign(head().pages_size(), 0);
  for (int page = 0; page < head().pages_size(); ++page) {
    if (head().pages(page).book()) continue;
    for (uint32_t panel : head().pages(page).panels()) {
      if (!IsFinal(slots_[TASK_FRAME].state(panel))) ++panels_missing_[page];
    }
    if (panels_missing_[page] == 0 && slots_[TASK_PAGE].state(page) == farm::v1::TASK_BLOCKED) {
      SetState({TASK_PAGE, static_cast<uint32_t>(page)}, farm::v1::TASK_READY);
    }
  }
  UpdateBook();
}

const Slot* Job::slot(TaskKind kind, uint32_t number) const {
  if (kind < kFirstKind || kind > kLastKind || number >= slots_[kind].size()) return nullptr;
  return &slots_[kind][number];
}

void Job::SetState(const TaskKey& task, TaskState state) {
  const uint8_t before = slots_[task.first].state(task.second);
  if (before == state) return;
  slots_[task.first].set_state(task.second, state);
  --counts_[task.first][before];
  ++counts_[task.first][state];
  if (!IsFinal(before) && IsFinal(state)) --pending_;
  if (IsFinal(before) && !IsFinal(state)) ++pending_;
  if (before == farm::v1::TASK_READY || state == farm::v1::TASK_READY) MarkReady(task, state == farm::v1::TASK_READY);
  if (IsFinal(before) || !IsFinal(state)) return;
  DropUnneededText(TextOf(task));
  if (task.first == TASK_FRAME) FrameFinal(task.second);
}

void Job::MarkReady(const TaskKey& task, bool ready) {
  Unit unit{task.first, task.second};
  if (task.first == TASK_FRAME) {
    const int32_t set = owner_[task.second];
    if (set < 0) return;
    unit.number = static_cast<uint32_t>(set);
    const auto& panels = head().frame_sets(set).panels();
    const auto at = std::lower_bound(panels.begin(), panels.end(), task.second) - panels.begin();
    if (ready) {
      ready_[unit.number].Insert(static_cast<size_t>(at));
      if (++ready_in_set_[unit.number] > 1) return;
    } else {
      ready_[unit.number].Erase(static_cast<size_t>(at));
      if (--ready_in_set_[unit.number] > 0) return;
    }
  }
  if (ready) {
    ready_units_.insert(unit);
  } else {
    ready_units_.erase(unit);
  }
}

std::vector<uint32_t> Job::FirstReady(const Unit& unit, size_t most) const {
  std::vector<uint32_t> tasks;
  if (unit.kind != TASK_FRAME) return {unit.number};
  VisitReady(unit.number, [&tasks, most](uint32_t panel) {
    tasks.push_back(panel);
    return tasks.size() < most;
  });
  return tasks;
}

void Job::FrameFinal(uint32_t panel) {
  const uint32_t page = page_of_[panel];
  if (page < panels_missing_.size() && --panels_missing_[page] == 0 &&
      slots_[TASK_PAGE].state(page) == farm::v1::TASK_BLOCKED) {
    SetState({TASK_PAGE, page}, farm::v1::TASK_READY);
  }
  UpdateBook();
}

// The book comes last: after every panel and every other page.
void Job::UpdateBook() {
  if (head().pages().empty() || !head().pages(head().pages_size() - 1).book()) return;
  const uint32_t book = head().pages_size() - 1;
  if (slots_[TASK_PAGE].state(book) == farm::v1::TASK_BLOCKED && pending_ == 1) {
    SetState({TASK_PAGE, book}, farm::v1::TASK_READY);
  }
}

uint32_t Job::NodeIndex(const std::string& id, const std::string& name) {
  for (uint32_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].id == id) return i;
  }
  nodes_.push_back({id, name, 0});
  return static_cast<uint32_t>(nodes_.size()) - 1;
}

void Job::Granted(const TaskKey& task, const Token& token, uint32_t node, uint32_t device, bool ahead) {
  Slot& slot = mutable_slot(task);
  if (slot.token != token) {
    slot.token = token;
    Raise(slot.attempts);
    if (task.first == TASK_FRAME) ++frame_grants_;
  }
  slot.node = node + 1;
  slot.device = static_cast<uint8_t>(device);
  slot.ahead = ahead;
  granted_ever_ = true;
  SetState(task, farm::v1::TASK_GRANTED);
  if (state == farm::v1::JOB_QUEUED) state = farm::v1::JOB_RUNNING;
}

void Job::KeepFrame(uint32_t panel, const farm::v1::FrameResult& result) {
  FrameOutcome outcome;
  CopyDigest(result.image().digest(), outcome.image);
  CopyDigest(result.latents().digest(), outcome.latents);
  outcome.image_bytes = result.image().size_bytes();
  outcome.latents_bytes = result.latents().size_bytes();
  outcome.peak_bytes = result.peak_bytes();
  outcome.predicted_peak_bytes = result.predicted_peak_bytes();
  outcome.finished_unix_ms = result.finished_unix_ms();
  outcome.render_ms = result.render_ms();
  outcomes_.push_back(outcome);
  if (!result.warnings().empty()) {
    frame_warnings_[panel].assign(result.warnings().begin(), result.warnings().end());
  }
  mutable_slot({TASK_FRAME, panel}).outcome = static_cast<uint32_t>(outcomes_.size());
  problems_.erase({TASK_FRAME, panel});
  aborts_.erase({TASK_FRAME, panel});
  SetState({TASK_FRAME, panel}, farm::v1::TASK_DONE);
}

void Job::FrameFinished(uint32_t panel, const farm::v1::FrameResult& result, uint32_t node) {
  mutable_slot({TASK_FRAME, panel}).node = node + 1;
  Raise(nodes_[node].tasks_done);
  KeepFrame(panel, result);
}

void Job::IdentityFinished(uint32_t number, const farm::v1::IdentityResult& result) {
  const Slot slot = slots_[TASK_IDENTITY][number];
  identity_ms_[number] += result.render_ms();
  for (const auto& frame : result.frames()) {
    if (IsFinal(slots_[TASK_FRAME].state(frame.panel()))) continue;  // an accepted result stays
    mutable_slot({TASK_FRAME, frame.panel()}).device = slot.device;
    FrameFinished(frame.panel(), frame, slot.node - 1);
  }
  Raise(nodes_[slot.node - 1].tasks_done);
  IdentityDone(number, result.bank());
}

void Job::IdentityTaken(uint32_t number, const farm::v1::IdentityResult& result, const farm::v1::PackUse& use) {
  pack_uses_[number] = use;
  // Nobody's result is wanted any more, not even a late one.
  Slot& slot = mutable_slot({TASK_IDENTITY, number});
  slot.token = Token();
  slot.node = 0;
  for (const auto& frame : result.frames()) {
    if (!IsFinal(slots_[TASK_FRAME].state(frame.panel()))) KeepFrame(frame.panel(), frame);
  }
  IdentityDone(number, result.bank());
}

void Job::IdentityReopened(uint32_t number) {
  pack_uses_.erase(number);
  banks_.erase(number);
  Slot& slot = mutable_slot({TASK_IDENTITY, number});
  slot.token = Token();  // the result that made the lost bank is not taken once more
  // Its prompts were not encoded where a pack stood in for it.
  const uint32_t text = text_of_identity_[number];
  if (LacksText(text) && IsFinal(slots_[TASK_TEXT].state(text))) SetState({TASK_TEXT, text}, farm::v1::TASK_READY);
  SetState({TASK_IDENTITY, number}, WaitingState({TASK_IDENTITY, number}));
  for (int set = 0; set < head().frame_sets_size(); ++set) {
    const auto& identities = head().frame_sets(set).identities();
    if (std::find(identities.begin(), identities.end(), number) == identities.end()) continue;
    ++identities_missing_[set];
    for (uint32_t panel : head().frame_sets(set).panels()) {
      if (slots_[TASK_FRAME].state(panel) == farm::v1::TASK_READY)
        SetState({TASK_FRAME, panel}, farm::v1::TASK_BLOCKED);
    }
  }
}

void Job::IdentityDone(uint32_t number, const farm::v1::Bank& bank) {
  banks_[number] = bank;
  problems_.erase({TASK_IDENTITY, number});
  aborts_.erase({TASK_IDENTITY, number});
  SetState({TASK_IDENTITY, number}, farm::v1::TASK_DONE);
  for (int set = 0; set < head().frame_sets_size(); ++set) {
    const auto& identities = head().frame_sets(set).identities();
    if (std::find(identities.begin(), identities.end(), number) == identities.end()) continue;
    if (--identities_missing_[set] == 0) WakeFrames(head().frame_sets(set).panels());
  }
  UpdateBook();
}

void Job::PageFinished(uint32_t number, const farm::v1::PageResult& result) {
  page_results_[number] = result;
  Raise(nodes_[slots_[TASK_PAGE][number].node - 1].tasks_done);
  problems_.erase({TASK_PAGE, number});
  aborts_.erase({TASK_PAGE, number});
  SetState({TASK_PAGE, number}, farm::v1::TASK_DONE);
  UpdateBook();
}

void Job::Returned(const TaskKey& task, const farm::v1::Failure& why, bool counts) {
  Slot& slot = mutable_slot(task);
  if (counts) Raise(slot.own_tries);
  switch (why.kind()) {
    case farm::v1::OUT_OF_MEMORY:
    case farm::v1::DISK_FULL:
    case farm::v1::BLOB_UNAVAILABLE:
      Raise(slot.machine_faults);
      break;
    case farm::v1::ENGINE_ABORTED:
    case farm::v1::HUNG:
    case farm::v1::INTERNAL:
      if (counts) {
        aborts_[task].insert(slot.node - 1);
      } else {
        // Several tasks came back at once and one of them may be to blame, or the device fails at all it gets: each
        // goes alone from now on.
        slot.alone = true;
        Raise(slot.machine_faults);
      }
      break;
    default:
      break;
  }
  if (slot.ahead) {
    // What it makes belongs to a writer that may be replaced: no late result of it is taken.
    slot.ahead = false;
    slot.token = Token();
  }
  if (!why.message().empty()) problems_[task] = {why.kind(), Cut(why.message())};
  SetState(task, WaitingState(task));
  if (task.first == TASK_TEXT) DropUnneededText(task.second);
}

void Job::Failed(const TaskKey& task, const farm::v1::Failure& why) {
  problems_[task] = {why.kind(), Cut(why.message())};
  aborts_.erase(task);
  SetState(task, farm::v1::TASK_FAILED);
  for (const TaskKey& dependent : DependentsOf(task)) {
    if (IsFinal(slots_[dependent.first].state(dependent.second))) continue;
    problems_.erase(dependent);  // what it fails of is this task
    SetState(dependent, farm::v1::TASK_FAILED);
  }
  UpdateBook();
}

void Job::Cancel() {
  // Pages first, so that the last panel does not make one ready in between.
  for (int kind : {TASK_PAGE, TASK_TEXT, TASK_IDENTITY, TASK_FRAME}) {
    for (uint32_t i = 0; i < slots_[kind].size(); ++i) {
      if (!IsFinal(slots_[kind].state(i))) SetState({static_cast<TaskKind>(kind), i}, farm::v1::TASK_CANCELLED);
    }
  }
}

std::optional<farm::v1::FrameResult> Job::FrameResultOf(uint32_t panel) const {
  const uint32_t at = slots_[TASK_FRAME][panel].outcome;
  if (at == 0) return std::nullopt;
  const FrameOutcome& outcome = outcomes_[at - 1];
  farm::v1::FrameResult result;
  result.set_panel(panel);
  result.mutable_image()->set_digest(outcome.image.data(), outcome.image.size());
  result.mutable_image()->set_size_bytes(outcome.image_bytes);
  if (outcome.latents_bytes > 0) {
    result.mutable_latents()->set_digest(outcome.latents.data(), outcome.latents.size());
    result.mutable_latents()->set_size_bytes(outcome.latents_bytes);
  }
  result.set_render_ms(outcome.render_ms);
  result.set_peak_bytes(outcome.peak_bytes);
  result.set_predicted_peak_bytes(outcome.predicted_peak_bytes);
  result.set_finished_unix_ms(outcome.finished_unix_ms);
  if (const auto warnings = frame_warnings_.find(panel); warnings != frame_warnings_.end()) {
    for (const std::string& warning : warnings->second) result.add_warnings(warning);
  }
  return result;
}

const farm::v1::Bank* Job::BankOf(uint32_t identity) const {
  const auto bank = banks_.find(identity);
  return bank == banks_.end() ? nullptr : &bank->second;
}

const farm::v1::PackUse* Job::PackOf(uint32_t identity) const {
  const auto use = pack_uses_.find(identity);
  return use == pack_uses_.end() ? nullptr : &use->second;
}

uint64_t Job::IdentityMsOf(uint32_t identity) const {
  const auto took = identity_ms_.find(identity);
  return took == identity_ms_.end() ? 0 : took->second;
}

const farm::v1::PageResult* Job::PageResultOf(uint32_t page) const {
  const auto result = page_results_.find(page);
  return result == page_results_.end() ? nullptr : &result->second;
}

std::string Job::ProblemOf(TaskKind kind, uint32_t number) const {
  if (const auto problem = problems_.find({kind, number}); problem != problems_.end()) return problem->second.message;
  const bool depends = kind == TASK_FRAME || kind == TASK_IDENTITY;
  if (!depends || slots_[kind].state(number) != farm::v1::TASK_FAILED) return "";
  if (const uint32_t text = TextOf({kind, number});
      text != kNoText && slots_[TASK_TEXT].state(text) == farm::v1::TASK_FAILED) {
    return absl::StrCat("its prompts could not be encoded: ", ProblemOf(TASK_TEXT, text));
  }
  if (kind == TASK_IDENTITY) return "";
  auto blame = [this](uint32_t identity) -> std::string {
    const uint32_t character = head().identities(static_cast<int>(identity)).character();
    return absl::StrCat("needs the identity of ", head().story().characters(static_cast<int>(character)).name(),
                        ", which failed: ", ProblemOf(TASK_IDENTITY, identity));
  };
  if (owner_[number] < 0) return blame(static_cast<uint32_t>(-1 - owner_[number]));
  for (uint32_t identity : head().frame_sets(owner_[number]).identities()) {
    if (slots_[TASK_IDENTITY].state(identity) == farm::v1::TASK_FAILED) return blame(identity);
  }
  return "";
}

const std::set<uint32_t>* Job::AbortsOf(const TaskKey& task) const {
  const auto aborts = aborts_.find(task);
  return aborts == aborts_.end() ? nullptr : &aborts->second;
}

plan::WorkInputs Job::InputsFor(TaskKind kind, const std::vector<uint32_t>& numbers) const {
  plan::WorkInputs inputs;
  for (uint32_t number : numbers) {
    const uint32_t text = TextOf({kind, number});
    if (const farm::v1::BlobRef* embeddings = EmbeddingsOf(text)) inputs.texts[text] = *embeddings;
  }
  if (kind == TASK_FRAME && !numbers.empty() && owner_[numbers.front()] >= 0) {
    for (uint32_t identity : head().frame_sets(owner_[numbers.front()]).identities()) {
      if (const farm::v1::Bank* bank = BankOf(identity)) inputs.banks.push_back(*bank);
    }
  }
  if (kind == TASK_PAGE) {
    for (uint32_t number : numbers) {
      for (uint32_t panel : head().pages(static_cast<int>(number)).panels()) {
        if (const auto frame = FrameResultOf(panel)) {
          inputs.images[panel] = frame->image();
        } else {
          inputs.failures[panel] = ProblemOf(TASK_FRAME, panel);
        }
      }
    }
  }
  return inputs;
}

}  // namespace storyfarm::coordinator
