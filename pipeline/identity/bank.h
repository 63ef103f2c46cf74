// The identity bank: hidden states of a character's identity frames, one file a denoising step.
//
// A file is safetensors: entry "{layer}/{i}" is [halves, k, C], the kept tokens of identity frame i at the input of
// that layer's self-attention, as computed (F32, F16 or BF16). Halves: unconditional then conditional; one where
// guidance is off. Metadata: format "storyfarm-bank", version "1", character_key (hex), step, identity_frames, model.
#ifndef STORYFARM_PIPELINE_IDENTITY_BANK_H_
#define STORYFARM_PIPELINE_IDENTITY_BANK_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/identity/draws.h"

namespace storyfarm::identity {

// (layer, identity frame) -> [halves, k, C].
using BankStep = std::map<std::pair<int64_t, int64_t>, at::Tensor>;

// What ties a bank to the run that made it.
struct BankOrigin {
  CharacterKey character_key{};
  int identity_frames = 0;
  std::string model;  // digest in hex, or empty where nobody knows it
};

// Durable once OK. Tensors may be on any device.
absl::Status WriteBankStep(base::Env& env, const std::string& path, const BankOrigin& origin, int step,
                           const BankStep& entries);

// Reads one step. On the CPU entries stay memory-mapped where file and `dtype` agree. INVALID_ARGUMENT or DATA_LOSS
// names the file and what does not fit: another character, step, model or number of identity frames, a name or shape
// that no entry can have.
absl::StatusOr<BankStep> ReadBankStep(const std::string& path, const BankOrigin& origin, int step, at::Device device,
                                      at::ScalarType dtype);

// A character's bank as a pass reads it: one step at a time, or all of it on the device.
class BankReader {
 public:
  // `files`: step s is files[s]; empty: that step holds nothing. `resident`: steps stay on the device once read.
  BankReader(BankOrigin origin, std::vector<std::string> files, at::Device device, at::ScalarType dtype, bool resident)
      : origin_(std::move(origin)), files_(std::move(files)), device_(device), dtype_(dtype), resident_(resident) {}

  // Makes `step` current; releases the one before unless resident.
  absl::Status Load(int64_t step);
  // Of the current step.
  const BankStep& entries() const { return current_; }
  int identity_frames() const { return origin_.identity_frames; }
  size_t steps() const { return files_.size(); }

 private:
  BankOrigin origin_;
  std::vector<std::string> files_;
  at::Device device_;
  at::ScalarType dtype_;
  bool resident_;
  int64_t loaded_ = -1;
  BankStep current_;
  std::map<int64_t, BankStep> kept_;
};

}  // namespace storyfarm::identity

#endif  // STORYFARM_PIPELINE_IDENTITY_BANK_H_
