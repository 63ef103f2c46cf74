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

namespace storyfarm::sdxl {

// Where a component's weights live and in which number format.
struct Placement {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  // Convolution weights in NHWC order, which tensor cores read without a transposition.
  bool channels_last = false;
};

// Hands out tensors while a component is built, and keeps account: what was asked for and is absent, what has another
// shape, what nobody asked for. A builder asks for everything it needs without checking; Finish tells all errors at
// once. Tensors stay memory-mapped where placement and stored format agree (float32 on the CPU): loading then costs no
// memory of its own.
class Weights {
 public:
  // Maps the files of `component` ("unet", "vae", "text_encoder", ...). DATA_LOSS where a file is not valid
  // safetensors, NOT_FOUND where there is none.
  static absl::StatusOr<Weights> Open(const model::ModelFolder& folder, std::string_view component,
                                      Placement placement);

  // The tensor, on the placement's device in its dtype. Where it is absent or mis-shaped: an undefined tensor, and
  // Finish fails.
  at::Tensor Take(std::string_view name, at::IntArrayRef shape);
  // Whether the files hold a tensor of this name.
  bool Has(std::string_view name) const;
  // Accepts a surplus tensor that real checkpoints carry and nobody needs.
  void Ignore(std::string_view name);
  // OK, or INVALID_ARGUMENT that lists every missing, mis-shaped and surplus tensor with the file it belongs to.
  absl::Status Finish() const;

  const Placement& placement() const { return placement_; }

 private:
  struct Stored {
    at::Tensor tensor;  // memory-mapped, as stored
    std::string file;
    bool taken = false;
  };

  Weights() = default;

  std::string component_;  // folder, for messages
  std::vector<std::string> files_;
  Placement placement_;
  std::map<std::string, Stored, std::less<>> stored_;
  std::vector<std::string> missing_;
  std::vector<std::string> mis_shaped_;
};

// A place in a checkpoint's tree of names: `at / "attn1" / "to_q"` takes from "...attn1.to_q".
class WeightScope {
 public:
  explicit WeightScope(Weights* weights, std::string prefix = "") : weights_(weights), prefix_(std::move(prefix)) {}

  WeightScope operator/(std::string_view child) const;
  WeightScope operator/(int64_t index) const { return *this / std::string_view(std::to_string(index)); }
  at::Tensor Take(std::string_view name, at::IntArrayRef shape) const;
  bool Has(std::string_view name) const;
  const std::string& prefix() const { return prefix_; }
  Weights* weights() const { return weights_; }

 private:
  std::string Join(std::string_view name) const;

  Weights* weights_;
  std::string prefix_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_WEIGHTS_H_
