#include "tools/storyctl/progress.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/plan/names.h"
#include "tools/storyctl/console.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"
#include "tools/storyctl/text_columns.h"

namespace storyfarm::storyctl {
namespace {

constexpr int kTitleColumns = 24;
constexpr int kMostBarColumns = 40;
// More bars than this push each other off the screen; those at work are shown.
constexpr int kMostChapters = 12;

std::string ChapterLine(const farm::v1::ChapterProgress& chapter, int number, int columns) {
  const std::string title = chapter.title().empty() ? absl::StrCat("Chapter ", number) : chapter.title();
  const int bar = std::clamp(columns - kTitleColumns - 24, 8, kMostBarColumns);
  std::string line = absl::StrCat(Pad(title, kTitleColumns), " ");
  absl::StrAppend(&line, Bar(chapter.frames_done(), chapter.frames_total(), bar), " ", chapter.frames_done(), "/",
                  chapter.frames_total());
  if (chapter.frames_failed() > 0) absl::StrAppend(&line, ", ", chapter.frames_failed(), " failed");
  return line;
}

}  // namespace

std::string Summary(const farm::v1::JobStatus& status) {
  std::string line =
      absl::StrCat(plan::StateName(status.state()), ", ", status.frames_done(), " of ", status.frames_total(),
                   " panels, ", status.pages_done(), " of ", status.pages_total(), " pages");
  if (status.frames_failed() > 0) absl::StrAppend(&line, ", ", status.frames_failed(), " failed");
  if (IsFinal(status.state())) {
    if (status.finished_unix_ms() > status.submitted_unix_ms()) {
      const double seconds = static_cast<double>(status.finished_unix_ms() - status.submitted_unix_ms()) * 1e-3;
      absl::StrAppend(&line, ", took ", FormatSeconds(seconds));
    }
    return line;
  }
  if (status.frames_running() > 0) absl::StrAppend(&line, ", ", status.frames_running(), " at work");
  if (status.frames_per_minute() > 0) absl::StrAppendFormat(&line, ", %.1f a minute", status.frames_per_minute());
  if (status.seconds_left() >= 0 && status.frames_done() > 0) {
    absl::StrAppend(&line, ", ", FormatSeconds(status.seconds_left()), " left");
  }
  return line;
}

std::vector<std::string> WaitingLines(const farm::v1::JobStatus& status) {
  std::vector<std::string> lines;
  std::set<std::string> seen;
  for (const auto& refusal : status.waiting()) {
    if (seen.insert(refusal.reason()).second) lines.push_back(absl::StrCat("waits: ", refusal.reason()));
  }
  return lines;
}

std::vector<std::string> ProgressLines(const farm::v1::JobStatus& status, int columns) {
  std::vector<std::string> lines;
  lines.push_back(status.title().empty() ? status.job_id() : absl::StrCat(status.title(), "  (", status.job_id(), ")"));
  if (status.identities_total() > 0) {
    std::string line = absl::StrCat("characters: ", status.identities_done(), " of ", status.identities_total());
    if (status.identities_reused() > 0) absl::StrAppend(&line, ", pack hits: ", status.identities_reused());
    if (status.identities_done() > 0) {
      absl::StrAppendFormat(&line, ", identity seconds: %.1f", static_cast<double>(status.identity_ms()) / 1000);
    }
    lines.push_back(std::move(line));
  }
  int shown = 0;
  int hidden = 0;
  const bool crowded = status.chapters_size() > kMostChapters;
  for (int i = 0; i < status.chapters_size(); ++i) {
    const farm::v1::ChapterProgress& chapter = status.chapters(i);
    const bool over = chapter.frames_done() + chapter.frames_failed() >= chapter.frames_total();
    if (crowded && (over || shown == kMostChapters)) {
      ++hidden;
      continue;
    }
    lines.push_back(ChapterLine(chapter, i + 1, columns));
    ++shown;
  }
  if (hidden > 0) lines.push_back(absl::StrCat("and ", hidden, " more chapters"));
  lines.push_back(Summary(status));
  for (std::string& line : WaitingLines(status)) lines.push_back(std::move(line));
  return lines;
}

}  // namespace storyfarm::storyctl
