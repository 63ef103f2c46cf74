#include <algorithm>
#include <exception>
#include <memory>
#include <span>

#include "pipeline/device/fused.h"
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
  chosen_.clear();
  for (const Grid grid : DistinctGrids(options_.grids)) {
    Chosen& chosen = chosen_[grid];
    const int64_t tokens_a_frame = static_cast<int64_t>(grid.height) * grid.width;
    std::vector<at::Tensor> kept;
    for (int64_t i = 0; i < options_.identity_frames; ++i) {
      const absl::StatusOr<std::vector<int32_t>> tokens =
          draws_->Tokens(options_.character, static_cast<int>(step), grid, static_cast<int>(i));
      if (!tokens.ok()) return tokens.status();
      chosen.of_frames.push_back(device::SendIndex({tokens->begin(), tokens->end()}, device_));
      kept.push_back(chosen.of_frames.back() + i * tokens_a_frame);
    }
    for (int64_t i = 0; i < options_.identity_frames; ++i) {
      std::vector<at::Tensor> attended;
      for (int64_t j = 0; j < options_.identity_frames; ++j) {
        if (j != i) attended.push_back(kept[static_cast<size_t>(j)]);
      }
      attended.push_back(at::arange(i * tokens_a_frame, (i + 1) * tokens_a_frame, kept.front().options()));
      chosen.attended.push_back(at::cat(attended));
    }
    chosen.kept = at::cat(kept);
    const bool alike = std::all_of(chosen.attended.begin(), chosen.attended.end(), [&](const at::Tensor& of_frame) {
      return of_frame.numel() == chosen.attended.front().numel();
    });
    if (alike) chosen.attended_together = at::cat(chosen.attended);
  }
  return absl::OkStatus();
}

bool WritePass::Keeps(int64_t layer) const {
  return options_.writer != nullptr && (draws_->gates_may_differ() || gates_.Open(step_, layer));
}

absl::Status WritePass::Keep(int64_t layer, const at::Tensor& kept) {
  for (int64_t h = 0; h < halves_.count; ++h) {
    const PackedPart packed = PackPart({kept[h]}, options_.element);
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

bool WritePass::Shares(int64_t layer) const { return gates_.Open(step_, layer) && options_.identity_frames > 1; }

void WritePass::Gather(const sdxl::SelfAttentionSite& site, const std::vector<at::Tensor>& xs) {
  shared_.clear();
  const bool keeps = Keeps(site.layer);
  if (!failure_.ok() || (!Shares(site.layer) && !keeps)) return;
  const std::vector<at::Tensor>& tokens = chosen_.at({site.height, site.width}).of_frames;
  std::vector<at::Tensor> kept;
  for (size_t i = 0; i < xs.size(); ++i) kept.push_back(device::GatherRows(xs[i], tokens[i]));
  if (Shares(site.layer)) {
    for (const at::Tensor& of_frame : kept) shared_.push_back(site.attention.ProjectKeys(of_frame));
  }
  if (keeps) failure_ = Keep(site.layer, at::cat(kept, 1));
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
  const Chosen& chosen = chosen_.at({site.height, site.width});
  // [halves x frames, N, C] -> [halves, frames x N, C], a view.
  const auto by_half = [&](const at::Tensor& all) { return all.unflatten(0, {halves_.count, frames}).flatten(1, 2); };
  if (Keeps(site.layer)) failure_ = Keep(site.layer, device::GatherRows(by_half(x), chosen.kept));
  if (!failure_.ok()) return x;
  if (!Shares(site.layer)) return site.attention(x);
  const sdxl::SelfAttention::Projections projected = site.attention.Project(x);
  // The keys of kept tokens are the kept ones of the keys.
  const at::Tensor keys = by_half(projected.own.keys), values = by_half(projected.own.values);
  if (chosen.attended_together.defined()) {
    const auto of_frames = [&](const at::Tensor& all) {
      return device::GatherRows(all, chosen.attended_together).unflatten(1, {frames, -1}).flatten(0, 1);
    };
    return site.attention.Attend(projected.queries, {of_frames(keys), of_frames(values)});
  }
  at::Tensor y = at::empty_like(x);
  at::Tensor y_by_frame = y.unflatten(0, {halves_.count, frames});
  const at::Tensor queries = projected.queries.unflatten(0, {halves_.count, frames});
  for (int64_t i = 0; i < frames; ++i) {
    const at::Tensor& index = chosen.attended[static_cast<size_t>(i)];
    y_by_frame.select(1, i).copy_(site.attention.Attend(
        queries.select(1, i), {device::GatherRows(keys, index), device::GatherRows(values, index)}));
  }
  return y;
}

}  // namespace storyfarm::identity
