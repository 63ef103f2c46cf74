// The tensors of one component (UNet, VAE or a text encoder), by their names in the checkpoint.
#ifndef STORYFARM_PIPELINE_SDXL_WEIGHTS_H_
#define STORYFARM_PIPELINE_SDXL_WEIGHTS_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/model/model_folder.h"
#include "pipeline/sdxl/parameter.h"
#include "pipeline/sdxl/placement.h"
#include "pipeline/sdxl/weight_stream.h"

namespace storyfarm::sdxl {

// Hands out tensors while a component is built, and keeps account: what was asked for and is absent, what has another
// shape, what nobody asked for. A builder asks for everything it needs without checking; Finish tells all errors at
// once, and then brings in the large tensors of what was built in blocks. Tensors stay memory-mapped where placement
// and stored format agree (float32 on the CPU): loading then costs no memory of its own.
class Weights {
 public:
  // Maps the files of `component` ("unet", "vae", "text_encoder", ...). DATA_LOSS where a file is not valid
  // safetensors, NOT_FOUND where there is none.
  static absl::StatusOr<Weights> Open(const model::ModelFolder& folder, std::string_view component,
                                      Placement placement);

  // The tensor, on the placement's device in its dtype. Where it is absent or mis-shaped: an undefined tensor, and
  // Finish fails.
  at::Tensor Take(std::string_view name, at::IntArrayRef shape);
  // The same for a large tensor of a block, which is there once Finish was OK; of no block: at once.
  Parameter TakeParameter(std::string_view name, at::IntArrayRef shape, const WeightBlock& block);
  // Several of equal rows as one, the first on top. `shape`: of each.
  Parameter TakeStack(const std::vector<std::string>& names, at::IntArrayRef shape, const WeightBlock& block);
  // A block of a network, the next one in the order of its forward pass.
  WeightBlock NewBlock();
  // Whether the files hold a tensor of this name.
  bool Has(std::string_view name) const;
  // Accepts a surplus tensor that real checkpoints carry and nobody needs.
  void Ignore(std::string_view name);
  // The same for all whose names begin so.
  void IgnoreAll(std::string_view prefix);
  // OK, or INVALID_ARGUMENT that lists every missing, mis-shaped and surplus tensor with the file it belongs to.
  // Once it was OK, every parameter is in its place. May throw c10::Error.
  absl::Status Finish();

  const Placement& placement() const { return placement_; }
  const std::shared_ptr<WeightStream>& stream() const { return stream_; }

 private:
  struct Stored {
    StoredTensor tensor;
    bool taken = false;
  };

  Weights() = default;
  // Null where it is absent or mis-shaped, which Finish will tell.
  const StoredTensor* Find(std::string_view name, at::IntArrayRef shape);

  std::string component_;  // folder, for messages
  std::vector<std::string> files_;
  Placement placement_;
  std::shared_ptr<WeightStream> stream_;  // of those taken in blocks
  std::map<std::string, Stored, std::less<>> stored_;
  std::vector<std::string> missing_;
  std::vector<std::string> mis_shaped_;
};

// A place in a checkpoint's tree of names: `at / "attn1" / "to_q"` takes from "...attn1.to_q".
class WeightScope {
 public:
  explicit WeightScope(Weights* weights, std::string prefix = "", WeightBlock block = {})
      : weights_(weights), prefix_(std::move(prefix)), block_(std::move(block)) {}

  WeightScope operator/(std::string_view child) const;
  WeightScope operator/(int64_t index) const { return *this / std::string_view(std::to_string(index)); }
  // The same place, where a new block begins: all parameters below it belong to that.
  WeightScope NewBlock() const { return WeightScope(weights_, prefix_, weights_->NewBlock()); }

  at::Tensor Take(std::string_view name, at::IntArrayRef shape) const;
  Parameter TakeParameter(std::string_view name, at::IntArrayRef shape) const;
  Parameter TakeStack(const std::vector<std::string>& names, at::IntArrayRef shape) const;
  bool Has(std::string_view name) const;
  const WeightBlock& block() const { return block_; }
  const std::string& prefix() const { return prefix_; }
  Weights* weights() const { return weights_; }

 private:
  std::string Join(std::string_view name) const;

  Weights* weights_;
  std::string prefix_;
  WeightBlock block_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_WEIGHTS_H_
