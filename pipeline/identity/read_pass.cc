#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "pipeline/identity/identity.h"

namespace storyfarm::identity {

absl::StatusOr<std::unique_ptr<ReadPass>> ReadPass::Create(std::vector<Frame> frames, int64_t halves,
                                                           std::vector<sdxl::SelfAttentionLayer> layers,
                                                           DrawSource* draws) {
  std::unique_ptr<ReadPass> pass(new ReadPass(std::move(frames), halves, std::move(layers)));
  for (const Frame& frame : pass->frames_) {
    if (frame.banks.empty()) {
      pass->gates_.emplace_back();
      continue;
    }
    absl::StatusOr<GateTable> gates = draws->FrameGates(frame.name);
    if (!gates.ok()) return gates.status();
    pass->gates_.push_back(*std::move(gates));
  }
  return pass;
}

absl::Status ReadPass::BeginStep(int64_t step) {
  step_ = step;
  for (size_t f = 0; f < frames_.size(); ++f) {
    for (BankReader* bank : frames_[f].banks) {
      if (const absl::Status status = bank->Load(step); !status.ok()) return status;
    }
    if (frames_[f].banks.empty()) continue;
    if (const absl::Status status = CheckEntries(step, frames_[f], gates_[f]); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ReadPass::CheckEntries(int64_t step, const Frame& frame, const GateTable& gates) const {
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    if (!gates.Open(step, static_cast<int64_t>(layer))) continue;
    for (const BankReader* bank : frame.banks) {
      for (int64_t i = 0; i < bank->identity_frames(); ++i) {
        const auto entry = bank->entries().find({static_cast<int64_t>(layer), i});
        const std::string place =
            absl::StrCat("step ", step, ", layer ", layer, " (", layers_[layer].name, "), identity frame ", i);
        if (entry == bank->entries().end()) {
          return absl::InvalidArgumentError(absl::StrCat("identity bank: no entry for ", place, ", which panel ",
                                                         frame.name.panel,
                                                         " reads: the bank was written under other gates or steps"));
        }
        const at::Tensor& tokens = entry->second;
        if (tokens.size(0) != halves_of_pass_ || tokens.size(2) != layers_[layer].channels) {
          return absl::InvalidArgumentError(absl::StrCat(
              "identity bank: the entry for ", place, " is [", tokens.size(0), ", ", tokens.size(1), ", ",
              tokens.size(2), "], this run needs [", halves_of_pass_, ", k, ", layers_[layer].channels,
              "]: it was written with another model or with guidance ", halves_of_pass_ == 2 ? "off" : "on"));
        }
      }
    }
  }
  return absl::OkStatus();
}

std::vector<ReadPass::Group> ReadPass::GroupsAt(int64_t layer) const {
  std::vector<Group> groups;
  for (size_t f = 0; f < frames_.size(); ++f) {
    const bool reads = !frames_[f].banks.empty() && gates_[f].Open(step_, layer);
    const std::vector<BankReader*> banks = reads ? frames_[f].banks : std::vector<BankReader*>();
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.banks == banks; });
    if (same == groups.end()) {
      groups.push_back({{static_cast<int64_t>(f)}, banks});
    } else {
      same->frames.push_back(static_cast<int64_t>(f));
    }
  }
  return groups;
}

at::Tensor ReadPass::AttendGroup(const sdxl::SelfAttentionSite& site, const at::Tensor& x,
                                 const std::vector<BankReader*>& banks) const {
  const int64_t frames = x.size(1);
  const at::Tensor flat = x.reshape({halves_.count * frames, x.size(2), x.size(3)});
  if (banks.empty()) return site.attention.Attend(flat, flat).view(x.sizes());
  std::vector<at::Tensor> attended;
  for (const BankReader* bank : banks) {
    for (int64_t i = 0; i < bank->identity_frames(); ++i) {
      const at::Tensor entry = bank->entries().at({site.layer, i}).narrow(0, halves_.first, halves_.count);
      attended.push_back(entry.unsqueeze(1)
                             .expand({halves_.count, frames, entry.size(1), entry.size(2)})
                             .reshape({halves_.count * frames, entry.size(1), entry.size(2)}));
    }
  }
  attended.push_back(flat);
  return site.attention.Attend(flat, at::cat(attended, 1)).view(x.sizes());
}

at::Tensor ReadPass::Attend(const sdxl::SelfAttentionSite& site, const at::Tensor& x) {
  const int64_t frames = static_cast<int64_t>(frames_.size());
  const at::Tensor by_frame = x.view({halves_.count, frames, x.size(1), x.size(2)});
  const std::vector<Group> groups = GroupsAt(site.layer);
  if (groups.size() == 1) return AttendGroup(site, by_frame, groups[0].banks).view(x.sizes());
  at::Tensor y = at::empty_like(by_frame);
  for (const Group& group : groups) {
    const at::Tensor positions = at::tensor(group.frames, at::kLong).to(x.device());
    y.index_copy_(1, positions, AttendGroup(site, by_frame.index_select(1, positions), group.banks));
  }
  return y.view(x.sizes());
}

}  // namespace storyfarm::identity
