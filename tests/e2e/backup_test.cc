// storyctl backup and restore with real processes.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/e2e/fault_rig.h"

namespace storyfarm::e2e {
namespace {

namespace fs = std::filesystem;

TEST(Backup, ARestoredFarmHasWhatWasDoneAndGoesOnWithWhatWasNot) {
  Farm old(NullEngines(20));
  old.StartCoordinator();
  old.AddTinyModel();
  old.StartWorker("one");
  const std::string done = old.SubmitStory(kPanels, 21);
  old.WaitForEnd(done);
  const Files before = old.Fetch(done);
  const std::string half = old.SubmitStory(kPanels, 22);
  WaitForFrames(old, half, 4);
  const std::string backup = old.File("backup");
  old.MustStoryctl({"backup", backup});
  // A second one into the same folder brings what is new.
  WaitForFrames(old, half, 8);
  old.Stop("one");  // gives back what it had not begun
  old.MustStoryctl({"backup", backup});
  old.Stop("farm");

  Farm fresh(NullEngines(0));
  fresh.MustStoryctl({"restore", backup, "--data", fresh.File("farm")});
  const Result again = fresh.Storyctl({"restore", backup, "--data", fresh.File("farm")}, "unix:/nobody");
  EXPECT_EQ(again.exit_code, 5);
  EXPECT_NE(again.err.find("is not empty"), std::string::npos) << again.err;
  fresh.StartCoordinator();
  EXPECT_FALSE(fs::exists(fresh.File("farm/restore.backup")));
  ExpectSame(fresh.Fetch(done), before);
  EXPECT_GE(fresh.Status(half)["frames_done"], 8);
  fresh.StartWorker("two");
  fresh.WaitForEnd(half);
  ExpectSame(fresh.Fetch(half), Reference(22));
  // And it remembers all that over a restart of its own.
  fresh.Kill("farm");
  fresh.StartCoordinator();
  EXPECT_EQ(fresh.Status(done)["state"], "done");
  EXPECT_EQ(fresh.Status(half)["state"], "done");
}

TEST(Backup, OneThatIsNotWholeOrWasChangedIsRefusedAndNothingIsMade) {
  Farm farm(NullEngines(0));
  farm.StartCoordinator();
  farm.AddTinyModel();
  const std::string backup = farm.File("backup");
  farm.MustStoryctl({"backup", backup});
  const std::string state = backup + "/farm.backup";
  const auto refuses = [&farm, &backup](const std::string& why) {
    const Result result = farm.Storyctl({"restore", backup, "--data", farm.File("new")});
    EXPECT_NE(result.exit_code, 0);
    EXPECT_NE(result.err.find(why), std::string::npos) << result.err;
    EXPECT_FALSE(fs::exists(farm.File("new/restore.backup")));
  };
  fs::copy_file(state, farm.File("whole"));
  fs::resize_file(state, fs::file_size(state) - 3);
  refuses("cut off");
  fs::copy_file(farm.File("whole"), state, fs::copy_options::overwrite_existing);
  {
    std::fstream file(state, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(state) / 2));
    file.put('\x7f');
  }
  refuses("");
  fs::copy_file(farm.File("whole"), state, fs::copy_options::overwrite_existing);
  for (const auto& entry : fs::recursive_directory_iterator(backup + "/blobs")) {
    if (entry.is_regular_file()) {
      fs::resize_file(entry.path(), entry.file_size() - 1);
      break;
    }
  }
  refuses("");
  fs::remove(state);
  refuses("holds no whole backup");
}

}  // namespace
}  // namespace storyfarm::e2e
