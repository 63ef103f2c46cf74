// What keys do in `storyctl top`.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/top_model.h"

namespace storyfarm::storyctl {
namespace {

constexpr size_t kPage = 10;

std::vector<std::string> Help() {
  return {
      "The queue is above, in the order in which the farm serves it; machines are below.",
      "",
      "tab        the other list            up, down   the row that keys are about",
      "p          pause the job, or let it go on",
      "r          retry what failed of the job",
      "d          drain the machine: it finishes what it draws and gets no more; or give it back",
      "e          explain: why the job's next task waits, or why what the machine draws went there",
      "q          leave; the farm goes on",
      "",
      "A machine's bar is its memory: what the farm holds, what the plan of the running group will",
      "take beside that, what other programs hold, and what is free.",
  };
}

template <typename Items, typename IdOf>
std::string Moved(const Items& items, const std::string& selected, int64_t by, IdOf id_of) {
  if (items.empty()) return "";
  const auto found =
      std::find_if(items.begin(), items.end(), [&](const auto& item) { return id_of(item) == selected; });
  const int64_t at = found == items.end() ? 0 : found - items.begin();
  const int64_t last = static_cast<int64_t>(items.size()) - 1;
  return id_of(items[static_cast<size_t>(std::clamp<int64_t>(at + by, 0, last))]);
}

std::string JobId(const farm::v1::JobStatus& job) { return job.job_id(); }
std::string NodeId(const farm::v1::NodeStatus& node) { return node.node_id(); }

void Move(int64_t by, const FarmView& view, TopState& state) {
  if (state.pane == Pane::kJobs) {
    state.job = Moved(view.jobs, state.job, by, JobId);
  } else {
    state.node = Moved(view.nodes, state.node, by, NodeId);
  }
}

std::optional<TopRequest> Refuse(TopState& state, const std::string& why) {
  state.message = why;
  state.failed = true;
  return std::nullopt;
}

std::optional<TopRequest> OfJob(char character, const FarmView& view, TopState& state) {
  const auto job =
      std::find_if(view.jobs.begin(), view.jobs.end(), [&](const auto& each) { return each.job_id() == state.job; });
  if (job == view.jobs.end()) return Refuse(state, "there is no job in the queue");
  switch (character) {
    case 'p':
      if (IsFinal(job->state())) return Refuse(state, absl::StrCat(job->job_id(), " has ended"));
      return TopRequest{job->paused() ? TopRequest::kResume : TopRequest::kPause, job->job_id(), job->job_id()};
    case 'r':
      return TopRequest{TopRequest::kRetry, job->job_id(), job->job_id()};
    case 'e':
      return TopRequest{TopRequest::kExplainJob, job->job_id(), job->job_id()};
    default:
      return Refuse(state, "d drains machines: tab goes to them");
  }
}

std::optional<TopRequest> OfNode(char character, const FarmView& view, TopState& state) {
  const auto node = std::find_if(view.nodes.begin(), view.nodes.end(),
                                 [&](const auto& each) { return each.node_id() == state.node; });
  if (node == view.nodes.end()) return Refuse(state, "no machine has joined");
  if (character == 'd') {
    return TopRequest{node->drained() ? TopRequest::kUndrain : TopRequest::kDrain, node->node_id(), node->name()};
  }
  if (character != 'e') return Refuse(state, absl::StrCat(std::string(1, character), " is for jobs: tab goes to them"));
  for (const auto& device : node->devices()) {
    if (!device.task().empty()) return TopRequest{TopRequest::kExplainTask, device.task(), device.task()};
  }
  return Refuse(state, absl::StrCat(node->name(), " draws nothing",
                                    node->note().empty() ? "" : absl::StrCat(": ", node->note())));
}

}  // namespace

void KeepSelection(const FarmView& view, TopState& state) {
  state.job = Moved(view.jobs, state.job, 0, JobId);
  state.node = Moved(view.nodes, state.node, 0, NodeId);
}

std::optional<TopRequest> Press(TopKey key, char character, const FarmView& view, TopState& state) {
  if (!state.text.empty()) {
    const auto last = state.text.size() - 1;
    if (key == TopKey::kUp && state.text_top > 0) --state.text_top;
    if (key == TopKey::kDown) state.text_top = std::min(state.text_top + 1, last);
    if (key == TopKey::kPageUp) state.text_top -= std::min(state.text_top, kPage);
    if (key == TopKey::kPageDown) state.text_top = std::min(state.text_top + kPage, last);
    if (key == TopKey::kEscape || key == TopKey::kCharacter || key == TopKey::kTab) state.text.clear();
    return std::nullopt;
  }
  KeepSelection(view, state);
  switch (key) {
    case TopKey::kUp:
      Move(-1, view, state);
      return std::nullopt;
    case TopKey::kDown:
      Move(1, view, state);
      return std::nullopt;
    case TopKey::kPageUp:
      Move(-static_cast<int64_t>(kPage), view, state);
      return std::nullopt;
    case TopKey::kPageDown:
      Move(static_cast<int64_t>(kPage), view, state);
      return std::nullopt;
    case TopKey::kTab:
      state.pane = state.pane == Pane::kJobs ? Pane::kNodes : Pane::kJobs;
      return std::nullopt;
    case TopKey::kEscape:
      state.message.clear();
      return std::nullopt;
    case TopKey::kCharacter:
      break;
  }
  state.message.clear();
  state.failed = false;
  switch (character) {
    case 'q':
      return TopRequest{TopRequest::kQuit, "", ""};
    case '?':
    case 'h':
      state.text = Help();
      state.text_top = 0;
      return std::nullopt;
    case 'p':
    case 'r':
    case 'd':
    case 'e':
      return state.pane == Pane::kJobs ? OfJob(character, view, state) : OfNode(character, view, state);
    default:
      return Refuse(state, absl::StrCat("'", std::string(1, character), "' does nothing: ? shows the keys"));
  }
}

}  // namespace storyfarm::storyctl
