// The program `storyctl top` on a terminal of its own: keys, resizing, a coordinator that goes and comes back.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>

#include "pipeline/base/subprocess.h"
#include "pipeline/base/unique_fd.h"
#include "tests/tools/storyctl/fake_farm.h"
#include "tests/tools/storyctl/harness.h"

namespace storyfarm::storyctl {
namespace {

using ::testing::HasSubstr;

constexpr char kLongTitle[] = "Donaudampfschifffahrtsgesellschaft";

class TopProgram : public StoryctlTest {
 protected:
  void SetUp() override {
    StoryctlTest::SetUp();
    StartFarm(kLongTitle);
    master_ = base::UniqueFd(posix_openpt(O_RDWR | O_NOCTTY));
    ASSERT_GE(master_.get(), 0);
    ASSERT_EQ(grantpt(master_.get()), 0);
    ASSERT_EQ(unlockpt(master_.get()), 0);
    slave_ = base::UniqueFd(open(ptsname(master_.get()), O_RDWR | O_NOCTTY));
    ASSERT_GE(slave_.get(), 0);
    Resize(24, 80);
    base::SubprocessOptions options;
    options.program = STORYFARM_BIN_DIR "/storyctl";
    options.arguments = {"top", "--farm", farm_->target()};
    options.environment = {{"TERM", "xterm"}, {"LC_ALL", "C.UTF-8"}, {"COLUMNS", ""}, {"LINES", ""}};
    options.descriptors = {{slave_.get(), 0}, {slave_.get(), 1}};
    auto started = base::Subprocess::Start(options);
    ASSERT_TRUE(started.ok()) << started.status();
    program_ = *std::move(started);
  }

  void StartFarm(const std::string& title) {
    farm_ = std::make_unique<FakeFarm>(Path("farm.sock"));
    const std::lock_guard lock(farm_->mutex);
    farm::v1::JobStatus job;
    job.set_job_id("j-1");
    job.set_title(title);
    job.set_state(farm::v1::JOB_RUNNING);
    job.set_frames_total(4);
    job.set_seconds_left(-1);
    farm_->jobs["j-1"] = {job};
  }

  void Resize(unsigned short rows, unsigned short columns) {
    winsize size{};
    size.ws_row = rows;
    size.ws_col = columns;
    ASSERT_EQ(ioctl(master_.get(), TIOCSWINSZ, &size), 0);
    if (program_ != nullptr) program_->Signal(SIGWINCH);
  }
  void Type(char key) { ASSERT_EQ(write(master_.get(), &key, 1), 1); }

  // Whether the program writes this within a while; what came before it is forgotten.
  bool Shows(const std::string& text) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (std::chrono::steady_clock::now() < until) {
      if (const size_t at = written_.find(text); at != std::string::npos) {
        written_.erase(0, at + text.size());
        return true;
      }
      pollfd readable{master_.get(), POLLIN, 0};
      if (poll(&readable, 1, 100) <= 0) continue;
      char bytes[4096];
      const ssize_t count = read(master_.get(), bytes, sizeof(bytes));
      if (count <= 0) return false;
      written_.append(bytes, static_cast<size_t>(count));
    }
    return false;
  }

  std::unique_ptr<FakeFarm> farm_;
  base::UniqueFd master_, slave_;
  std::unique_ptr<base::Subprocess> program_;
  std::string written_;
};

TEST_F(TopProgram, SurvivesAResizeAndACoordinatorThatRestartsAndGivesTheTerminalBack) {
  ASSERT_TRUE(Shows("j-1")) << written_;
  ASSERT_TRUE(Shows("Don")) << written_;
  Resize(50, 160);
  ASSERT_TRUE(Shows("gesellschaft")) << "a wide terminal has room for the title's end: " << written_;
  farm_.reset();
  ASSERT_TRUE(Shows("answer")) << "it tells that the farm is away: " << written_;
  StartFarm("Heimkehr");
  ASSERT_TRUE(Shows("Heimkehr")) << written_;
  Type('p');
  ASSERT_TRUE(Shows("paused")) << written_;
  {
    const std::lock_guard lock(farm_->mutex);
    EXPECT_TRUE(farm_->jobs["j-1"].back().paused());
  }
  Type('q');
  ASSERT_TRUE(Shows("\x1b[?1049l")) << "back to the screen of before: " << written_;
  const auto ended = program_->Wait(absl::Seconds(20));
  ASSERT_TRUE(ended.has_value());
  EXPECT_TRUE(ended->ok()) << ended->ToString();
}

TEST_F(TopProgram, APersonWithoutATerminalIsToldWhatElseThereIs) {
  base::SubprocessOptions options;
  options.program = STORYFARM_BIN_DIR "/storyctl";
  options.arguments = {"top", "--farm", farm_->target()};
  options.output_file = Path("said");
  const auto program = base::Subprocess::Start(options);
  ASSERT_TRUE(program.ok()) << program.status();
  const auto ended = (*program)->Wait(absl::Seconds(20));
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->code, 2);
  EXPECT_THAT(Read(Path("said")), HasSubstr("top needs a terminal; storyctl queue and storyctl nodes"));
  EXPECT_EQ(Run({"top", "--json"}), 2);
}

}  // namespace
}  // namespace storyfarm::storyctl
