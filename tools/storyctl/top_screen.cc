#include "tools/storyctl/top_screen.h"

#include <langinfo.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"

// Last: it defines macros with short names.
#define NCURSES_NOMACROS 1
#include <curses.h>

namespace storyfarm::storyctl {
namespace {

constexpr int kEscapeMs = 25;  // after which an escape is the key itself, and not the beginning of an arrow's

enum Pair : short { kRedPair = 1, kGreenPair, kYellowPair };

class Curses final : public TopScreen {
 public:
  Curses(SCREEN* screen, bool colour, bool unicode) : screen_(screen), unicode_(unicode) {
    cbreak();
    noecho();
    nonl();
    curs_set(0);
    keypad(stdscr, TRUE);
    set_escdelay(kEscapeMs);
    colour_ = colour && has_colors() && start_color() == OK && use_default_colors() == OK;
    if (!colour_) return;
    init_pair(kRedPair, COLOR_RED, -1);
    init_pair(kGreenPair, COLOR_GREEN, -1);
    init_pair(kYellowPair, COLOR_YELLOW, -1);
  }
  ~Curses() override {
    endwin();
    delscreen(screen_);
  }

  int rows() const override { return getmaxy(stdscr); }
  int columns() const override { return getmaxx(stdscr); }
  Glyphs glyphs() const override { return unicode_ ? Glyphs::Unicode() : Glyphs::Ascii(); }

  void Show(const Screen& screen) override {
    erase();
    for (size_t row = 0; row < screen.size(); ++row) {
      if (move(static_cast<int>(row), 0) == ERR) break;
      for (const Span& span : screen[row].spans) {
        const attr_t attributes = AttributesOf(span.colour) | (screen[row].reversed ? A_REVERSE : A_NORMAL);
        attron(attributes);
        addstr(span.text.c_str());
        attroff(attributes);
      }
    }
    refresh();
  }

  std::optional<Pressed> WaitForKey(int wait_ms) override {
    timeout(wait_ms);
    switch (const int key = getch()) {
      case ERR:
      case KEY_RESIZE:
        return std::nullopt;
      case KEY_UP:
        return Pressed{TopKey::kUp, 0};
      case KEY_DOWN:
        return Pressed{TopKey::kDown, 0};
      case KEY_PPAGE:
        return Pressed{TopKey::kPageUp, 0};
      case KEY_NPAGE:
        return Pressed{TopKey::kPageDown, 0};
      case '\t':
        return Pressed{TopKey::kTab, 0};
      case 27:
        return Pressed{TopKey::kEscape, 0};
      default:
        if (key < ' ' || key > '~') return std::nullopt;
        return Pressed{TopKey::kCharacter, static_cast<char>(key)};
    }
  }

 private:
  attr_t AttributesOf(Colour colour) const {
    switch (colour) {
      case Colour::kRed:
        return colour_ ? COLOR_PAIR(kRedPair) : A_BOLD;
      case Colour::kGreen:
        return colour_ ? COLOR_PAIR(kGreenPair) : A_NORMAL;
      case Colour::kYellow:
        return colour_ ? COLOR_PAIR(kYellowPair) : A_NORMAL;
      case Colour::kBold:
        return A_BOLD;
      case Colour::kDim:
        return A_DIM;
      case Colour::kPlain:
        break;
    }
    return A_NORMAL;
  }

  SCREEN* const screen_;
  const bool unicode_;
  bool colour_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TopScreen>> TopScreen::Open(bool colour) {
  if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) {
    return absl::InvalidArgumentError(
        "top needs a terminal; storyctl queue and storyctl nodes print the same once, --json for programs");
  }
  std::setlocale(LC_ALL, "");
  const bool unicode = std::string(nl_langinfo(CODESET)) == "UTF-8";
  SCREEN* screen = newterm(nullptr, stdout, stdin);
  if (screen == nullptr) {
    const char* term = std::getenv("TERM");
    return absl::InvalidArgumentError(
        absl::StrCat("the terminal ", term == nullptr ? "(TERM is not set)" : term,
                     " is not known on this machine: set TERM to one that is, such as xterm"));
  }
  return std::make_unique<Curses>(screen, colour, unicode);
}

}  // namespace storyfarm::storyctl
