#include "pipeline/identity/draws.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pipeline/identity/philox.h"

namespace storyfarm::identity {
namespace {

std::string_view BytesOf(const CharacterKey& key) { return {reinterpret_cast<const char*>(key.data()), key.size()}; }

// c2 is 0 for initial noise and step + 1 for step noise.
std::vector<float> NoiseOf(NoiseKind kind, const FrameName& frame, uint32_t c2, LatentShape shape) {
  const uint32_t number = static_cast<uint32_t>(std::max(frame.identity_frame, 0));
  if (kind == NoiseKind::kShared) {
    return Normals(StreamKey("shared", frame.seed, ""), {0, number, c2, 0}, shape.elements());
  }
  if (frame.hidden) {
    return Normals(StreamKey("hidden", frame.seed, BytesOf(frame.character.key)), {0, number, c2, 0}, shape.elements());
  }
  return Normals(StreamKey("noise", frame.seed, frame.id), {0, 0, c2, 0}, shape.elements());
}

}  // namespace

GateTable GatesOf(const GateRule& rule, int64_t steps, int64_t layers) {
  constexpr double kRounding = 1e-9;  // 0.1 x 30 is a little over 3
  const int64_t switch_step =
      rule.switch_step ? *rule.switch_step
                       : static_cast<int64_t>(std::ceil(rule.switch_fraction * static_cast<double>(steps) - kRounding));
  const PhiloxKey key = StreamKey("gate", kGateSeed, "");
  GateTable gates{steps, layers, std::vector<uint8_t>(static_cast<size_t>(steps * layers), 0)};
  for (int64_t step = 1; step < steps; ++step) {
    const double threshold = step < switch_step ? rule.before : rule.after;
    for (int64_t layer = 0; layer < layers; ++layer) {
      const double u = UniformOf(Philox4x32({0, static_cast<uint32_t>(step), static_cast<uint32_t>(layer), 0}, key));
      gates.open[step * layers + layer] = u > threshold;
    }
  }
  return gates;
}

absl::StatusOr<std::vector<float>> PhiloxDraws::Noise(const FrameName& frame, LatentShape shape) {
  return NoiseOf(settings_.noise, frame, 0, shape);
}

absl::StatusOr<std::vector<float>> PhiloxDraws::StepNoise(const FrameName& frame, int step, LatentShape shape) {
  return NoiseOf(settings_.noise, frame, static_cast<uint32_t>(step) + 1, shape);
}

absl::StatusOr<GateTable> PhiloxDraws::IdentityGates(const CharacterName&) {
  return GatesOf(settings_.gate, settings_.steps, settings_.layers);
}

absl::StatusOr<GateTable> PhiloxDraws::FrameGates(const FrameName&) {
  return GatesOf(settings_.gate, settings_.steps, settings_.layers);
}

absl::StatusOr<std::vector<int32_t>> PhiloxDraws::Tokens(const CharacterName& character, int step, Grid grid,
                                                         int identity_frame) {
  const auto at = std::find(settings_.identity_grids.begin(), settings_.identity_grids.end(), grid);
  const size_t rank = static_cast<size_t>(at - settings_.identity_grids.begin());
  const size_t rates = settings_.token_rate.size();
  if (at == settings_.identity_grids.end() || rates == 0 || (rates > 1 && rates != settings_.identity_grids.size())) {
    return absl::InvalidArgumentError(absl::StrCat("token_rate has ", rates, " numbers; this model has ",
                                                   settings_.identity_grids.size(),
                                                   " grids with identity state: give one number, or one for each"));
  }
  const double rate = settings_.token_rate[rates == 1 ? 0 : rank];
  const int64_t keep = std::clamp<int64_t>(std::llround(rate * static_cast<double>(grid.tokens())), 0, grid.tokens());
  return DistinctTokens(StreamKey("tokens", settings_.seed, BytesOf(character.key)),
                        {0, static_cast<uint32_t>(identity_frame), static_cast<uint32_t>(step),
                         static_cast<uint32_t>(grid.height << 16 | grid.width)},
                        grid.tokens(), keep);
}

}  // namespace storyfarm::identity
