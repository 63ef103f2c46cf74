#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "pipeline/device/fused.h"
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
        return absl::InvalidArgumentError(absl::StrCat("identity bank: step ", step_, ", layer ", site.layer, " has ",
                                                       of_bank->size(2), " channels, this model ",
                                                       site.attention.channels(), ": it was made with another model"));
      }
      tokens.emplace(bank, *std::move(of_bank));
    }
  }
  return tokens;
}

at::Tensor ReadPass::AttendGroup(const sdxl::SelfAttentionSite& site, const sdxl::SelfAttention::Projections& projected,
                                 const std::vector<sdxl::KeysValues>& banks) const {
  const at::Tensor& queries = projected.queries;
  const auto flat = [](const at::Tensor& x) { return x.flatten(0, 1); };
  if (banks.empty()) {
    return site.attention.Attend(flat(queries), {flat(projected.own.keys), flat(projected.own.values)})
        .view(queries.sizes());
  }
  // What a bank holds is the same for all frames of the batch: [halves, k, C] -> [halves, frames, k, C].
  const auto joined = [&](auto of, const at::Tensor& own) {
    std::vector<at::Tensor> parts;
    for (const sdxl::KeysValues& bank : banks) {
      parts.push_back((bank.*of).unsqueeze(1).expand({-1, queries.size(1), -1, -1}));
    }
    parts.push_back(own);
    return flat(device::JoinRows(parts));
  };
  using sdxl::KeysValues;
  return site.attention
      .Attend(flat(queries),
              {joined(&KeysValues::keys, projected.own.keys), joined(&KeysValues::values, projected.own.values)})
      .view(queries.sizes());
}

at::Tensor ReadPass::Attend(const sdxl::SelfAttentionSite& site, const at::Tensor& x) {
  if (!failure_.ok()) return x;
  const int64_t frames = static_cast<int64_t>(options_.frames.size());
  const std::vector<Group> groups = GroupsAt(site.layer);
  const absl::StatusOr<TokensOfBanks> tokens = TokensAt(site, groups);
  if (!tokens.ok()) {
    failure_ = tokens.status();
    return x;
  }
  if (frames == 1 && !groups[0].banks.empty() && site.attention.in_place()) {
    std::vector<at::Tensor> sets;
    for (BankReader* bank : groups[0].banks) sets.push_back(tokens->at(bank));
    sets.push_back(x);
    const sdxl::SelfAttention::Projections projected = site.attention.ProjectJoined(sets);
    for (BankReader* bank : groups[0].banks) bank->Done();
    return site.attention.Attend(projected.queries, projected.own);
  }
  std::map<BankReader*, sdxl::KeysValues> banks;
  for (const auto& [bank, of_bank] : *tokens) {
    banks[bank] = site.attention.ProjectKeys(of_bank);
    bank->Done();
  }
  const auto banks_of = [&](const Group& group) {
    std::vector<sdxl::KeysValues> of_group;
    for (BankReader* bank : group.banks) of_group.push_back(banks.at(bank));
    return of_group;
  };
  const sdxl::SelfAttention::Projections all = site.attention.Project(x);
  const auto by_frame = [&](const at::Tensor& t) { return t.unflatten(0, {halves_.count, frames}); };
  const sdxl::SelfAttention::Projections apart = {by_frame(all.queries),
                                                  {by_frame(all.own.keys), by_frame(all.own.values)}};
  if (groups.size() == 1) return AttendGroup(site, apart, banks_of(groups[0])).view(x.sizes());
  at::Tensor y = at::empty_like(x);
  at::Tensor y_by_frame = y.view({halves_.count, frames, x.size(1), x.size(2)});
  for (const Group& group : groups) {
    const at::Tensor positions = device::SendIndex(group.frames, x.device());
    const auto chosen = [&](const at::Tensor& t) { return t.index_select(1, positions); };
    y_by_frame.index_copy_(
        1, positions,
        AttendGroup(site, {chosen(apart.queries), {chosen(apart.own.keys), chosen(apart.own.values)}},
                    banks_of(group)));
  }
  return y;
}

}  // namespace storyfarm::identity
