// `storyctl top` as text: what stands on the screen, and what keys ask for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tools/storyctl/text_columns.h"
#include "tools/storyctl/top_model.h"

namespace storyfarm::storyctl {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kGigabyte = 1'000'000'000;

farm::v1::JobStatus JobOf(const std::string& id, const std::string& title,
                          const std::vector<std::pair<int, int>>& chapters) {
  farm::v1::JobStatus job;
  job.set_job_id(id);
  job.set_title(title);
  job.set_state(farm::v1::JOB_RUNNING);
  job.set_priority(50);
  job.set_seconds_left(-1);
  for (const auto& [done, total] : chapters) {
    farm::v1::ChapterProgress& chapter = *job.add_chapters();
    chapter.set_title(absl::StrCat("Chapter of ", total));
    chapter.set_frames_done(static_cast<uint32_t>(done));
    chapter.set_frames_total(static_cast<uint32_t>(total));
    job.set_frames_done(job.frames_done() + chapter.frames_done());
    job.set_frames_total(job.frames_total() + chapter.frames_total());
  }
  return job;
}

farm::v1::NodeStatus NodeOf(const std::string& name, farm::v1::Backend backend, uint64_t total_gb, uint64_t farm_gb,
                            uint64_t others_gb, uint64_t planned_gb) {
  farm::v1::NodeStatus node;
  node.set_node_id("id-" + name);
  node.set_name(name);
  node.set_connected(true);
  farm::v1::DeviceStatus& device = *node.add_devices();
  device.mutable_report()->set_backend(backend);
  device.mutable_report()->set_name(backend == farm::v1::CUDA ? "NVIDIA GeForce RTX 3090" : "Apple M2");
  device.mutable_report()->set_total_bytes(total_gb * kGigabyte);
  device.mutable_report()->set_speed_tflops(35.58);
  device.mutable_memory()->set_farm_bytes(farm_gb * kGigabyte);
  device.mutable_memory()->set_others_bytes(others_gb * kGigabyte);
  device.mutable_memory()->set_free_bytes((total_gb - farm_gb - others_gb) * kGigabyte);
  device.set_planned_bytes(planned_gb * kGigabyte);
  return node;
}

// A studio: two jobs, a card that draws, a Mac that rests, a box that is away.
FarmView Studio() {
  FarmView view;
  view.target = "unix:/run/farm.sock";
  view.heard = true;
  view.jobs = {JobOf("j-8m2k4x7q1z", "The Letter", {{8, 8}, {4, 16}, {0, 16}}),
               JobOf("j-0v5r2c9d4e", "三只熊", {{1, 4}})};
  view.jobs[0].set_frames_running(2);
  view.jobs[0].set_frames_per_minute(8.2);
  view.jobs[0].set_seconds_left(205);
  view.jobs[1].set_paused(true);
  view.nodes = {NodeOf("attic", farm::v1::CUDA, 24, 6, 3, 10), NodeOf("mini", farm::v1::MPS, 16, 0, 9, 0),
                NodeOf("old-box", farm::v1::CUDA, 8, 0, 0, 0)};
  view.nodes[0].mutable_devices(0)->set_task("j-8m2k4x7q1z/frame/12");
  farm::v1::MemoryPlan& plan = *view.nodes[0].mutable_devices(0)->mutable_plan();
  plan.set_dtype(farm::v1::FP16);
  plan.set_weights(farm::v1::STREAMED);
  plan.set_resident_weight_bytes(3'100'000'000);
  plan.set_batch(4);
  plan.set_vae_tile(64);
  view.nodes[0].mutable_devices(0)->set_step(13);
  view.nodes[0].mutable_devices(0)->set_steps(50);
  view.nodes[0].mutable_devices(0)->set_queued(5);
  view.nodes[0].mutable_devices(0)->set_frames_per_minute(8.2);
  view.nodes[1].set_resting("somebody used it 2 min ago");
  view.nodes[1].set_note("it rests: somebody used it 2 min ago");
  view.nodes[1].mutable_devices(0)->mutable_memory()->set_pressure(farm::v1::PRESSURE_WARNING);
  view.nodes[2].set_connected(false);
  view.nodes[2].set_last_heard_ms(7'500'000);
  return view;
}

TopState Selected(const FarmView& view, Pane pane = Pane::kJobs) {
  TopState state;
  state.pane = pane;
  KeepSelection(view, state);
  return state;
}

std::string Text(const FarmView& view, const TopState& state, int rows = 24, int columns = 80) {
  return TextOf(DrawTop(view, state, Glyphs::Unicode(), rows, columns));
}

TEST(Top, AStudioFitsAnOldTerminal) {
  const FarmView view = Studio();
  EXPECT_EQ(Text(view, Selected(view), 18),
            "31 panels left in 2 jobs, 2 at work, 2 of 3 machines, 8.2/min, 3 min 47 s left\n"
            "  JOB          TITLE    STATE    PRI PANELS                 SPEED    LEFT\n"
            "▸ j-8m2k4x7q1z The Let… running  50  ███░░░░░░░ 12/40       8.2/min  3 min 25 s\n"
            "    Chapter of 16                    ███░░░░░░░ 4/16\n"
            "    Chapter of 16                    ░░░░░░░░░░ 0/16\n"
            "  j-0v5r2c9d4e 三只熊   paused   50  ███░░░░░░░ 1/4\n"
            "  MACHINE     DEVICE                               █ farm ▓ plan ▒ other · free\n"
            "  attic       cuda:0 NVIDIA GeForc…  j-8m2k4x7q1z/frame/12  step 13 of 50  +5\n"
            "    ███▓▓▒····· farm 6.0 plan 4.0 other 3.0 free 11.0 of 24.0 GB 35.6 TF 8.2/min\n"
            "    fp16, 3.1 GB of the UNet's weights stay, 4 in a call, guidance in turn, VAE…\n"
            "  mini        mps Apple M2           rests: somebody used it 2 min ago\n"
            "    ▒▒▒▒▒▒▒▒▒▒▒········· farm 0.0 plan 0.0 other 9.0 free 7.0 of 16.0 GB 35.6 TF\n"
            "  old-box     cuda:0 NVIDIA GeForc…  away since 2 h 5 min\n"
            "\n\n\n\n"
            "tab machines  p pause  r retry  e explain  ↑↓ select  ? help  q quit\n");
}

TEST(Top, NoLineIsWiderThanTheTerminalAndTheRowsAreAsManyAsItHas) {
  FarmView view = Studio();
  for (int i = 0; i < 40; ++i) {
    view.jobs.push_back(JobOf(absl::StrCat("j-", 1000000000 + i), std::string(200, 'w'), {{0, 99999}}));
    view.nodes.push_back(NodeOf(absl::StrCat("n", i, std::string(60, 'x')), farm::v1::MPS, 512, 400, 50, 500));
  }
  for (const int columns : {1, 20, 80, 81, 160, 300}) {
    for (const int rows : {1, 3, 5, 24, 50, 200}) {
      for (const bool away : {false, true}) {
        view.away = away ? "no coordinator answers" : "";
        const Screen screen = DrawTop(view, Selected(view), Glyphs::Unicode(), rows, columns);
        EXPECT_EQ(static_cast<int>(screen.size()), rows);
        for (const ScreenLine& line : screen) {
          std::string text;
          for (const Span& span : line.spans) text += span.text;
          EXPECT_LE(Columns(text), columns) << text;
        }
      }
    }
  }
}

TEST(Top, ALongQueueLeavesHalfTheScreenToMachinesAndScrollsWithTheSelection) {
  FarmView view = Studio();
  for (int i = 0; i < 40; ++i) view.jobs.push_back(JobOf(absl::StrCat("j-", 1000000000 + i), "more", {{0, 4}}));
  TopState state = Selected(view);
  EXPECT_THAT(Text(view, state),
              AllOf(HasSubstr("j-8m2k4x7q1z"), HasSubstr("old-box"), Not(HasSubstr("j-1000000039"))));
  for (int i = 0; i < 5; ++i) Press(TopKey::kPageDown, 0, view, state);
  EXPECT_THAT(Text(view, state),
              AllOf(HasSubstr("▸ j-1000000039"), HasSubstr("old-box"), Not(HasSubstr("The Let"))));
}

TEST(Top, AnEmptyFarmSaysWhatToDo) {
  FarmView view;
  view.target = "unix:/run/farm.sock";
  EXPECT_THAT(Text(view, {}), HasSubstr("asking unix:/run/farm.sock"));
  view.heard = true;
  EXPECT_THAT(Text(view, {}), AllOf(HasSubstr("storyctl submit STORY"), HasSubstr("start storyfarm-worker")));
}

TEST(Top, ACoordinatorThatIsAwayIsToldAboveWhatItSaidLast) {
  FarmView view = Studio();
  view.away = "no coordinator answers at unix:/run/farm.sock";
  view.away_s = 12;
  EXPECT_THAT(Text(view, Selected(view)), AllOf(HasSubstr("no answer for 12 s"), HasSubstr("j-8m2k4x7q1z")));
}

TEST(Top, WithoutUtf8TheScreenIsPlainAscii) {
  const FarmView view = Studio();
  const std::string text = TextOf(DrawTop(view, Selected(view), Glyphs::Ascii(), 24, 80));
  EXPECT_THAT(text, AllOf(HasSubstr("The Let~"), HasSubstr("j-0v5r2c9d4e ??????")));
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  EXPECT_TRUE(ascii) << text;
}

TEST(Top, WhatKeepsTheSelectedRowWaitingStandsAboveTheKeys) {
  FarmView view = Studio();
  view.jobs[0].add_waiting()->set_reason("no connected device takes work just now");
  EXPECT_THAT(Text(view, Selected(view)), HasSubstr("waits: no connected device takes work just now\n"));
  TopState state = Selected(view, Pane::kNodes);
  Press(TopKey::kDown, 0, view, state);
  EXPECT_THAT(Text(view, state), HasSubstr("mini: it rests: somebody used it 2 min ago\n"));
}

TEST(TopKeys, AskForWhatIsSelected) {
  const FarmView view = Studio();
  TopState state = Selected(view);
  const auto press = [&](char key) { return Press(TopKey::kCharacter, key, view, state); };
  auto request = press('p');
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->kind, TopRequest::kPause);
  EXPECT_EQ(request->what, "j-8m2k4x7q1z");
  EXPECT_EQ(press('r')->kind, TopRequest::kRetry);
  EXPECT_EQ(press('e')->kind, TopRequest::kExplainJob);
  Press(TopKey::kDown, 0, view, state);
  request = press('p');
  EXPECT_EQ(request->kind, TopRequest::kResume) << "it is paused";
  EXPECT_EQ(request->what, "j-0v5r2c9d4e");
  EXPECT_FALSE(press('d').has_value());
  EXPECT_THAT(state.message, HasSubstr("tab goes to them"));
  Press(TopKey::kTab, 0, view, state);
  request = press('d');
  EXPECT_EQ(request->kind, TopRequest::kDrain);
  EXPECT_EQ(request->what, "id-attic");
  EXPECT_EQ(press('e')->what, "j-8m2k4x7q1z/frame/12");
  Press(TopKey::kDown, 0, view, state);
  EXPECT_FALSE(press('e').has_value());
  EXPECT_THAT(state.message, HasSubstr("mini draws nothing: it rests"));
  EXPECT_EQ(press('q')->kind, TopRequest::kQuit);
  EXPECT_FALSE(press('x').has_value());
  EXPECT_THAT(state.message, HasSubstr("? shows the keys"));
}

TEST(TopKeys, ARowStaysSelectedWhereOthersComeAndGo) {
  FarmView view = Studio();
  TopState state = Selected(view);
  Press(TopKey::kDown, 0, view, state);
  view.jobs.insert(view.jobs.begin(), JobOf("j-1111111111", "urgent", {{0, 2}}));
  KeepSelection(view, state);
  EXPECT_EQ(state.job, "j-0v5r2c9d4e");
  view.jobs.pop_back();
  KeepSelection(view, state);
  EXPECT_EQ(state.job, "j-1111111111") << "gone: the first one";
  view.jobs.clear();
  KeepSelection(view, state);
  EXPECT_FALSE(Press(TopKey::kCharacter, 'p', view, state).has_value());
}

TEST(TopKeys, ATextIsScrolledAndGoesAwayWithAnyOtherKey) {
  const FarmView view = Studio();
  TopState state = Selected(view);
  for (int i = 0; i < 50; ++i) state.text.push_back(absl::StrCat("sentence ", i));
  EXPECT_THAT(Text(view, state), AllOf(HasSubstr("sentence 0\n"), Not(HasSubstr("JOB"))));
  for (int i = 0; i < 9; ++i) Press(TopKey::kPageDown, 0, view, state);
  EXPECT_THAT(Text(view, state), HasSubstr("sentence 49\n"));
  Press(TopKey::kUp, 0, view, state);
  EXPECT_THAT(Text(view, state), HasSubstr("sentence 48\n"));
  EXPECT_FALSE(Press(TopKey::kCharacter, 'q', view, state).has_value()) << "it only closes the text";
  EXPECT_THAT(Text(view, state), HasSubstr("JOB"));
}

}  // namespace
}  // namespace storyfarm::storyctl
