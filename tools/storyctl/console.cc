#include "tools/storyctl/console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/storyctl/text_columns.h"

namespace storyfarm::storyctl {
namespace {

constexpr int kDefaultColumns = 80;

const char* Escape(Colour colour) {
  switch (colour) {
    case Colour::kRed:
      return "\x1b[31m";
    case Colour::kGreen:
      return "\x1b[32m";
    case Colour::kYellow:
      return "\x1b[33m";
    case Colour::kBold:
      return "\x1b[1m";
    case Colour::kDim:
      return "\x1b[2m";
    case Colour::kPlain:
      break;
  }
  return "";
}

}  // namespace

Console::Console(std::ostream& out, std::ostream& err, bool live, bool colour, int columns)
    : out_(out), err_(err), live_(live), colour_(colour), columns_(columns) {}

Console Console::OfProcess() {
  const bool live = isatty(STDERR_FILENO) == 1;
  const char* no_colour = std::getenv("NO_COLOR");
  const bool colour = live && (no_colour == nullptr || *no_colour == '\0');
  winsize size{};
  const bool sized = live && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return Console(std::cout, std::cerr, live, colour, sized ? size.ws_col : kDefaultColumns);
}

std::string Console::Paint(Colour colour, const std::string& text) const {
  if (!colour_ || colour == Colour::kPlain) return text;
  return absl::StrCat(Escape(colour), text, "\x1b[0m");
}

void Console::Error(const std::string& message) const {
  err_ << Paint(Colour::kRed, "error: ") << message << std::endl;
}

void Console::Warning(const std::string& message) const {
  err_ << Paint(Colour::kYellow, "warning: ") << message << std::endl;
}

void Console::Note(const std::string& message) const { err_ << message << std::endl; }

void LiveLines::Show(const std::vector<std::string>& lines) {
  if (!console_.live()) return;
  std::string frame;
  if (shown_ > 0) frame = absl::StrCat("\x1b[", shown_, "A");
  for (const std::string& line : lines) absl::StrAppend(&frame, "\x1b[2K", Fit(line, console_.columns() - 1), "\n");
  for (size_t i = lines.size(); i < shown_; ++i) absl::StrAppend(&frame, "\x1b[2K\n");
  shown_ = std::max(shown_, lines.size());
  console_.err() << frame << std::flush;
}

void LiveLines::Clear() {
  if (shown_ == 0) return;
  console_.err() << "\x1b[" << shown_ << "A\x1b[J" << std::flush;
  shown_ = 0;
}

std::string Bar(uint64_t done, uint64_t total, int width) {
  const double share = total == 0 ? 0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const int full = static_cast<int>(std::floor(share * width));
  std::string bar;
  for (int i = 0; i < width; ++i) bar += i < full ? "█" : "░";
  return bar;
}

std::string FormatSeconds(double seconds) {
  const int64_t whole = std::llround(std::clamp(seconds, 0.0, 1e9));
  if (whole < 60) return absl::StrCat(whole, " s");
  if (whole < 3600) return absl::StrCat(whole / 60, " min ", whole % 60, " s");
  return absl::StrCat(whole / 3600, " h ", whole % 3600 / 60, " min");
}

std::string FormatBytes(uint64_t bytes) {
  const double value = static_cast<double>(bytes);
  if (value < 1e3) return absl::StrCat(bytes, " B");
  if (value < 1e6) return absl::StrFormat("%.0f kB", value * 1e-3);
  if (value < 1e9) return absl::StrFormat("%.1f MB", value * 1e-6);
  return absl::StrFormat("%.1f GB", value * 1e-9);
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<int> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Columns(row[i]));
  }
  std::string table;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&table, row[i]);
      const bool last = i + 1 == row.size();
      table += last ? std::string("\n") : std::string(static_cast<size_t>(widths[i] - Columns(row[i]) + 2), ' ');
    }
  }
  return table;
}

}  // namespace storyfarm::storyctl
