// When an owner lends the machine: the rules, what Linux tells, and the watch that puts both together.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "tests/support/temp_folder.h"
#include "worker/agent/machine.h"
#include "worker/agent/owner_rules.h"
#include "worker/agent/owner_watch.h"

namespace storyfarm::worker {
namespace {

using testing_support::TempFolder;

// "tue", 13, 5 -> minutes since Monday 0:00.
int At(int day, int hour, int minute = 0) { return day * plan::kMinutesADay + hour * 60 + minute; }
constexpr int kMon = 0, kFri = 4, kSat = 5, kSun = 6;

bool Works(const std::string& hours, int minute_of_week) {
  OwnerRules rules;
  const auto spans = plan::ParseHours(hours);
  EXPECT_TRUE(spans.ok()) << spans.status();
  rules.hours = *spans;
  rules.hours_text = hours;
  Surroundings now;
  now.minute_of_week = minute_of_week;
  return RestBy(rules, now).why.empty();
}

TEST(OwnerHours, OfTheDayAndOfTheWeekAlsoOverMidnightAndOverSunday) {
  EXPECT_TRUE(Works("any", At(2, 12)));
  EXPECT_TRUE(Works("9:00-17:00", At(kMon, 9)));
  EXPECT_FALSE(Works("9:00-17:00", At(kMon, 8, 59)));
  EXPECT_FALSE(Works("9:00-17:00", At(kMon, 17))) << "the end is left out";
  EXPECT_TRUE(Works("19:00-07:00", At(kMon, 3)));
  EXPECT_TRUE(Works("19:00-07:00", At(kMon, 23)));
  EXPECT_FALSE(Works("19:00-07:00", At(kMon, 12)));
  const std::string week = "Mon-Fri 20:00-08:00, sat, sun";
  EXPECT_TRUE(Works(week, At(kFri, 21)));
  EXPECT_TRUE(Works(week, At(kSat, 7))) << "Friday's night, and Saturday";
  EXPECT_TRUE(Works(week, At(kSun, 23, 59)));
  EXPECT_FALSE(Works(week, At(kMon, 0))) << "Sunday has no night of its own";
  EXPECT_TRUE(Works(week, At(kMon, 20)));
  EXPECT_TRUE(Works("sun 22:00-6:00", At(kMon, 5))) << "over the week's end";
  EXPECT_TRUE(Works("sat-mon 0:00-24:00", At(kSun, 12)));
  EXPECT_FALSE(Works("sat-mon 0:00-24:00", At(kFri, 12)));
}

TEST(OwnerRules, SayWhyAMachineRestsAndWhatItDoesNotTellCountsAgainstWorking) {
  OwnerRules rules;
  rules.mains_only = true;
  rules.idle_minutes = 10;
  EXPECT_EQ(RestBy(rules, {0, true, 600}).why, "");
  EXPECT_EQ(RestBy(rules, {0, false, 600}).why, "it runs on its battery");
  EXPECT_EQ(RestBy(rules, {0, true, 599}).why, "somebody uses it, or did within 10 min");
  EXPECT_NE(RestBy(rules, {0, std::nullopt, 600}).why, "");
  EXPECT_NE(RestBy(rules, {0, true, std::nullopt}).why, "");
  EXPECT_EQ(RestBy({}, {0, std::nullopt, std::nullopt}).why, "") << "who sets no rule is asked nothing";
}

TEST(OwnerRules, HeatLetsFinishWhatRunsAndComesAfterWhatTheOwnerWants) {
  OwnerRules rules;
  rules.mains_only = true;
  rules.cool_only = true;
  EXPECT_EQ(RestBy(rules, {0, true, std::nullopt, false}), Rest());
  EXPECT_EQ(RestBy(rules, {0, true, std::nullopt, true}), (Rest{"it is too hot", true}));
  EXPECT_EQ(RestBy(rules, {0, false, std::nullopt, true}), (Rest{"it runs on its battery", false}));
  EXPECT_EQ(RestBy(rules, {0, true, std::nullopt, std::nullopt}), Rest()) << "most machines tell nothing of heat";
  rules.cool_only = false;
  EXPECT_EQ(RestBy(rules, {0, true, std::nullopt, true}), Rest());
}

// A Linux machine as folders.
class LinuxTest : public ::testing::Test {
 protected:
  static constexpr int64_t kNow = 1'800'000'000;

