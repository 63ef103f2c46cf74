// The screen of `storyctl top`.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/plan/names.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/foresight.h"
#include "tools/storyctl/text_columns.h"
#include "tools/storyctl/top_model.h"

namespace storyfarm::storyctl {
namespace {

constexpr int kIdColumns = 13;
constexpr int kStateColumns = 9;
constexpr int kPriorityColumns = 4;
constexpr int kBarColumns = 10;
constexpr int kMostBarColumns = 30;
constexpr int kCountColumns = 12;
constexpr int kPaceColumns = 9;
constexpr int kLeftColumns = 11;
constexpr int kNodeColumns = 12;
// Lines beside the two lists: title, what is told of the selection, keys, and a heading each.
constexpr int kFrameRows = 5;

// Lines of one row that stay together, so that a list scrolls by rows.
struct Row {
  std::vector<ScreenLine> lines;
  bool selected = false;
};

ScreenLine Plain(std::string text, Colour colour = Colour::kPlain) { return {{{colour, std::move(text)}}, false}; }

ScreenLine Cut(ScreenLine line, int columns) {
  int left = columns;
  for (Span& span : line.spans) {
    span.text = Fit(span.text, left);
    left -= Columns(span.text);
  }
  return line;
}

std::string Repeat(const std::string& cell, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += cell;
  return text;
}

// Cells for each part, `width` in all: in proportion, none of a part that is there left out while there is room.
std::vector<int> Share(const std::vector<uint64_t>& parts, int width) {
  double total = 0;
  for (const uint64_t part : parts) total += static_cast<double>(part);
  std::vector<int> cells(parts.size(), 0);
  if (total <= 0) return cells;
  double before = 0;
  int used = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    before += static_cast<double>(parts[i]);
    const int until = static_cast<int>(std::lround(before / total * width));
    cells[i] = std::max(parts[i] > 0 && used < width ? 1 : 0, until - used);
    used += cells[i];
  }
  while (used > width) {
    --*std::max_element(cells.begin(), cells.end());
    --used;
  }
  return cells;
}

std::string Pace(double frames_per_minute) {
  return frames_per_minute > 0 ? absl::StrFormat("%.1f/min", frames_per_minute) : "";
}

std::string Gigabytes(uint64_t bytes) { return absl::StrFormat("%.1f", static_cast<double>(bytes) * 1e-9); }

// ---- The queue ----------------------------------------------------------------------------------------------------

Colour ColourOf(const farm::v1::JobStatus& job) {
  if (job.paused()) return Colour::kYellow;
  if (job.state() == farm::v1::JOB_FAILED || job.frames_failed() > 0) return Colour::kRed;
  return job.state() == farm::v1::JOB_RUNNING ? Colour::kGreen : Colour::kPlain;
}

std::string Count(uint32_t done, uint32_t total, uint32_t failed) {
  std::string text = absl::StrCat(done, "/", total);
  if (failed > 0) absl::StrAppend(&text, " ", failed, "!");
  return text;
}

struct QueueColumns {
  int title = 0;
  int bar = 0;
  explicit QueueColumns(int columns) {
    const int fixed = 2 + kIdColumns + kStateColumns + kPriorityColumns + kCountColumns + kPaceColumns + kLeftColumns;
    bar = std::clamp((columns - fixed) / 3, kBarColumns, kMostBarColumns);
    title = std::max(6, columns - fixed - bar - 2);
  }
};

std::vector<Span> ProgressBar(uint32_t done, uint32_t total, const Glyphs& glyphs, int width) {
  const std::vector<int> cells = Share({done, total - std::min(done, total)}, width);
  return {{Colour::kGreen, Repeat(glyphs.done, cells[0])}, {Colour::kDim, Repeat(glyphs.left, width - cells[0])}};
}

Row JobRow(const farm::v1::JobStatus& job, bool selected, const Glyphs& glyphs, int columns) {
  const QueueColumns widths(columns);
  const auto add_bar = [&](ScreenLine& line, uint32_t done, uint32_t total) {
    for (Span& span : ProgressBar(done, total, glyphs, widths.bar)) line.spans.push_back(std::move(span));
  };
  Row row;
  row.selected = selected;
  ScreenLine line;
  line.spans.push_back({Colour::kBold, Pad(selected ? glyphs.mark : "", 2)});
  line.spans.push_back({Colour::kPlain, Pad(job.job_id(), kIdColumns)});
  line.spans.push_back({Colour::kPlain, Pad(Fit(Printable(job.title()), widths.title), widths.title + 1)});
  line.spans.push_back({ColourOf(job), Pad(job.paused() ? "paused" : plan::StateName(job.state()), kStateColumns)});
  line.spans.push_back({Colour::kPlain, Pad(absl::StrCat(job.priority()), kPriorityColumns)});
  add_bar(line, job.frames_done(), job.frames_total());
  line.spans.push_back({job.frames_failed() > 0 ? Colour::kRed : Colour::kPlain,
                        " " + Pad(Count(job.frames_done(), job.frames_total(), job.frames_failed()), kCountColumns)});
  line.spans.push_back({Colour::kPlain, Pad(Pace(job.frames_per_minute()), kPaceColumns)});
  line.spans.push_back({Colour::kPlain, job.seconds_left() >= 0 ? FormatSeconds(job.seconds_left()) : ""});
  row.lines.push_back(Cut(std::move(line), columns));
  // Of a job with one chapter the line above says it all; done ones say no more.
  for (int i = 0; job.chapters_size() > 1 && i < job.chapters_size(); ++i) {
    const farm::v1::ChapterProgress& chapter = job.chapters(i);
    if (chapter.frames_done() >= chapter.frames_total()) continue;
    const std::string title = chapter.title().empty() ? absl::StrCat("Chapter ", i + 1) : Printable(chapter.title());
    ScreenLine below;
    const int before = 2 + kIdColumns + widths.title + 1 + kStateColumns + kPriorityColumns;
    below.spans.push_back({Colour::kDim, Pad("", 4) + Pad(title, before - 5) + " "});
    add_bar(below, chapter.frames_done(), chapter.frames_total());
    below.spans.push_back({chapter.frames_failed() > 0 ? Colour::kRed : Colour::kDim,
                           " " + Count(chapter.frames_done(), chapter.frames_total(), chapter.frames_failed())});
    row.lines.push_back(Cut(std::move(below), columns));
  }
  return row;
}

// ---- Machines -----------------------------------------------------------------------------------------------------

struct MemoryParts {
  uint64_t farm = 0, planned = 0, others = 0, free = 0;
};

MemoryParts PartsOf(const farm::v1::DeviceStatus& device) {
  MemoryParts parts;
  parts.farm = device.memory().farm_bytes();
  parts.others = device.memory().others_bytes();
  parts.free = device.has_memory() ? device.memory().free_bytes() : device.report().free_bytes();
  // What the running group will take beside what the engine holds already.
  parts.planned = std::min(parts.free, device.planned_bytes() - std::min(device.planned_bytes(), parts.farm));
  parts.free -= parts.planned;
  return parts;
}

ScreenLine MemoryLine(const farm::v1::DeviceStatus& device, const Glyphs& glyphs, int columns) {
  const MemoryParts parts = PartsOf(device);
  std::string figures = absl::StrCat(" farm ", Gigabytes(parts.farm), " plan ", Gigabytes(parts.planned), " other ",
                                     Gigabytes(parts.others), " free ", Gigabytes(parts.free), " of ",
                                     Gigabytes(device.report().total_bytes()), " GB");
  const std::string speed =
      absl::StrCat(absl::StrFormat(" %.3g TF", device.report().speed_tflops()),
                   device.frames_per_minute() > 0 ? absl::StrCat(" ", Pace(device.frames_per_minute())) : "");
  const int bar = std::clamp(columns - 4 - Columns(figures) - Columns(speed), 6, 2 * kMostBarColumns);
  const std::vector<int> cells = Share({parts.farm, parts.planned, parts.others, parts.free}, bar);
  ScreenLine line;
  line.spans = {{Colour::kPlain, Pad("", 4)},
                {Colour::kGreen, Repeat(glyphs.farm, cells[0])},
                {Colour::kYellow, Repeat(glyphs.planned, cells[1])},
                {Colour::kRed, Repeat(glyphs.others, cells[2])},
                {Colour::kDim, Repeat(glyphs.free, cells[3])}};
  const bool pressed = device.memory().pressure() >= farm::v1::PRESSURE_WARNING;
  line.spans.push_back({pressed ? Colour::kRed : Colour::kPlain, figures});
  line.spans.push_back({Colour::kPlain, speed});
  return Cut(std::move(line), columns);
}

Span NowOf(const farm::v1::NodeStatus& node, const farm::v1::DeviceStatus* device) {
  if (!node.connected()) {
    const double heard_s = static_cast<double>(node.last_heard_ms()) / 1000;
    return {Colour::kRed, absl::StrCat("away since ", FormatSeconds(heard_s))};
  }
  if (device != nullptr && !device->task().empty()) {
    std::string text = device->task();
    if (device->steps() > 0) absl::StrAppend(&text, "  step ", device->step(), " of ", device->steps());
    if (device->queued() > 0) absl::StrAppend(&text, "  +", device->queued());
    return {Colour::kGreen, std::move(text)};
  }
  if (node.drained()) return {Colour::kYellow, "drained"};
  if (!node.resting().empty()) return {Colour::kYellow, absl::StrCat("rests: ", Printable(node.resting()))};
  if (node.leaving()) return {Colour::kYellow, "leaving"};
  if (!node.note().empty()) return {Colour::kYellow, Printable(node.note())};
  return {Colour::kDim, "idle"};
}

Row NodeRow(const farm::v1::NodeStatus& node, bool selected, const Glyphs& glyphs, int columns) {
  Row row;
  row.selected = selected;
  const int device_columns = std::clamp((columns - kNodeColumns - 4) / 3, 16, 44);
  const auto add = [&](bool first, const std::string& what, Span now) {
    ScreenLine line;
    line.spans = {{Colour::kBold, Pad(first && selected ? glyphs.mark : "", 2)},
                  {Colour::kBold, Pad(Fit(first ? Printable(node.name()) : "", kNodeColumns - 1), kNodeColumns)},
                  {Colour::kPlain, Pad(Fit(what, device_columns), device_columns + 2)},
                  std::move(now)};
    row.lines.push_back(Cut(std::move(line), columns));
  };
  if (node.devices().empty()) add(true, "", NowOf(node, nullptr));
  for (int i = 0; i < node.devices_size(); ++i) {
    const farm::v1::DeviceReport& report = node.devices(i).report();
    add(i == 0, absl::StrCat(plan::DeviceName(report), " ", Printable(report.name())), NowOf(node, &node.devices(i)));
    if (!node.connected()) continue;
    row.lines.push_back(MemoryLine(node.devices(i), glyphs, columns));
    if (!node.devices(i).has_plan()) continue;
    row.lines.push_back(Cut(Plain(absl::StrCat("    ", InShort(node.devices(i).plan())), Colour::kDim), columns));
  }
  return row;
}

// ---- Putting it together ------------------------------------------------------------------------------------------

int LinesOf(const std::vector<Row>& rows) {
  int lines = 0;
  for (const Row& row : rows) lines += static_cast<int>(row.lines.size());
  return lines;
}

// So many lines of a list, from a row on that shows the selected one whole where it fits.
std::vector<ScreenLine> Window(const std::vector<Row>& rows, int height) {
  std::vector<ScreenLine> lines;
  size_t selected = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].selected) selected = i;
  }
  size_t top = 0;
  int above = 0;
  for (size_t i = 0; i <= selected && i < rows.size(); ++i) above += static_cast<int>(rows[i].lines.size());
  while (top < selected && above > height) above -= static_cast<int>(rows[top++].lines.size());
  for (size_t i = top; i < rows.size(); ++i) {
    for (const ScreenLine& line : rows[i].lines) {
      if (static_cast<int>(lines.size()) < height) lines.push_back(line);
    }
  }
  lines.resize(static_cast<size_t>(std::max(0, height)));
  return lines;
}

