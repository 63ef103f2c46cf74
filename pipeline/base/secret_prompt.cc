#include "pipeline/base/secret_prompt.h"

#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace storyfarm::base {
namespace {

// A terminal's own longest line.
constexpr size_t kMostBytes = 4096;

// Hides what is typed, until it goes.
class HiddenTyping {
 public:
  HiddenTyping() : terminal_(isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &before_) == 0) {
    if (!terminal_) return;
    termios hidden = before_;
    hidden.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
  }
  ~HiddenTyping() {
    if (!terminal_) return;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
    std::fputc('\n', stderr);
  }
  HiddenTyping(const HiddenTyping&) = delete;
  HiddenTyping& operator=(const HiddenTyping&) = delete;
  bool terminal() const { return terminal_; }

 private:
  termios before_{};
  const bool terminal_;
};

}  // namespace

absl::StatusOr<std::string> ReadSecretLine(std::string_view prompt) {
  const HiddenTyping hidden;
  if (hidden.terminal()) {
    std::fwrite(prompt.data(), 1, prompt.size(), stderr);
    std::fflush(stderr);
  }
  std::string line;
  while (line.size() < kMostBytes) {
    char byte = 0;
    const ssize_t count = read(STDIN_FILENO, &byte, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0 || byte == '\n') break;
    line.push_back(byte);
  }
  line = std::string(absl::StripAsciiWhitespace(line));
  if (line.empty()) return absl::InvalidArgumentError("No code came: type or paste it, or give it on stdin.");
  return line;
}

absl::StatusOr<std::string> ReadSecretFile(Env& env, const std::string& path) {
  const absl::StatusOr<std::string> text = env.ReadFile(path, kMostBytes);
  if (!text.ok()) return text.status();
  std::string line(absl::StripAsciiWhitespace(text->substr(0, text->find('\n'))));
  if (line.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " holds no code: write one into it."));
  return line;
}

}  // namespace storyfarm::base
