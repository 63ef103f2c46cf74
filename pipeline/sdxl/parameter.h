// One large tensor of a network as a plan keeps it: matrices of linear layers and kernels of convolutions.
#ifndef STORYFARM_PIPELINE_SDXL_PARAMETER_H_
#define STORYFARM_PIPELINE_SDXL_PARAMETER_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

namespace storyfarm::sdxl {

// A handle, copied freely. Who built the network fills the slot behind it, and may empty and fill it again.
class Parameter {
 public:
  struct Slot {
    at::Tensor values;  // [out, ...]: in the dtype that computes, or int8
    at::Tensor scale;   // [out, 1, ...] in the dtype that computes, where values are int8
  };

  Parameter() = default;
  explicit Parameter(std::shared_ptr<const Slot> slot) : slot_(std::move(slot)) {}

  bool present() const { return slot_ != nullptr; }
  // In the dtype that computes: the values themselves, or a new tensor of values x scale.
  at::Tensor Get() const;

 private:
  std::shared_ptr<const Slot> slot_;
};

// `values` [out, ...] rounded to int8, symmetric, one scale an output channel: the largest magnitude of a channel
// becomes 127. Takes little memory beside the result: rows are worked on a few at a time. The result keeps `values`'
// device and order of elements.
Parameter::Slot ToInt8(const at::Tensor& values, at::ScalarType computing);

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_PARAMETER_H_