ScreenLine Title(const FarmView& view, int columns) {
  if (!view.heard) {
    const std::string text = view.away.empty() ? absl::StrCat("asking ", view.target) : Printable(view.away);
    return Plain(Fit(absl::StrCat("storyfarm: ", text), columns), Colour::kBold);
  }
  if (!view.away.empty()) {
    const std::string silent = FormatSeconds(static_cast<double>(view.away_s));
    return Plain(
        Fit(absl::StrCat("no answer for ", silent, ", below is what was said last: ", Printable(view.away)), columns),
        Colour::kRed);
  }
  double a_minute = 0;
  uint32_t left = 0, running = 0, live = 0;
  for (const auto& job : view.jobs) {
    if (IsFinal(job.state())) continue;
    ++live;
    a_minute += job.frames_per_minute();
    running += job.frames_running();
    left += job.frames_total() - job.frames_done() - job.frames_failed();
  }
  const auto connected =
      std::count_if(view.nodes.begin(), view.nodes.end(), [](const auto& node) { return node.connected(); });
  std::string text = absl::StrCat(left, left == 1 ? " panel left in " : " panels left in ", live,
                                  live == 1 ? " job, " : " jobs, ", running, " at work, ", connected, " of ",
                                  view.nodes.size(), view.nodes.size() == 1 ? " machine" : " machines");
  if (a_minute > 0) absl::StrAppend(&text, ", ", Pace(a_minute));
  if (a_minute > 0 && left > 0) absl::StrAppend(&text, ", ", FormatSeconds(left * 60.0 / a_minute), " left");
  return Plain(Fit(text, columns), Colour::kBold);
}

