// `storyctl top` without a terminal: what the farm says becomes lines of a screen, and keys become what to ask of the
// farm. Pure, so that a test reads screens as text; top_screen.h puts them on a terminal.
//
//   ListJobs, ListNodes ──> FarmView ─┐
//                                     ├─ DrawTop ──> Screen (rows of coloured text)
//   keys ── Press ──> TopState ───────┘
//             └────> TopRequest: pause, drain, explain, retry
#ifndef STORYFARM_TOOLS_STORYCTL_TOP_MODEL_H_
#define STORYFARM_TOOLS_STORYCTL_TOP_MODEL_H_

#include <optional>
#include <string>
#include <vector>

#include "farm/v1/client.pb.h"
#include "farm/v1/job.pb.h"
#include "tools/storyctl/console.h"

namespace storyfarm::storyctl {

// The farm as it was heard of last.
struct FarmView {
  std::string target;                       // where it was asked
  std::vector<farm::v1::JobStatus> jobs;    // in the order in which they are served, then some that ended with failures
  std::vector<farm::v1::NodeStatus> nodes;  // by name
  bool heard = false;                       // it has answered once
  std::string away;                         // why it does not answer now; empty: it does
  int64_t away_s = 0;                       // for how long
};

// A mark is what stands before the selected row.
struct Glyphs {
  std::string farm, planned, others, free;  // cells of a memory bar
  std::string done, left;                   // cells of a progress bar
  std::string mark;
  std::string up_down;  // the arrow keys
  bool utf8 = true;     // other texts may be shown as they are
  static Glyphs Unicode();
  static Glyphs Ascii();  // for terminals that are not in UTF-8
};

enum class Pane { kJobs, kNodes };

// What the person did on the screen.
struct TopState {
  Pane pane = Pane::kJobs;
  std::string job;   // selected: ids, so that a row stays selected where others come and go
  std::string node;
  std::string message;  // what came of the last request
  bool failed = false;  // it is bad news
  // Text in front of the panes until a key is pressed: an explanation, or help.
  std::vector<std::string> text;
  size_t text_top = 0;  // first line shown
};

enum class TopKey { kUp, kDown, kPageUp, kPageDown, kTab, kEscape, kCharacter };

struct TopRequest {
  enum Kind { kPause, kResume, kDrain, kUndrain, kExplainJob, kExplainTask, kRetry, kQuit } kind = kQuit;
  std::string what;  // job, task or node id
  std::string name;  // of it, for messages
};

// Sees to it that what is selected is there: the first one where it is gone.
void KeepSelection(const FarmView& view, TopState& state);

// `character` counts for kCharacter. Changes the state; a request where something is to be asked of the farm.
std::optional<TopRequest> Press(TopKey key, char character, const FarmView& view, TopState& state);

struct Span {
  Colour colour = Colour::kPlain;
  std::string text;
};
struct ScreenLine {
  std::vector<Span> spans;
  bool reversed = false;  // a heading
};
using Screen = std::vector<ScreenLine>;

// Exactly `rows` lines of at most `columns`. Fits 80 x 24; smaller screens lose the end of lines and lists.
Screen DrawTop(const FarmView& view, const TopState& state, const Glyphs& glyphs, int rows, int columns);

// Without colours, each line without the blanks at its end.
std::string TextOf(const Screen& screen);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_TOP_MODEL_H_
