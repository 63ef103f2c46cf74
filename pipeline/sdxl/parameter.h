// One large tensor of a network as a plan keeps it: matrices of linear layers and kernels of convolutions.
#ifndef STORYFARM_PIPELINE_SDXL_PARAMETER_H_
#define STORYFARM_PIPELINE_SDXL_PARAMETER_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace storyfarm::sdxl {

// A handle, copied freely. Who built the network fills the slot behind it, and may empty and fill it again.
class Parameter {
 public:
  struct Slot {
    at::Tensor values;  // [out, ...] in the dtype that computes; in int8: [out, groups, weights of a group]
    at::Tensor scale;   // [out, groups, 1] in the dtype that computes, where values are int8
    std::vector<int64_t> shape;  // of an int8 weight: [out, ...]
    bool channels_last = false;  // its groups run through [out, height, width, in]
  };

  Parameter() = default;
  explicit Parameter(std::shared_ptr<const Slot> slot) : slot_(std::move(slot)) {}

  bool present() const { return slot_ != nullptr; }
  // In the dtype that computes: the values themselves, or a new tensor of values x scale.
  at::Tensor Get() const;

 private:
  std::shared_ptr<const Slot> slot_;
};

// `values` [out, ...] rounded to int8, symmetric: within an output channel, each group of up to 64 weights that lie
// side by side has a scale, with which its largest magnitude becomes 127. One scale a channel is set by the largest of
// thousands of weights, and costs a small trained UNet a decibel more. Takes little memory beside the result: channels
// are worked on a few at a time. The result is on `values`' device.
Parameter::Slot ToInt8(const at::Tensor& values, at::ScalarType computing);
// What that takes, scales included.
uint64_t Int8Bytes(const at::Tensor& values, at::ScalarType computing);

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_PARAMETER_H_
