// The identity bank: hidden states of a character's identity frames. Tensors on one side, bytes of files on the other.
//
//   kept tokens --PackPart--> bytes --BankWriter (bank_writer.h)--> one file a step (bank_file.h)
//                                                                       |
//   tokens as keys <--UnpackParts-- bytes on the device <--BankReader-- BankRing (bank_ring.h)
#ifndef STORYFARM_PIPELINE_IDENTITY_BANK_H_
#define STORYFARM_PIPELINE_IDENTITY_BANK_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/device/device.h"
#include "pipeline/identity/bank_file.h"
#include "pipeline/identity/bank_ring.h"

namespace storyfarm::identity {

// The element that holds what is computed in fp32, fp16 or bf16 as it is.
BankElement ElementOf(at::ScalarType computed);

// The bytes of a part, uint8 [shape.Bytes()] on the tokens' device. `tokens`: [k, C], a tensor for each identity frame.
// Int8: device::Pack.
struct PackedPart {
  PartShape shape;
  at::Tensor bytes;
};
PackedPart PackPart(const std::vector<at::Tensor>& tokens, BankElement element);

// The tokens of `halves` parts that lie one behind the other: [halves, tokens, C] in `dtype`. A view of `bytes` where
// that is their own format.
at::Tensor UnpackParts(const at::Tensor& bytes, const PartShape& shape, int64_t halves, at::ScalarType dtype);

// A stored bank, as one pass after the other reads it.
class BankReader {
 public:
  struct Options {
    BankOrigin origin;
    ChunkPath path_of;
    int64_t halves = 2;                    // of the run
    std::vector<std::string> layer_names;  // UNet::self_attention_layers
    at::ScalarType dtype = at::kFloat;     // that tokens are given in
    int ring_layers = 4;                   // slots of the ring, at least 1
    bool resident = false;                 // what was read once stays on the device, packed
  };
  // `env` and `device` outlive this.
  BankReader(base::Env& env, device::Device& device, Options options);
  ~BankReader();

  // Begins a pass: what it will ask for, in order. Reading ahead starts at once.
  void BeginPass(std::vector<BankLoad> loads);
  // The next of the loads: [halves, tokens, C]. Valid until Done or the next Tokens. Errors as BankRing::Next; and what
  // torch throws.
  absl::StatusOr<at::Tensor> Tokens(const BankLoad& load);
  // What Tokens gave is used: its slot may be filled again.
  void Done();

 private:
  class Slot;
  struct Kept {
    PartShape shape;
    at::Tensor bytes;
  };
  using Place = std::tuple<int64_t, int64_t, int64_t, int64_t>;
  static Place PlaceOf(const BankLoad& load) { return {load.step, load.layer, load.first_half, load.halves}; }

  base::Env& env_;
  Options options_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::unique_ptr<BankRing> ring_;  // after slots_: its threads end first
  Slot* current_ = nullptr;         // received and not released
  int threads_;
  std::map<Place, Kept> kept_;
};

}  // namespace storyfarm::identity

#endif  // STORYFARM_PIPELINE_IDENTITY_BANK_H_
