// The one door into torch: what can be asked of the renderer, and what it answers. Plain structs, no torch, no
// protobuf.
//
//   IdentityRequest --> Renderer::RenderIdentity --> frames, bank files (one a step)     a character's write pass
//   FramesRequest   --> Renderer::RenderFrames   --> frames                              read passes, from bank files
//   TextRequest     --> Renderer::EncodeTexts    --> one file of embeddings    for requests that are to load no encoder
//                                  |
//                                  +--> Observer: every step, every finished frame, every bank file
//
// worker/engine turns farm.v1 messages into these; tests call them directly. What goes wrong is an absl::Status whose
// kind (KindOf) tells the scheduler of the farm whose fault it was.
#ifndef STORYFARM_PIPELINE_RENDER_REQUEST_H_
#define STORYFARM_PIPELINE_RENDER_REQUEST_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/device/report.h"

namespace storyfarm::render {

enum class Dtype { kFp32, kFp16, kBf16 };
enum class Sampler { kDdim, kEuler, kEulerAncestral, kDpmpp2mKarras };
enum class NoiseKind { kPanel, kShared };
// How a bank is written: in the run's number format, or in 8 bits with a scale for each token and guidance half.
enum class BankDtype { kAsComputed, kInt8 };

// When a layer of a step attends to identity state: step 0 never; later iff u > before (steps below the switch) or
// u > after (steps from it on), u uniform in [0, 1) per (step, layer).
struct Gate {
  double before = 0.3;
  double after = 0.1;
  std::optional<int> switch_step;  // absolute step number; absent: switch_fraction counts
  double switch_fraction = 0.4;    // of the steps
};

// Free lunch in the U-Net: factors of skip (s) and backbone (b) features in the first two up blocks.
struct FreeU {
  double s1, s2, b1, b2;
};

// What all frames of a story have in common, resolved: nothing is left to a default.
struct Settings {
  int steps = 0;              // UNet calls a pass
  double guidance_scale = 5;  // u + g (c - u); 1: no guidance, one half
  Sampler sampler = Sampler::kDdim;
  std::string scheduler_config;    // JSON object, overrides keys of the model's scheduler_config.json; may be empty
  uint64_t seed = 0;               // the story's: keys the token draws
  std::vector<double> token_rate;  // (0, 1]; one number, or one per grid from the smallest grid up
  Gate gate;
  NoiseKind noise = NoiseKind::kPanel;
  bool consistency = true;  // false: plain self-attention everywhere
  std::optional<FreeU> freeu;
};

// Weights of the UNet that are read from their file as they are used; to the bit what they would be if they stayed.
struct WeightStream {
  uint64_t resident_bytes = 0;  // blocks that stay, at most, as they are kept
  uint64_t buffer_bytes = 0;    // for the others to pass through
  bool operator==(const WeightStream&) const = default;
};

// The part of a MemoryPlan that the renderer carries out.
struct Plan {
  Dtype dtype = Dtype::kFp32;
  Dtype vae_dtype = Dtype::kFp32;
  bool text_encoders_in_phases = false;  // loaded for the prompts and released before the UNet runs
  bool guidance_batched = true;          // both halves in one UNet call, or one after the other
  int batch = 1;                         // frames in one UNet call
  int attention_chunk = 0;               // queries at a time; 0: whole
  int vae_tile = 0;                      // latents an edge; 0: whole
  bool bank_on_device = false;           // whole bank resident, packed; false: streamed from its files
  bool lock_step = false;                // a write pass runs its frames one at a time, unit by unit
  // Layers of each bank that are on their way or in use at once; of one that is written, that wait for the disk (2 at
  // least).
  int ring_layers = 4;
  BankDtype bank_dtype = BankDtype::kAsComputed;  // of a bank that is written; a file says itself what it has
  int threads = 0;                                // CPU threads; 0: as the renderer was started
  bool graphs = false;                            // UNet calls are recorded and replayed, where the device can
  uint64_t cap_bytes = 0;                         // most that the device may give to this process; 0: no cap
  bool int8_weights = false;                      // the UNet's blocks that stay on the device are rounded
  std::optional<WeightStream> stream;             // absent: all of the UNet's weights stay on the device
  bool operator==(const Plan&) const = default;
};

// One picture to render.
struct Frame {
  int panel = 0;       // number in story order from 0; of a hidden frame its number i among the identity frames
  std::string id;      // Panel.id: keys random draws
  std::string prompt;  // complete, style applied
  std::optional<std::string> negative_prompt;  // absent: zeros where the model forces them, else ""
  int width = 0;                               // pixels
  int height = 0;
  uint64_t seed = 0;
  std::vector<int> characters;  // whose banks it reads, in order of definition
  bool hidden = false;          // an identity frame that is no panel
};

using CharacterKey = std::array<uint8_t, 16>;

// Identity state of one character as files, one a step.
struct BankFiles {
  int character = 0;  // in order of definition, from 0
  CharacterKey character_key{};
  int identity_frames = 0;
  std::vector<std::string> steps;  // step s is steps[s]; empty: nobody reads that step
  // Not empty: the bank is still being computed elsewhere, and this tells where step s lies, in place of `steps`. It
  // may wait until it is there. Called on other threads, steps ascending.
  std::function<absl::StatusOr<std::string>(int step)> path_of;
};

// Embeddings of prompts as files (text_file.h). Where a request names any, its prompts come from them alone.
struct TextFiles {
  struct File {
    std::string path;
    std::string sha256;  // 32 bytes: what the file's bytes must hash to
  };
  std::vector<File> files;
  std::string encoders;  // names the text encoders that must have made them
};

// Where random draws come from and whether they are kept ("story-draws", version 1; see identity/draws.h).
struct Draws {
  std::string replay_path;  // overrides every draw; empty: the project's own
  std::string save_path;    // merged with what the file already holds; empty: not kept
  // What a saved file says of the whole story; each pass adds its own part of the rest.
  int story_panels = 0;
  int story_width = 0;  // pixels
  int story_height = 0;
  std::vector<std::string> character_names;  // in order of definition
};

struct IdentityRequest {
  std::string model_folder;
  std::string model_name;  // its digest in hex, or its name where it has none: recorded in bank files, and compared
  Settings settings;
  Plan plan;
  int character = 0;
  CharacterKey character_key{};
  std::vector<Frame> frames;  // identity frame i is frames[i]
  TextFiles text;             // empty: the prompts are encoded here
  bool keep_bank = false;     // false: nobody reads it, nothing is written
  bool scratch = false;       // bank files may be lost with the machine's power: nothing waits for its disk
  std::string output_folder;  // exists; bank files are written here
  Draws draws;
};

struct FramesRequest {
  std::string model_folder;
  std::string model_name;
  Settings settings;
  Plan plan;
  std::vector<Frame> frames;
  std::vector<BankFiles> banks;  // of every character that a frame reads
  TextFiles text;                // empty: the prompts are encoded here
  Draws draws;
  // Lets every BankFiles::path_of that waits return, now and from now on: called where the run ends early. Needed where
  // a bank has path_of.
  std::function<void()> let_go;
};

// Prompts to encode.
struct TextRequest {
  std::string model_folder;
  std::string encoders;            // as in TextFiles
  Plan plan;                       // with text_encoders_in_phases UNet and VAE leave the device first
  std::vector<std::string> texts;  // each once
  std::string output_path;         // is written, in a folder that exists
};

struct Latents {
  int channels = 0, height = 0, width = 0;
  std::vector<float> values;  // [channels, height, width]
};
struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;  // [height, width, 3]
};

