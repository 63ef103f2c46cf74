// A story rendered in this process: the same parsing, expansion, work and conversion as on a farm, without engine or
// agent.
#ifndef STORYFARM_TESTS_PIPELINE_RENDER_STORY_RUN_H_
#define STORYFARM_TESTS_PIPELINE_RENDER_STORY_RUN_H_

#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "pipeline/render/request.h"

namespace storyfarm::testing_support {

struct StoryRun {
  std::string story_path;
  std::string settings_path;  // empty: the story's own
  std::string settings;       // JSON put over both; may be empty
  std::string model_folder;
  std::string output_folder;  // exists; banks are written below it
  std::string replay_path;    // draws
  std::string save_path;
  // Changes the plan of every pass, which is otherwise the simplest: fp32, batch 1, guidance batched.
  std::function<void(render::Plan&)> plan = [](render::Plan&) {};
};

struct RenderedPanel {
  render::Latents latents;
  render::Image image;
};

// By panel. Hidden frames are left out.
absl::StatusOr<std::map<int, RenderedPanel>> RenderStory(const StoryRun& run, render::Renderer& renderer);

}  // namespace storyfarm::testing_support

#endif  // STORYFARM_TESTS_PIPELINE_RENDER_STORY_RUN_H_