ScreenLine QueueHeading(int columns) {
  const QueueColumns widths(columns);
  const std::string text = absl::StrCat(
      Pad("", 2), Pad("JOB", kIdColumns), Pad("TITLE", widths.title + 1), Pad("STATE", kStateColumns),
      Pad("PRI", kPriorityColumns), Pad("PANELS", widths.bar + kCountColumns + 1), Pad("SPEED", kPaceColumns), "LEFT");
  return {{{Colour::kPlain, Pad(text, columns)}}, true};
}

ScreenLine NodesHeading(const Glyphs& glyphs, int columns) {
  const std::string legend = absl::StrCat(glyphs.farm, " farm ", glyphs.planned, " plan ", glyphs.others, " other ",
                                          glyphs.free, " free");
  const int device = columns - 2 - kNodeColumns - Columns(legend) - 1;
  const std::string text = absl::StrCat(Pad("  MACHINE", 2 + kNodeColumns), Pad("DEVICE", device), legend);
  return {{{Colour::kPlain, Pad(text, columns)}}, true};
}

// The line above the keys: what came of a request, else what keeps the selected row waiting.
ScreenLine Told(const FarmView& view, const TopState& state, int columns) {
  if (!state.message.empty()) {
    return Plain(Fit(Printable(state.message), columns), state.failed ? Colour::kRed : Colour::kGreen);
  }
  if (state.pane == Pane::kJobs) {
    for (const auto& job : view.jobs) {
      if (job.job_id() != state.job || job.waiting().empty()) continue;
      return Plain(Fit(absl::StrCat("waits: ", Printable(job.waiting(0).reason())), columns), Colour::kYellow);
    }
  } else {
    for (const auto& node : view.nodes) {
      if (node.node_id() != state.node || node.note().empty()) continue;
      return Plain(Fit(absl::StrCat(node.name(), ": ", Printable(node.note())), columns), Colour::kYellow);
    }
  }
  return {};
}

