// Where storyctl writes: results to stdout, everything else to stderr; colours and redrawn lines only where a person
// looks on.
#ifndef STORYFARM_TOOLS_STORYCTL_CONSOLE_H_
#define STORYFARM_TOOLS_STORYCTL_CONSOLE_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace storyfarm::storyctl {

enum class Colour { kPlain, kRed, kGreen, kYellow, kBold, kDim };

class Console {
 public:
  // `live`: `err` is a terminal, `columns` wide. `colour`: it may be coloured.
  Console(std::ostream& out, std::ostream& err, bool live, bool colour, int columns);
  // Of this process: live where stderr is a terminal, coloured there unless NO_COLOR is set (no-color.org).
  static Console OfProcess();

  std::ostream& out() const { return out_; }
  std::ostream& err() const { return err_; }
  bool live() const { return live_; }
  bool colour() const { return colour_; }
  int columns() const { return columns_; }

  // `text` in a colour, or as it is.
  std::string Paint(Colour colour, const std::string& text) const;
  // "error: ..." and "warning: ..." lines on stderr.
  void Error(const std::string& message) const;
  void Warning(const std::string& message) const;
  void Note(const std::string& message) const;

 private:
  std::ostream& out_;
  std::ostream& err_;
  bool live_;
  bool colour_;
  int columns_;
};

// Lines at the terminal's bottom that are drawn again at each change. Does nothing where the console is not live.
class LiveLines {
 public:
  explicit LiveLines(const Console& console) : console_(console) {}
  // Leaves what was shown last.
  ~LiveLines() = default;
  void Show(const std::vector<std::string>& lines);
  // Takes the lines away, so that something else may be printed.
  void Clear();

 private:
  const Console& console_;
  size_t shown_ = 0;
};

// "|####....| " of `width` cells, `done` of `total`.
std::string Bar(uint64_t done, uint64_t total, int width);
// "45 s", "3 min 20 s", "2 h 5 min".
std::string FormatSeconds(double seconds);
// "812 B", "3.4 MB", "5.8 GB": decimal.
std::string FormatBytes(uint64_t bytes);
// Columns of text, aligned; the first row is the heading.
std::string Table(const std::vector<std::vector<std::string>>& rows);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_CONSOLE_H_
