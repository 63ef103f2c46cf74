// A terminal for `storyctl top`: ncurses, which knows how each terminal is written to and what its keys send.
#ifndef STORYFARM_TOOLS_STORYCTL_TOP_SCREEN_H_
#define STORYFARM_TOOLS_STORYCTL_TOP_SCREEN_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "tools/storyctl/top_model.h"

namespace storyfarm::storyctl {

struct Pressed {
  TopKey key = TopKey::kCharacter;
  char character = 0;
};

// This process's terminal, given back as it was at destruction. At most one at a time; one thread.
class TopScreen {
 public:
  // INVALID_ARGUMENT where standard input and output are no terminal, or one that is not known.
  static absl::StatusOr<std::unique_ptr<TopScreen>> Open(bool colour);
  virtual ~TopScreen() = default;

  virtual int rows() const = 0;
  virtual int columns() const = 0;
  virtual Glyphs glyphs() const = 0;
  virtual void Show(const Screen& screen) = 0;
  // The next key, waited for so long. None also where the terminal's size has changed.
  virtual std::optional<Pressed> WaitForKey(int wait_ms) = 0;
};

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_TOP_SCREEN_H_
