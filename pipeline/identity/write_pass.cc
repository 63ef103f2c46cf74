#include <memory>

#include "pipeline/identity/identity.h"

namespace storyfarm::identity {

WritePass::WritePass(Options options, DrawSource* draws, GateTable gates, at::Device device)
    : options_(std::move(options)), draws_(draws), gates_(std::move(gates)), device_(device) {}

absl::StatusOr<std::unique_ptr<WritePass>> WritePass::Create(Options options, DrawSource* draws, at::Device device) {
  absl::StatusOr<GateTable> gates = draws->IdentityGates(options.character);
  if (!gates.ok()) return gates.status();
  return std::unique_ptr<WritePass>(new WritePass(std::move(options), draws, *std::move(gates), device));
}

absl::Status WritePass::BeginStep(int64_t step) {
  step_ = step;
  tokens_.clear();
  for (const Grid grid : DistinctGrids(options_.grids)) {
    std::vector<at::Tensor>& of_frames = tokens_[grid];
    for (int64_t i = 0; i < options_.identity_frames; ++i) {
      const absl::StatusOr<std::vector<int32_t>> tokens =
          draws_->Tokens(options_.character, static_cast<int>(step), grid, static_cast<int>(i));
      if (!tokens.ok()) return tokens.status();
      of_frames.push_back(at::tensor(*tokens, at::kInt).to(at::kLong).to(device_));
    }
  }
  return absl::OkStatus();
}

bool WritePass::Keeps(int64_t layer) const {
  return options_.writer != nullptr && (draws_->gates_may_differ() || gates_.Open(step_, layer));
}

absl::Status WritePass::Keep(int64_t layer) {
  for (int64_t h = 0; h < halves_.count; ++h) {
    std::vector<at::Tensor> of_half;
    for (const at::Tensor& of_frame : kept_) of_half.push_back(of_frame.select(0, h));
    PackedPart packed = PackPart(of_half, options_.element);
    // Held by the host at once: a small device has no room for what waits to be written.
    const auto host = std::make_shared<const at::Tensor>(packed.bytes.to(at::kCPU));
    const auto* bytes = static_cast<const std::byte*>(host->const_data_ptr());
    absl::Status put = options_.writer->Put({.layer = layer,
                                             .half = halves_.first + h,
                                             .shape = packed.shape,
                                             .bytes = {bytes, static_cast<size_t>(host->numel())},
                                             .owner = host});
    if (!put.ok()) return put;
  }
  return absl::OkStatus();
}

void WritePass::Gather(const sdxl::SelfAttentionSite& site, const std::vector<at::Tensor>& xs) {
  kept_.clear();
  const bool keeps = Keeps(site.layer);
  if (!failure_.ok() || (!gates_.Open(step_, site.layer) && !keeps)) return;
  const std::vector<at::Tensor>& tokens = tokens_.at({site.height, site.width});
  for (size_t i = 0; i < xs.size(); ++i) kept_.push_back(xs[i].index_select(1, tokens[i]));
  if (keeps) failure_ = Keep(site.layer);
}

at::Tensor WritePass::AttendFrame(const sdxl::SelfAttentionSite& site, int64_t frame, const at::Tensor& x) const {
  if (!failure_.ok()) return x;
  if (!gates_.Open(step_, site.layer) || options_.identity_frames == 1) return site.attention.Attend(x, x);
  std::vector<at::Tensor> attended;
  for (int64_t j = 0; j < options_.identity_frames; ++j) {
    if (j != frame) attended.push_back(kept_[static_cast<size_t>(j)]);
  }
  attended.push_back(x);
  return site.attention.Attend(x, at::cat(attended, 1));
}

at::Tensor WritePass::Attend(const sdxl::SelfAttentionSite& site, const at::Tensor& x) {
  const int64_t frames = options_.identity_frames;
  const at::Tensor by_frame = x.view({halves_.count, frames, x.size(1), x.size(2)});
  std::vector<at::Tensor> xs;
  for (int64_t i = 0; i < frames; ++i) xs.push_back(by_frame.select(1, i));
  Gather(site, xs);
  if (!failure_.ok()) return x;
  if (!gates_.Open(step_, site.layer) || frames == 1) return site.attention.Attend(x, x);
  at::Tensor y = at::empty_like(by_frame);
  for (int64_t i = 0; i < frames; ++i) y.select(1, i).copy_(AttendFrame(site, i, xs[static_cast<size_t>(i)]));
  kept_.clear();
  return y.view(x.sizes());
}

}  // namespace storyfarm::identity