struct FinishedFrame {
  const Frame* frame = nullptr;  // of the request
  Latents latents;               // final, float32
  Image image;                   // empty for a hidden frame
  double render_ms = 0;          // denoising and decoding, this frame's share of its batch
  uint64_t peak_bytes = 0;
  std::vector<std::string> warnings;  // such as "prompt cut at 77 tokens: ..."
};

// Told of progress on the calling thread. A callback's error stops the request and is returned from it.
class Observer {
 public:
  virtual ~Observer() = default;
  // `step` UNet calls of `steps` are done for these frames.
  virtual absl::Status OnStep(const std::vector<const Frame*>& frames, int step, int steps) = 0;
  virtual absl::Status OnFrame(FinishedFrame frame) = 0;
  // Step `step` of the bank is stored at `path`, durably unless it is scratch; empty: nobody reads that step. Steps
  // come in order from 0, a few behind OnStep, and all of them before the first OnFrame.
  virtual absl::Status OnBankStep(int step, const std::string& path) = 0;
};

struct RunStats {
  double render_ms = 0;
  double load_ms = 0;           // 0: the model was warm
  uint64_t peak_bytes = 0;      // of the device over the run; of the process on the CPU
  uint64_t overhead_bytes = 0;  // of those: libraries and runtime (device::Memory)
};

// Whose fault a failure is; carried as a payload of the status.
enum class FailureKind { kBadInput, kOutOfMemory, kInvalidOutput, kBlobUnavailable, kDiskFull, kInternal };
absl::Status Fail(FailureKind kind, const std::string& message, uint64_t needed_bytes = 0);
// A status without the payload counts by its code: INVALID_ARGUMENT, NOT_FOUND, DATA_LOSS, FAILED_PRECONDITION,
// UNIMPLEMENTED and OUT_OF_RANGE are bad input, RESOURCE_EXHAUSTED is out of memory, everything else internal.
FailureKind KindOf(const absl::Status& status);
// OUT_OF_MEMORY: what was asked for in all; 0 where not known.
uint64_t NeededBytes(const absl::Status& status);

// Keeps one device and the last model on it. RenderIdentity, RenderFrames and EncodeTexts: one thread at a time.
// MemoryNow and Report(false): any thread, also during a run.
class Renderer {
 public:
  // `device`: "cpu", "mps" or "cuda:0". `threads`: CPU threads; 0: as many as the machine lends this process.
  // `memory_limit_bytes`: the most to hold of a GPU's memory (Device::Open); 0: all of it.
  static absl::StatusOr<std::unique_ptr<Renderer>> Create(const std::string& device, int threads,
                                                          uint64_t memory_limit_bytes = 0);
  // Every device of this machine, the CPU last. `measure_speed` takes about a second a device.
  static std::vector<device::Report> ProbeAll(bool measure_speed, int threads);

  // "2.11.0".
  static std::string TorchVersion();

  virtual ~Renderer() = default;
  virtual device::Report Report(bool measure_speed) = 0;
  virtual device::Memory MemoryNow() = 0;
  // Never throws: torch's exceptions become statuses.
  virtual absl::StatusOr<RunStats> RenderIdentity(const IdentityRequest& request, Observer& observer) = 0;
  virtual absl::StatusOr<RunStats> RenderFrames(const FramesRequest& request, Observer& observer) = 0;
  // Each text is a step. The encoders leave the device before this returns: whatever comes next reads the file.
  virtual absl::StatusOr<RunStats> EncodeTexts(const TextRequest& request, Observer& observer) = 0;
};

}  // namespace storyfarm::render

#endif  // STORYFARM_PIPELINE_RENDER_REQUEST_H_