ScreenLine Keys(const TopState& state, const Glyphs& glyphs, int columns) {
  const bool jobs = state.pane == Pane::kJobs;
  std::string text =
      absl::StrCat(jobs ? "tab machines  p pause  r retry  e explain  " : "tab jobs  d drain  e explain  ",
                   glyphs.up_down, " select  ? help  q quit");
  if (!state.text.empty()) text = absl::StrCat(glyphs.up_down, " scroll  any other key goes back");
  return {{{Colour::kPlain, Pad(text, columns)}}, true};
}

Screen Spelled(Screen screen, const Glyphs& glyphs) {
  if (glyphs.utf8) return screen;
  for (ScreenLine& line : screen) {
    for (Span& span : line.spans) span.text = Ascii(span.text);
  }
  return screen;
}

Screen TextScreen(const TopState& state, const Glyphs& glyphs, int rows, int columns) {
  Screen screen;
  for (size_t i = state.text_top; i < state.text.size() && static_cast<int>(screen.size()) < rows - 1; ++i) {
    screen.push_back(Plain(Fit(Printable(state.text[i]), columns)));
  }
  screen.resize(static_cast<size_t>(std::max(0, rows - 1)));
  screen.push_back(Keys(state, glyphs, columns));
  return screen;
}

}  // namespace

