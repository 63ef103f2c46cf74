// Files that a run leaves: a frame's picture with its recipe in text chunks, and its latents.
#ifndef STORYFARM_WORKER_ENGINE_OUTPUTS_H_
#define STORYFARM_WORKER_ENGINE_OUTPUTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"
#include "farm/v1/settings.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/page/png.h"
#include "pipeline/render/request.h"

namespace storyfarm::engine {

// What all frames of a run have in common in their recipes. Holds nothing of node, time or attempt: equal renders give
// equal files.
struct RecipeBase {
  std::string model_name;
  std::string model_digest_hex;
  farm::v1::RenderSettings settings;
  std::string dtype;  // that it was computed in
};
RecipeBase MakeRecipe(const farm::v1::ModelManifest& model, const farm::v1::RenderSettings& settings,
                      const farm::v1::MemoryPlan& plan);

// Two chunks: `parameters`, in the form that Stable Diffusion tools read back, and `storyfarm`, a JSON object with
// everything that the picture depends on.
std::vector<page::PngText> RecipeTexts(const RecipeBase& recipe, const render::Frame& frame);

struct FrameFiles {
  std::string image_path;  // empty for a hidden frame
  std::string latents_path;
};
// frame-NNNNN.png and .safetensors (hidden-NNNNN.safetensors for a hidden frame) in `folder`.
absl::StatusOr<FrameFiles> WriteFrame(base::Env& env, const std::string& folder, const RecipeBase& recipe,
                                      const render::FinishedFrame& finished);

// The same status with kind DISK_FULL where it says that there is no room: the base library's code for a full disk is
// the renderer's for full memory.
absl::Status FromDisk(const absl::Status& status);

// The parent takes outputs into its store, which makes them durable: they are only written here. Kind DISK_FULL where
// there is no room.
absl::Status WriteOutput(base::Env& env, const std::string& path, absl::string_view bytes);

}  // namespace storyfarm::engine

#endif  // STORYFARM_WORKER_ENGINE_OUTPUTS_H_
