// Text embeddings: what prompts are to the UNet, computed once for all devices of a farm and read from files, so that a
// small device never loads a text encoder (1.6 GB in SDXL).
//
//   JobSpec --AddTextTasks--> its text tasks --TextWorkFor--> a device --> one file a task
//                                                                            |
//   identity tasks and frames wait for the task that has their prompts; WorkFor (work.h) names its file to them
//
// A task's key is SHA-256 over all that determines its file, written down as in definition.h: "storyfarm text 1", then
//
//   encoders              EncodersDigest: two models that share text encoders share embeddings
//   dtype, reproducible   as the story's settings say
//   text                  each text, in order
//
// Where a story leaves its dtype to the farm, that is chosen for the device that gets the task, and every frame reads
// embeddings in it, just as it reads a bank that another kind of device computed (pack.h).
#ifndef STORYFARM_PIPELINE_PLAN_TEXT_H_
#define STORYFARM_PIPELINE_PLAN_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"
#include "farm/v1/work.pb.h"
#include "pipeline/plan/job_view.h"

namespace storyfarm::plan {

// Frames whose prompts one task encodes at most: its file is at most 42 MB in fp32, SDXL takes a second or a minute to
// compute it, and the frames of a long story begin while the prompts of its later ones are encoded.
inline constexpr int kFramesATextTask = 64;
// A short story has as many tasks as this, so that its devices encode side by side and none waits for another's; but
// none of fewer frames than a pass may hold.
inline constexpr int kTextTasksAStory = 8;
inline constexpr int kFewestFramesATextTask = 8;

// Gives an expanded job its text tasks: the identity frames' prompts in the first one, then the others' in the story's
// order. For farms; without tasks whoever renders a frame encodes its prompts.
void AddTextTasks(farm::v1::JobSpec* job);

// Every prompt and negative prompt of the task's frames, each once, in order.
std::vector<std::string> TextsOf(const JobView& job, const farm::v1::TextTask& task);

// Over the files of both text encoders and both tokenizers.
std::string EncodersDigest(const farm::v1::ModelManifest& model);
std::string TextKey(const JobView& job, const farm::v1::TextTask& task);

// The tasks (positions, ascending) that hold the prompts of an identity task or of frames.
std::vector<uint32_t> TextTasksFor(const farm::v1::JobSpec& job, farm::v1::TaskKind kind,
                                   absl::Span<const uint32_t> numbers);

// INVALID_ARGUMENT where `numbers` is not one text task of the job.
absl::StatusOr<farm::v1::Work> TextWorkFor(const JobView& job, absl::Span<const uint32_t> numbers,
                                           const farm::v1::MemoryPlan& plan);
absl::StatusOr<farm::v1::GroupShape> TextShapeOf(const JobView& job, absl::Span<const uint32_t> numbers);

// How a device encodes `shape.texts` prompts: memory and seconds, put to `plan`, which says all that does not hang on
// that. UNet and VAE stay where they fit beside the encoders, and leave the device where not.
void CountTexts(const farm::v1::ModelProfile& model, const farm::v1::DeviceReport& device,
                const farm::v1::GroupShape& shape, farm::v1::MemoryPlan* plan);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_TEXT_H_