Glyphs Glyphs::Unicode() { return {"█", "▓", "▒", "·", "█", "░", "▸", "↑↓"}; }
Glyphs Glyphs::Ascii() { return {"#", "+", "=", ".", "#", ".", ">", "up/down", /*utf8=*/false}; }

Screen DrawTop(const FarmView& view, const TopState& state, const Glyphs& glyphs, int rows, int columns) {
  if (!state.text.empty()) return Spelled(TextScreen(state, glyphs, rows, columns), glyphs);
  std::vector<Row> jobs, nodes;
  for (const auto& job : view.jobs) {
    jobs.push_back(JobRow(job, state.pane == Pane::kJobs && job.job_id() == state.job, glyphs, columns));
  }
  for (const auto& node : view.nodes) {
    nodes.push_back(NodeRow(node, state.pane == Pane::kNodes && node.node_id() == state.node, glyphs, columns));
  }
  const auto say = [&](std::vector<Row>& list, const std::string& what) {
    if (list.empty() && view.heard) list.push_back({{Plain(Fit(what, columns), Colour::kDim)}, false});
  };
  say(jobs, "  nothing to draw: storyctl submit STORY");
  say(nodes, "  no machine yet: start storyfarm-worker");
  const int room = std::max(0, rows - kFrameRows);
  // What fits is shown whole; else each list has half of the screen, or what the other one leaves of it.
  const int job_rows = std::min(LinesOf(jobs), std::max(room - LinesOf(nodes), room / 2));
  Screen screen;
  screen.push_back(Title(view, columns));
  screen.push_back(QueueHeading(columns));
  for (ScreenLine& line : Window(jobs, job_rows)) screen.push_back(std::move(line));
  screen.push_back(NodesHeading(glyphs, columns));
  for (ScreenLine& line : Window(nodes, room - job_rows)) screen.push_back(std::move(line));
  screen.push_back(Told(view, state, columns));
  screen.push_back(Keys(state, glyphs, columns));
  screen.resize(static_cast<size_t>(std::max(0, rows)));
  return Spelled(std::move(screen), glyphs);
}

std::string TextOf(const Screen& screen) {
  std::string text;
  for (const ScreenLine& line : screen) {
    std::string row;
    for (const Span& span : line.spans) row += span.text;
    row.erase(row.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, row, "\n");
  }
  return text;
}

}  // namespace storyfarm::storyctl
