#include <exception>
#include <memory>
#include <span>

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

absl::Status WritePass::Keep(int64_t layer, const std::vector<at::Tensor>& kept) {
  for (int64_t h = 0; h < halves_.count; ++h) {
    std::vector<at::Tensor> of_half;
    for (const at::Tensor& of_frame : kept) of_half.push_back(of_frame.select(0, h));
    const PackedPart packed = PackPart(of_half, options_.element);
    // On its way to the host at once: a small device has no room for what waits to be written.
    const std::shared_ptr<device::Landing> landing = options_.landings->Begin(packed.bytes);
    const auto bytes = [landing]() -> absl::StatusOr<std::span<const std::byte>> {
      try {
        return landing->Wait();
      } catch (const std::exception& error) {
        return absl::InternalError(error.what());
      }
    };
    absl::Status put = options_.writer->Put({layer, halves_.first + h, packed.shape, bytes});
    if (!put.ok()) return put;
  }
  return absl::OkStatus();
}

std::vector<at::Tensor> WritePass::Kept(const sdxl::SelfAttentionSite& site,
                                        const std::vector<at::Tensor>& of_frames) const {
  const std::vector<at::Tensor>& tokens = tokens_.at({site.height, site.width});
  std::vector<at::Tensor> kept;
  for (size_t i = 0; i < of_frames.size(); ++i) kept.push_back(of_frames[i].index_select(1, tokens[i]));
  return kept;
}

bool WritePass::Shares(int64_t layer) const { return gates_.Open(step_, layer) && options_.identity_frames > 1; }

void WritePass::Gather(const sdxl::SelfAttentionSite& site, const std::vector<at::Tensor>& xs) {
  shared_.clear();
  const bool keeps = Keeps(site.layer);
  if (!failure_.ok() || (!Shares(site.layer) && !keeps)) return;
  const std::vector<at::Tensor> kept = Kept(site, xs);
  if (Shares(site.layer)) {
    for (const at::Tensor& of_frame : kept) shared_.push_back(site.attention.ProjectKeys(of_frame));
  }
  if (keeps) failure_ = Keep(site.layer, kept);
}

at::Tensor WritePass::AttendFrame(const sdxl::SelfAttentionSite& site, int64_t frame, const at::Tensor& x) const {
  if (!failure_.ok()) return x;
  if (!Shares(site.layer)) return site.attention(x);
  return AttendOthers(site, frame, site.attention.Project(x));
}

at::Tensor WritePass::AttendOthers(const sdxl::SelfAttentionSite& site, int64_t frame,
                                   const sdxl::SelfAttention::Projections& projected) const {
  std::vector<at::Tensor> keys, values;
  for (int64_t j = 0; j < options_.identity_frames; ++j) {
    if (j == frame) continue;
    keys.push_back(shared_[static_cast<size_t>(j)].keys);
    values.push_back(shared_[static_cast<size_t>(j)].values);
  }
  keys.push_back(projected.own.keys);
  values.push_back(projected.own.values);
  return site.attention.Attend(projected.queries, {at::cat(keys, 1), at::cat(values, 1)});
}

at::Tensor WritePass::Attend(const sdxl::SelfAttentionSite& site, const at::Tensor& x) {
  if (!failure_.ok()) return x;
  const int64_t frames = options_.identity_frames;
  // [halves x frames, N, C] -> [halves, N, C] of each frame, views.
  const auto by_frame = [&](const at::Tensor& all) {
    const at::Tensor apart = all.unflatten(0, {halves_.count, frames});
    std::vector<at::Tensor> each;
    for (int64_t i = 0; i < frames; ++i) each.push_back(apart.select(1, i));
    return each;
  };
  if (Keeps(site.layer)) failure_ = Keep(site.layer, Kept(site, by_frame(x)));
  if (!failure_.ok()) return x;
  if (!Shares(site.layer)) return site.attention(x);
  const sdxl::SelfAttention::Projections projected = site.attention.Project(x);
  const std::vector<at::Tensor> queries = by_frame(projected.queries), keys = by_frame(projected.own.keys),
                                values = by_frame(projected.own.values);
  // The keys of kept tokens are the kept ones of the keys.
  const std::vector<at::Tensor> kept_keys = Kept(site, keys), kept_values = Kept(site, values);
  shared_.clear();
  for (size_t i = 0; i < keys.size(); ++i) shared_.push_back({kept_keys[i], kept_values[i]});
  at::Tensor y = at::empty_like(x);
  at::Tensor apart = y.view({halves_.count, frames, x.size(1), x.size(2)});
  for (int64_t i = 0; i < frames; ++i) {
    const auto at = static_cast<size_t>(i);
    apart.select(1, i).copy_(AttendOthers(site, i, {queries[at], {keys[at], values[at]}}));
  }
  shared_.clear();
  return y;
}

}  // namespace storyfarm::identity
