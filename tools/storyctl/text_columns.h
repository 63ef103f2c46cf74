// Text as a terminal lays it out: a Chinese character takes two columns, an accent that is put over a letter none.
#ifndef STORYFARM_TOOLS_STORYCTL_TEXT_COLUMNS_H_
#define STORYFARM_TOOLS_STORYCTL_TEXT_COLUMNS_H_

#include <string>
#include <vector>

namespace storyfarm::storyctl {

// Columns that UTF-8 takes. Widths are those of Unicode's East Asian Width (UAX #11), wide and full width as two.
int Columns(const std::string& text);

// Cut to at most `columns`; the end of what was cut becomes "…".
std::string Fit(const std::string& text, int columns);

// Fitted, and filled with blanks to exactly `columns`.
std::string Pad(const std::string& text, int columns);

// Broken at blanks into lines of at most `columns`; a longer word is cut.
std::vector<std::string> Wrap(const std::string& text, int columns);

// For a terminal that shows nothing else: each other character becomes as many question marks as it takes columns, and
// "…" a tilde.
std::string Ascii(const std::string& text);

// Without control characters, which would move a terminal's cursor or change its state: each becomes a blank.
std::string Printable(const std::string& text);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_TEXT_COLUMNS_H_
