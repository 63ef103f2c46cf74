#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "pipeline/identity/identity.h"

namespace storyfarm::identity {

absl::StatusOr<std::unique_ptr<ReadPass>> ReadPass::Create(Options options, DrawSource* draws) {
  std::unique_ptr<ReadPass> pass(new ReadPass(std::move(options)));
  for (const Frame& frame : pass->options_.frames) {
    if (frame.banks.empty()) {
      pass->gates_.emplace_back();
      continue;
    }
    absl::StatusOr<GateTable> gates = draws->FrameGates(frame.name);
    if (!gates.ok()) return gates.status();
    pass->gates_.push_back(*std::move(gates));
  }
  std::vector<BankReader*> begun;
  for (const Frame& frame : pass->options_.frames) {
    for (BankReader* bank : frame.banks) {
      if (std::find(begun.begin(), begun.end(), bank) != begun.end()) continue;
      bank->BeginPass(pass->LoadsOf(bank));
      begun.push_back(bank);
    }
  }
  return pass;
}

absl::Status ReadPass::BeginStep(int64_t step) {
  step_ = step;
  return failure_;
}

bool ReadPass::Reads(size_t frame, int64_t step, int64_t layer) const {
  return !options_.frames[frame].banks.empty() && gates_[frame].Open(step, layer);
}

std::vector<BankLoad> ReadPass::LoadsOf(BankReader* bank) const {
  std::vector<size_t> readers;
  int64_t steps = 0;
  for (size_t f = 0; f < options_.frames.size(); ++f) {
    const std::vector<BankReader*>& banks = options_.frames[f].banks;
    if (std::find(banks.begin(), banks.end(), bank) == banks.end()) continue;
    readers.push_back(f);
    steps = gates_[f].steps;
  }
  const int64_t halves_a_call = options_.halves_batched ? options_.halves : 1;
  std::vector<BankLoad> loads;
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t half = 0; half < options_.halves; half += halves_a_call) {
      for (int64_t layer = 0; layer < static_cast<int64_t>(options_.layers.size()); ++layer) {
        if (std::any_of(readers.begin(), readers.end(), [&](size_t f) { return Reads(f, step, layer); })) {
          loads.push_back({step, layer, half, halves_a_call});
        }
      }
    }
  }
  return loads;
}

std::vector<ReadPass::Group> ReadPass::GroupsAt(int64_t layer) const {
  std::vector<Group> groups;
  for (size_t f = 0; f < options_.frames.size(); ++f) {
    const std::vector<BankReader*> banks =
        Reads(f, step_, layer) ? options_.frames[f].banks : std::vector<BankReader*>();
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.banks == banks; });
    if (same == groups.end()) {
      groups.push_back({{static_cast<int64_t>(f)}, banks});
    } else {
      same->frames.push_back(static_cast<int64_t>(f));
    }
  }
  return groups;
}

absl::StatusOr<ReadPass::TokensOfBanks> ReadPass::TokensAt(const sdxl::SelfAttentionSite& site,
                                                           const std::vector<Group>& groups) const {
  TokensOfBanks tokens;
  for (const Group& group : groups) {
    for (BankReader* bank : group.banks) {
      if (tokens.contains(bank)) continue;
      absl::StatusOr<at::Tensor> of_bank = bank->Tokens({step_, site.layer, halves_.first, halves_.count});
      if (!of_bank.ok()) return of_bank.status();
      if (of_bank->size(2) != site.attention.channels()) {
        return absl::InvalidArgumentError(
            absl::StrCat("identity bank: step ", step_, ", layer ", site.layer, " has ", of_bank->size(2),
                         " channels, this model ", site.attention.channels(), ": it was made with another model"));
      }
      tokens.emplace(bank, *std::move(of_bank));
    }
  }
  return tokens;
}

// x: [halves, frames, N, C]; tokens: [halves, k, C] of each bank.
at::Tensor ReadPass::AttendGroup(const sdxl::SelfAttentionSite& site, const at::Tensor& x,
                                 const std::vector<at::Tensor>& tokens) const {
  const int64_t halves = x.size(0), frames = x.size(1), channels = x.size(3);
  const at::Tensor flat = x.reshape({halves * frames, x.size(2), channels});
  if (tokens.empty()) return site.attention.Attend(flat, flat).view(x.sizes());
  std::vector<at::Tensor> attended;
  for (const at::Tensor& of_bank : tokens) {
    attended.push_back(of_bank.unsqueeze(1).expand({halves, frames, of_bank.size(1), channels}));
  }
  attended.push_back(x);
  const at::Tensor keys = at::cat(attended, 2);
  return site.attention.Attend(flat, keys.view({halves * frames, keys.size(2), channels})).view(x.sizes());
}

at::Tensor ReadPass::Attend(const sdxl::SelfAttentionSite& site, const at::Tensor& x) {
  if (!failure_.ok()) return x;
  const int64_t frames = static_cast<int64_t>(options_.frames.size());
  const at::Tensor by_frame = x.view({halves_.count, frames, x.size(1), x.size(2)});
  const std::vector<Group> groups = GroupsAt(site.layer);
  const absl::StatusOr<TokensOfBanks> tokens = TokensAt(site, groups);
  if (!tokens.ok()) {
    failure_ = tokens.status();
    return x;
  }
  const auto tokens_of = [&](const Group& group) {
    std::vector<at::Tensor> of_group;
    for (BankReader* bank : group.banks) of_group.push_back(tokens->at(bank));
    return of_group;
  };
  at::Tensor y;
  if (groups.size() == 1) {
    y = AttendGroup(site, by_frame, tokens_of(groups[0]));
  } else {
    y = at::empty_like(by_frame);
    for (const Group& group : groups) {
      const at::Tensor positions = at::tensor(group.frames, at::kLong).to(x.device());
      y.index_copy_(1, positions, AttendGroup(site, by_frame.index_select(1, positions), tokens_of(group)));
    }
  }
  for (const auto& [bank, of_bank] : *tokens) bank->Done();
  return y.view(x.sizes());
}

}  // namespace storyfarm::identity
