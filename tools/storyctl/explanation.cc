#include "tools/storyctl/explanation.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/plan/names.h"
#include "tools/storyctl/console.h"

namespace storyfarm::storyctl {
namespace {

// Devices shown of a farm with many.
constexpr int kShownCandidates = 20;

std::string Seconds(double seconds) { return absl::StrFormat("%.1f s", seconds); }

}  // namespace

std::string ExplanationText(const farm::v1::Explanation& explanation) {
  std::string text = absl::StrCat(plan::TaskName(explanation.task()), " ", plan::StateName(explanation.state()), "\n");
  for (const std::string& sentence : explanation.sentences()) absl::StrAppend(&text, sentence, "\n");
  if (explanation.candidates().empty()) return text;
  std::vector<std::vector<std::string>> rows = {{"DEVICE", "FREE IN", "FETCH, LOAD", "TASK", "DONE IN", "REFUSED"}};
  for (const farm::v1::Candidate& candidate : explanation.candidates()) {
    if (rows.size() > kShownCandidates) break;
    const std::string name = absl::StrCat(candidate.node(), " ", candidate.device());
    if (candidate.task_s() <= 0) {
      rows.push_back({name, "", "", "", "", candidate.refusal()});
    } else {
      rows.push_back({name, Seconds(candidate.free_s()), Seconds(candidate.setup_s()), Seconds(candidate.task_s()),
                      Seconds(candidate.finish_s()), candidate.refusal()});
    }
  }
  absl::StrAppend(&text, "\n", Table(rows));
  const int shown = static_cast<int>(rows.size()) - 1;
  if (static_cast<int>(explanation.devices()) > shown) {
    absl::StrAppend(&text, "and ", static_cast<int>(explanation.devices()) - shown, " more devices\n");
  }
  return text;
}

}  // namespace storyfarm::storyctl
