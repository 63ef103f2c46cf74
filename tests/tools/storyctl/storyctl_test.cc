// What needs neither farm nor engine: usage, completion, lines for people.
#include "tools/storyctl/storyctl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/storyctl/harness.h"
#include "tools/storyctl/exit_code.h"
#include "tools/storyctl/problems.h"
#include "tools/storyctl/progress.h"
#include "tools/storyctl/text_columns.h"

namespace storyfarm::storyctl {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

using Usage = StoryctlTest;

TEST_F(Usage, HelpAndVersionAreResultsAndEndWell) {
  EXPECT_EQ(Run({"--help"}), 0);
  for (const char* command :
       {"submit", "jobs", "status", "watch", "fetch", "cancel", "nodes", "models", "render", "plan"}) {
    EXPECT_THAT(out_.str(), HasSubstr(command));
  }
  EXPECT_THAT(out_.str(), HasSubstr("Exit codes"));
  EXPECT_EQ(Run({"--version"}), 0);
  EXPECT_EQ(Run({"render", "--help"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("--save-draws"));
}

TEST_F(Usage, WrongUsageIsBadInput) {
  EXPECT_EQ(Run({}), 2);
  EXPECT_EQ(Run({"sumbit"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("no command 'sumbit'"));
  EXPECT_EQ(Run({"watch"}), 2);
  EXPECT_EQ(Run({"jobs", "--limit", "none"}), 2);
  EXPECT_EQ(Run({"completion", "tcsh"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("bash, zsh, fish"));
}

TEST_F(Usage, WithJsonWrongUsageIsADocumentToo) {
  EXPECT_EQ(Run({"--json", "jobs", "--limit", "0"}), 2);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("\"exit_code\": 2"), HasSubstr("--limit")));
  EXPECT_EQ(Run({"submit", "--json"}), 2);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("\"exit_code\": 2"), HasSubstr("story is required")));
}

TEST_F(Usage, AnAddressThatIsNoneIsBadInput) {
  EXPECT_EQ(Run({"jobs", "--farm", "farm"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("HOST:PORT"));
}

TEST_F(Usage, AFileLargerThanAnyStoryIsBadInput) {
  EXPECT_EQ(Run({"submit", Write("huge.txt", std::string((4 << 20) + 1, 'x')), "--farm", "unix:/nowhere"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("huge.txt"));
}

TEST_F(Usage, AMissingFileIsBadInputAndNamesTheFile) {
  variables_["HOME"] = folder_.string();
  EXPECT_EQ(Run({"submit", Path("nowhere.yaml")}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("nowhere.yaml"));
}

TEST_F(Usage, CompletionKnowsEveryCommandAndItsOptions) {
  for (const char* shell : {"bash", "zsh"}) {
    ASSERT_EQ(Run({"completion", shell}), 0);
    EXPECT_THAT(out_.str(), AllOf(HasSubstr("'models add'"), HasSubstr("--save-draws"), HasSubstr("-F _storyctl")));
  }
  ASSERT_EQ(Run({"completion", "fish"}), 0);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("-a render"), HasSubstr("-l save-draws"),
                                HasSubstr("'__fish_seen_subcommand_from models' -a add")));
}

// The script is run by the shell itself.
TEST_F(Usage, BashCompletesCommandsAndOptions) {
  if (std::system("bash -c 'type compgen' > /dev/null 2>&1") != 0) GTEST_SKIP() << "no bash here";
  ASSERT_EQ(Run({"completion", "bash"}), 0);
  const std::string script = Write("completion.bash", out_.str());
  const auto complete = [&](const std::string& words, int at) {
    const std::string result = Path("completed");
    const std::string command = "bash -c 'source " + script + "; COMP_WORDS=(" + words +
                                "); COMP_CWORD=" + std::to_string(at) + "; _storyctl; echo ${COMPREPLY[@]}' > " +
                                result;
    EXPECT_EQ(std::system(command.c_str()), 0);
    return Read(result);
  };
  EXPECT_EQ(complete("storyctl su", 1), "submit\n");
  EXPECT_EQ(complete("storyctl models a", 2), "add\n");
  EXPECT_EQ(complete("storyctl render x --sav", 3), "--save-draws\n");
}

TEST(Problems, TheExcerptPointsAtTheColumnInCharacters) {
  farm::v1::Problem problem;
  problem.set_line(2);
  problem.set_column(4);
  EXPECT_EQ(Excerpt(problem, "first\n熊熊 x\nlast"), "  2 | 熊熊 x\n    |    ^\n");
  problem.set_line(9);
  EXPECT_EQ(Excerpt(problem, "first\n"), "");
  problem.set_line(1);
  problem.set_column(2);
  EXPECT_EQ(Excerpt(problem, "\tx\r\n"), "  1 | \tx\n    | \t^\n");
}

TEST(Progress, TheSummaryNamesWhatIsKnownAndNothingElse) {
  farm::v1::JobStatus status;
  status.set_state(farm::v1::JOB_RUNNING);
  status.set_frames_total(12);
  status.set_pages_total(4);
  status.set_seconds_left(-1);
  EXPECT_EQ(Summary(status), "running, 0 of 12 panels, 0 of 4 pages");
  status.set_frames_done(5);
  status.set_frames_running(2);
  status.set_frames_failed(1);
  status.set_frames_per_minute(7.5);
  status.set_seconds_left(95);
  EXPECT_EQ(Summary(status),
            "running, 5 of 12 panels, 0 of 4 pages, 1 failed, 2 at work, 7.5 a minute, 1 min 35 s left");
}

TEST(Progress, ManyChaptersShowThoseAtWork) {
  farm::v1::JobStatus status;
  status.set_job_id("j-1");
  for (int i = 0; i < 40; ++i) {
    farm::v1::ChapterProgress* chapter = status.add_chapters();
    chapter->set_title("Chapter " + std::to_string(i));
    chapter->set_frames_total(2);
    chapter->set_frames_done(i < 10 ? 2 : 0);
  }
  const std::vector<std::string> lines = ProgressLines(status, 80);
  EXPECT_LE(lines.size(), 16u);
  EXPECT_THAT(lines[1], HasSubstr("Chapter 10"));
}

TEST(Console, TextFitsItsColumnsAndTablesLineUp) {
  EXPECT_EQ(Fit("熊熊熊熊", 5), "熊熊…");
  EXPECT_EQ(Fit("熊熊熊熊", 6), "熊熊…") << "half a character is none";
  EXPECT_EQ(Pad("熊", 4), "熊  ");
  EXPECT_EQ(Columns("e\u0301t\u00e9"), 3) << "an accent put over a letter takes no column";
  EXPECT_EQ(Printable("a\x1b[2Jb\n"), "a [2Jb ");
  EXPECT_EQ(Fit("abc", 3), "abc");
  EXPECT_EQ(Table({{"A", "B"}, {"熊", "1"}, {"long", "2"}}), "A     B\n熊    1\nlong  2\n");
  EXPECT_EQ(FormatSeconds(59.6), "1 min 0 s");
  EXPECT_EQ(FormatSeconds(7500), "2 h 5 min");
  EXPECT_EQ(FormatBytes(5'800'000'000), "5.8 GB");
}

TEST(ExitCodes, EachKindOfErrorHasItsOwn) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), ExitCode::kOk);
  EXPECT_EQ(ExitCodeOf(absl::InvalidArgumentError("")), ExitCode::kBadInput);
  EXPECT_EQ(ExitCodeOf(absl::UnavailableError("")), ExitCode::kUnreachable);
  EXPECT_EQ(ExitCodeOf(absl::NotFoundError("")), ExitCode::kNotFound);
  EXPECT_EQ(ExitCodeOf(absl::FailedPreconditionError("")), ExitCode::kConflict);
  EXPECT_EQ(ExitCodeOf(absl::ResourceExhaustedError("")), ExitCode::kNoRoom);
  EXPECT_EQ(ExitCodeOf(absl::InternalError("")), ExitCode::kInternal);
}

}  // namespace
}  // namespace storyfarm::storyctl
