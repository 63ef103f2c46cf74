// pipeline/identity: how a character keeps its looks. Consistent self-attention (Zhou et al. 2024, "StoryDiffusion") as
// a gather of kept tokens, and the bank that carries them from a character's identity frames to every other picture.
//
//   DrawSource (draws.h, draws_file.h)        which gates are open, which tokens are kept
//        |
//        v
//   WritePass ----------> BankWriter ------> one file a step -----> BankReader ------> ReadPass
//   (identity frames      (bank_writer.h:    (bank_file.h: packed,  (bank.h, and      (every other panel
//    together)             beside the run)    checked layer by       bank_ring.h:      by itself)
//                                             layer)                 ahead of the run)
//
// A bank holds exactly the tokens that somebody reads: those kept of each identity frame, in layers whose gate is open
// in that step (all layers, where a draws file may give readers other gates). Banks are never whole in memory, unless a
// plan says so: what is being written waits in a short queue, what will be read is fetched into a ring of a few layers.
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
#include "pipeline/device/landing.h"
#include "pipeline/identity/bank.h"
#include "pipeline/identity/bank_writer.h"
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
  // Before the UNet calls of a step, which take every half once, the unconditional one first.
  virtual absl::Status BeginStep(int64_t step) = 0;
  // Before each UNet call.
  void BeginCall(Halves halves) { halves_ = halves; }
  // OK, or why a layer of some call so far could not attend: then that call's result is of no use. Final.
  const absl::Status& failure() const { return failure_; }

 protected:
  Halves halves_;
  absl::Status failure_;
};

// A character's write pass.
class WritePass final : public Pass {
 public:
  struct Options {
    CharacterName character;
    int64_t identity_frames = 1;
    std::vector<Grid> grids;               // GridsOf
    BankWriter* writer = nullptr;          // outlives this; null: nobody reads the bank
    device::Landings* landings = nullptr;  // likewise; of the device, where there is a writer
    BankElement element = BankElement::kFp32;
  };
  // `draws` outlives this. Fails where the draws do.
  static absl::StatusOr<std::unique_ptr<WritePass>> Create(Options options, DrawSource* draws, at::Device device);

  // Fails where the draws do.
  absl::Status BeginStep(int64_t step) override;
  // Hands what somebody may read of the layer to the writer.
  at::Tensor Attend(const sdxl::SelfAttentionSite& site, const at::Tensor& x) override;

  // Attend in two sweeps, for frames that run one at a time in lock step. `xs`: of every frame, [halves of the call, N,
  // C], at one site. Gather takes what frames attend to of each other and hands it to the writer; AttendFrame then
  // computes y of frame `frame`, whose x it is given again.
  void Gather(const sdxl::SelfAttentionSite& site, const std::vector<at::Tensor>& xs);
  at::Tensor AttendFrame(const sdxl::SelfAttentionSite& site, int64_t frame, const at::Tensor& x) const;

 private:
  WritePass(Options options, DrawSource* draws, GateTable gates, at::Device device);
  bool Keeps(int64_t layer) const;
  // Whether frames attend to each other there.
  bool Shares(int64_t layer) const;
  // Hands those kept of all frames, [halves of the call, frames x k, C], to the writer.
  absl::Status Keep(int64_t layer, const at::Tensor& kept);
  // `frame` attends to what the others share, and to itself.
  at::Tensor AttendOthers(const sdxl::SelfAttentionSite& site, int64_t frame,
                          const sdxl::SelfAttention::Projections& projected) const;

  Options options_;
  DrawSource* draws_;
  GateTable gates_;
  at::Device device_;
  int64_t step_ = 0;
  // Which tokens of a grid of N are kept in the step, int64 indices.
  struct Chosen {
    std::vector<at::Tensor> of_frames;  // of each identity frame, [k]
    // Where a half's frames lie one after the other, frame i's tokens from i N on: those kept of all, and what each
    // frame attends to, those kept of the others and all of its own.
    at::Tensor kept;
    std::vector<at::Tensor> attended;
    at::Tensor attended_together;  // `attended` one after the other, where all are as long; else undefined
  };
  std::map<Grid, Chosen> chosen_;
  std::vector<sdxl::KeysValues> shared_;  // of the site: [halves of the call, k, C] of each frame
};

// The read pass of several frames in one UNet call.
class ReadPass final : public Pass {
 public:
  struct Frame {
    FrameName name;
    std::vector<BankReader*> banks;  // of its characters, in order of definition; none: plain attention
  };
  struct Options {
    std::vector<Frame> frames;  // in the order of the batch; banks outlive the pass
    int64_t halves = 2;         // 1 where guidance is off
    bool halves_batched = true;
    std::vector<sdxl::SelfAttentionLayer> layers;
  };
  // Begins to read the banks ahead. `draws` outlives this. Fails where the draws do.
  static absl::StatusOr<std::unique_ptr<ReadPass>> Create(Options options, DrawSource* draws);

  absl::Status BeginStep(int64_t step) override;
  // What a bank can't give (BankReader::Tokens) becomes the pass's failure.
  at::Tensor Attend(const sdxl::SelfAttentionSite& site, const at::Tensor& x) override;

 private:
  // Frames of the batch that attend to the same entries.
  struct Group {
    std::vector<int64_t> frames;  // positions in the batch
    std::vector<BankReader*> banks;
  };
  using TokensOfBanks = std::map<BankReader*, at::Tensor>;

  explicit ReadPass(Options options) : options_(std::move(options)) {}
  bool Reads(size_t frame, int64_t step, int64_t layer) const;
  // In which order the pass asks a bank.
  std::vector<BankLoad> LoadsOf(BankReader* bank) const;
  std::vector<Group> GroupsAt(int64_t layer) const;
  absl::StatusOr<TokensOfBanks> TokensAt(const sdxl::SelfAttentionSite& site, const std::vector<Group>& groups) const;
  // One group's frames, [halves, frames of the group, N, C] each.
  at::Tensor AttendGroup(const sdxl::SelfAttentionSite& site, const sdxl::SelfAttention::Projections& projected,
                         const std::vector<sdxl::KeysValues>& banks) const;

  Options options_;
  std::vector<GateTable> gates_;  // of each frame
  int64_t step_ = 0;
};

}  // namespace storyfarm::identity

#endif  // STORYFARM_PIPELINE_IDENTITY_IDENTITY_H_
