// pipeline/identity: how a character keeps its looks. Consistent self-attention (Zhou et al. 2024, "StoryDiffusion") as
// a gather of kept tokens, and the bank that carries them from a character's identity frames to every other picture.
//
//   DrawSource (draws.h, draws_file.h)        which gates are open, which tokens are kept
//        |
//        v
//   WritePass --BankStep--> WriteBankStep --> one file a step --> BankReader --> ReadPass
//   (identity frames together)        (bank.h)                          (every other panel by itself)
//
// Both passes are hooks of the UNet's up blocks (sdxl/attention.h). attend(q, kv) is the layer's own attention:
//   write, gate open:  y_i = attend(x_i, [x_j[S_j] for j != i ascending, then x_i])
//   read, gate open:   y = attend(x, [bank entries of the frame's characters in order of definition, frames ascending;
//                      then x])
//   gate closed:       y = attend(x, x)
// Guidance halves never mix: entry and frame are joined half by half.
#ifndef STORYFARM_PIPELINE_IDENTITY_IDENTITY_H_
#define STORYFARM_PIPELINE_IDENTITY_IDENTITY_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/identity/bank.h"
#include "pipeline/identity/draws.h"
#include "pipeline/sdxl/attention.h"

namespace storyfarm::identity {

// The grids of a UNet's identity layers for latents of a size, one a layer in execution order.
std::vector<Grid> GridsOf(const std::vector<sdxl::SelfAttentionLayer>& layers, int64_t latent_height,
                          int64_t latent_width);
// The different ones among them, from the smallest up.
std::vector<Grid> DistinctGrids(const std::vector<Grid>& grids);

// Which guidance halves a UNet call holds: `count` of them from `first` (0 unconditional, 1 conditional). Its batch is
// [first half of all images, second half of all images].
struct Halves {
  int64_t first = 0;
  int64_t count = 2;
};

// What a denoising loop tells either pass. Not thread-safe.
class Pass : public sdxl::SelfAttentionHook {
 public:
  // Before the UNet calls of a step, which take every half once.
  virtual absl::Status BeginStep(int64_t step) = 0;
  // Before each UNet call.
  void BeginCall(Halves halves) { halves_ = halves; }

 protected:
  Halves halves_;
};

// A character's write pass.
class WritePass final : public Pass {
 public:
  struct Options {
    CharacterName character;
    int64_t identity_frames = 1;
    int64_t halves = 2;       // 1 where guidance is off
    std::vector<Grid> grids;  // GridsOf
    bool keep_bank = true;    // false: nobody reads it
  };
  // `draws` outlives this. Fails where the draws do.
  static absl::StatusOr<std::unique_ptr<WritePass>> Create(Options options, DrawSource* draws, at::Device device);

  // Fails where the draws do.
  absl::Status BeginStep(int64_t step) override;
  at::Tensor Attend(const sdxl::SelfAttentionSite& site, const at::Tensor& x) override;
  // What the step's calls left, in host memory: entries that somebody may read.
  BankStep TakeStep();

 private:
  WritePass(Options options, DrawSource* draws, GateTable gates, at::Device device);
  bool Keeps(int64_t layer) const;

  Options options_;
  DrawSource* draws_;
  GateTable gates_;
  at::Device device_;
  int64_t step_ = 0;
  std::map<Grid, std::vector<at::Tensor>> tokens_;  // of the step: int64 indices of each identity frame
  std::map<std::pair<int64_t, int64_t>, std::vector<at::Tensor>> kept_;  // half by half
};

// The read pass of several frames in one UNet call.
class ReadPass final : public Pass {
 public:
  struct Frame {
    FrameName name;
    std::vector<BankReader*> banks;  // of its characters, in order of definition; none: plain attention
  };
  // `frames`: in the order of the batch. Banks and draws outlive this.
  static absl::StatusOr<std::unique_ptr<ReadPass>> Create(std::vector<Frame> frames, int64_t halves,
                                                          std::vector<sdxl::SelfAttentionLayer> layers,
                                                          DrawSource* draws);

  // Loads the step of every bank that is read; INVALID_ARGUMENT where an entry that an
  // open gate needs is missing or has another shape than the layer's.
  absl::Status BeginStep(int64_t step) override;
  at::Tensor Attend(const sdxl::SelfAttentionSite& site, const at::Tensor& x) override;

 private:
  // Frames of the batch that attend to the same entries.
  struct Group {
    std::vector<int64_t> frames;  // positions in the batch
    std::vector<BankReader*> banks;
  };
  ReadPass(std::vector<Frame> frames, int64_t halves, std::vector<sdxl::SelfAttentionLayer> layers)
      : frames_(std::move(frames)), halves_of_pass_(halves), layers_(std::move(layers)) {}
  absl::Status CheckEntries(int64_t step, const Frame& frame, const GateTable& gates) const;
  std::vector<Group> GroupsAt(int64_t layer) const;
  at::Tensor AttendGroup(const sdxl::SelfAttentionSite& site, const at::Tensor& x,
                         const std::vector<BankReader*>& banks) const;

  std::vector<Frame> frames_;
  int64_t halves_of_pass_;
  std::vector<sdxl::SelfAttentionLayer> layers_;
  std::vector<GateTable> gates_;  // of each frame
  int64_t step_ = 0;
};

}  // namespace storyfarm::identity

#endif  // STORYFARM_PIPELINE_IDENTITY_IDENTITY_H_