  void Write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = folder_.path() + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }
  // A terminal that was typed at so many seconds ago.
  void Terminal(const std::string& path, int64_t seconds_ago) const {
    Write(path, "");
    const timespec times[2] = {{kNow - seconds_ago, 0}, {kNow, 0}};
    ASSERT_EQ(utimensat(AT_FDCWD, (folder_.path() + "/" + path).c_str(), times, 0), 0);
  }
  std::unique_ptr<Machine> Linux() {
    return LinuxMachine(
        folder_.path(), [] { return kNow; },
        [this](const std::string& program, const std::vector<std::string>& arguments) {
          ran_ = program;
          for (const std::string& argument : arguments) ran_ += " " + argument;
          return output_;
        });
  }

  TempFolder folder_;
  absl::StatusOr<std::string> output_ = absl::NotFoundError("loginctl");
  std::string ran_;
};

TEST_F(LinuxTest, ALaptopIsOnMainsWhileItsAdapterIsPluggedIn) {
  EXPECT_EQ(Linux()->OnMains(), true) << "a machine that lists nothing has no battery";
  Write("sys/class/power_supply/BAT0/type", "Battery");
  Write("sys/class/power_supply/BAT0/status", "Discharging");
  EXPECT_EQ(Linux()->OnMains(), false);
  Write("sys/class/power_supply/BAT0/status", "Not charging");
  EXPECT_EQ(Linux()->OnMains(), true) << "full, and fed from a port that is not listed";
  Write("sys/class/power_supply/BAT0/status", "Discharging");
  Write("sys/class/power_supply/AC/type", "Mains");
  Write("sys/class/power_supply/AC/online", "0");
  EXPECT_EQ(Linux()->OnMains(), false);
  Write("sys/class/power_supply/AC/online", "1");
  EXPECT_EQ(Linux()->OnMains(), true) << "a weak adapter while the battery helps";
}

TEST_F(LinuxTest, AMousesBatteryIsNotTheMachines) {
  Write("sys/class/power_supply/hidpp_battery_0/type", "Battery");
  Write("sys/class/power_supply/hidpp_battery_0/scope", "Device");
  Write("sys/class/power_supply/hidpp_battery_0/status", "Discharging");
  EXPECT_EQ(Linux()->OnMains(), true);
}

TEST_F(LinuxTest, IsTooHotAtAHotTripPointOrCloseToTheCriticalOne) {
  EXPECT_EQ(Linux()->TooHot(), std::nullopt) << "a machine that tells no temperature";
  const std::string zone = "sys/class/thermal/thermal_zone0/";
  Write(zone + "temp", "71000");
  EXPECT_EQ(Linux()->TooHot(), std::nullopt) << "nor what would be too much";
  Write(zone + "trip_point_0_type", "passive");
  Write(zone + "trip_point_0_temp", "70000");
  Write(zone + "trip_point_1_type", "critical");
  Write(zone + "trip_point_1_temp", "105000");
  EXPECT_EQ(Linux()->TooHot(), false) << "it slows itself down, which is what passive means";
  Write(zone + "temp", "99999");
  EXPECT_EQ(Linux()->TooHot(), false);
  Write(zone + "temp", "100000");
  EXPECT_EQ(Linux()->TooHot(), true);
  Write(zone + "trip_point_1_temp", "-274000");
  EXPECT_EQ(Linux()->TooHot(), std::nullopt) << "a limit that firmware never set";
  Write("sys/class/thermal/thermal_zone1/temp", "90000");
  Write("sys/class/thermal/thermal_zone1/trip_point_0_type", "hot");
  Write("sys/class/thermal/thermal_zone1/trip_point_0_temp", "90000");
  EXPECT_EQ(Linux()->TooHot(), true);
}

TEST_F(LinuxTest, SomebodyUsesItWhileATerminalIsTypedAt) {
  EXPECT_EQ(Linux()->IdleSeconds(), std::nullopt) << "nothing to be seen at all";
  Terminal("dev/pts/ptmx", 0);
  Terminal("dev/tty", 0);
  Terminal("dev/tty1", 5000);
  EXPECT_EQ(Linux()->IdleSeconds(), 5000);
  Terminal("dev/pts/3", 42);
  EXPECT_EQ(Linux()->IdleSeconds(), 42);
  EXPECT_EQ(ran_, "") << "there is no graphical session to ask of";
}

TEST_F(LinuxTest, AGraphicalSessionCountsByWhatLogindSays) {
  Terminal("dev/pts/0", 3000);
  Write("run/systemd/sessions/2", "UID=1000\nTYPE=wayland\nSTATE=active");
  Write("run/systemd/sessions/5", "UID=1000\nTYPE=tty\nSTATE=active");
  output_ = "IdleHint=no\nIdleSinceHint=0\n";
  EXPECT_EQ(Linux()->IdleSeconds(), 0);
  EXPECT_EQ(ran_, "loginctl show-session 2 -p IdleHint -p IdleSinceHint");
  output_ = "IdleHint=yes\nIdleSinceHint=" + std::to_string((kNow - 700) * 1'000'000) + "\n";
  EXPECT_EQ(Linux()->IdleSeconds(), 700);
  Terminal("dev/pts/0", 60);
  EXPECT_EQ(Linux()->IdleSeconds(), 60) << "the same person over ssh";
  output_ = absl::DeadlineExceededError("loginctl did not answer");
  EXPECT_EQ(Linux()->IdleSeconds(), std::nullopt);
}

class FakeMachine final : public Machine {
 public:
  std::optional<bool> OnMains() override { return mains.load(); }
  std::optional<int64_t> IdleSeconds() override { return 0; }
  std::optional<bool> TooHot() override { return hot.load(); }
  std::atomic<bool> mains{true};
  std::atomic<bool> hot{false};
};

// The next thing that is told; nothing where it does not come.
OwnerSays Next(EventQueue& events) {
  const auto event = events.Pop(std::chrono::milliseconds(30'000));
  EXPECT_TRUE(event.has_value());
  return event.has_value() ? std::get<OwnerSays>(*event) : OwnerSays{.resting = "nothing was told"};
}

TEST(OwnerWatch, TellsEachChangeOnce) {
  FakeMachine machine;
  machine.mains = false;
  EventQueue events;
  OwnerRules rules;
  rules.mains_only = true;
  OwnerWatch watch(rules, {&machine, [] { return 0; }, &events, /*every_ms=*/1});
  EXPECT_EQ(watch.first().why, "it runs on its battery");
  EXPECT_FALSE(events.Pop(std::chrono::milliseconds(20)).has_value()) << "that was told already";
  machine.mains = true;
  EXPECT_EQ(Next(events).resting, "");
  machine.mains = false;
  EXPECT_EQ(Next(events).resting, "it runs on its battery");
}

TEST(OwnerWatch, TheFarmsRulesCountBesideTheOwnersAndAreAnsweredByTheirNumber) {
  FakeMachine machine;
  EventQueue events;
  int minute = At(kMon, 12);
  OwnerRules own;
  own.hours = *plan::ParseHours("8:00-20:00");
  own.hours_text = "8:00-20:00";
  OwnerWatch watch(own, {&machine, [&] { return minute; }, &events, /*every_ms=*/60'000});
  EXPECT_EQ(watch.first().why, "");
  farm::v1::WorkerLimits limits;
  const auto answer = [&](uint64_t number) {
    watch.SetFarmRules(number, RulesOf(limits));
    const OwnerSays said = Next(events);
    EXPECT_EQ(said.limits, number);
    return said.resting;
  };
  EXPECT_EQ(answer(1), "") << "also where nothing changes";
  limits.set_hours("18:00-22:00");
  EXPECT_EQ(answer(2), "its owner lends it at other hours (18:00-22:00)");
  limits.set_hours("any time that this version does not know");
  EXPECT_NE(answer(3), "");
  limits.clear_hours();
  limits.set_mains_only(true);
  machine.mains = false;
  EXPECT_EQ(answer(4), "it runs on its battery");
  limits.Clear();
  EXPECT_EQ(answer(5), "") << "the owner's own rules let it work at noon";
  limits.set_idle_minutes(10);
  EXPECT_EQ(answer(6), "somebody uses it, or did within 10 min");
}

TEST(OwnerWatch, HeatIsToldWithLeaveToFinish) {
  FakeMachine machine;
  machine.hot = true;
  EventQueue events;
  OwnerRules rules;
  rules.cool_only = true;
  OwnerWatch watch(rules, {&machine, [] { return 0; }, &events, /*every_ms=*/1});
  EXPECT_EQ(watch.first(), (Rest{"it is too hot", true}));
  machine.hot = false;
  EXPECT_EQ(Next(events).resting, "");
  machine.hot = true;
  EXPECT_TRUE(Next(events).finish);
}

TEST(OwnerWatch, WithoutRulesNobodyIsAsked) {
  EventQueue events;
  const OwnerWatch watch({}, {nullptr, [] { return 0; }, &events, 1});
  EXPECT_EQ(watch.first().why, "");
}

TEST(Machine, ThisOneTellsSomething) {
  const auto machine = Machine::OfSystem();
  EXPECT_TRUE(machine->OnMains().has_value());
  if (const auto idle = machine->IdleSeconds()) {
    EXPECT_GE(*idle, 0);
  }
}

}  // namespace
}  // namespace storyfarm::worker
