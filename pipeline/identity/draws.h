// Every random draw of a run, by name: noise, gates and kept tokens.
//
// A run is a function of story, settings, weights and its draws. PhiloxDraws makes the project's own (philox.h);
// DrawsFile replays a recorded run; RecordingDraws writes one down. All three are a DrawSource, so that a pass does not
// know which it has.
#ifndef STORYFARM_PIPELINE_IDENTITY_DRAWS_H_
#define STORYFARM_PIPELINE_IDENTITY_DRAWS_H_

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace storyfarm::identity {

// Seed of all gates. It belongs to the method's version and not to a story, so that a bank whose closed entries were
// left out can be read by any story's frames.
inline constexpr uint64_t kGateSeed = 1;

using CharacterKey = std::array<uint8_t, 16>;

struct CharacterName {
  int number = 0;  // in order of definition, from 0: names entries of draws files
  CharacterKey key{};
};

// What a frame's draws are keyed by.
struct FrameName {
  int panel = 0;   // in story order, from 0: names entries of draws files; unused where hidden
  std::string id;  // Panel.id
  uint64_t seed = 0;
  bool hidden = false;      // an identity frame that is no panel
  int identity_frame = -1;  // its number among its character's identity frames; -1: a read frame
  CharacterName character;  // of an identity frame
};

struct Grid {
  int64_t height = 0, width = 0;  // tokens
  int64_t tokens() const { return height * width; }
  friend auto operator<=>(const Grid&, const Grid&) = default;
};

struct LatentShape {
  int64_t channels = 0, height = 0, width = 0;
  int64_t elements() const { return channels * height * width; }
};

// Whether each layer of each step attends to identity state.
struct GateTable {
  int64_t steps = 0, layers = 0;
  std::vector<uint8_t> open;  // [steps, layers], 0 or 1
  bool Open(int64_t step, int64_t layer) const { return open[step * layers + layer] != 0; }
};

class DrawSource {
 public:
  virtual ~DrawSource() = default;
  // N(0, 1), [channels, height, width] row-major.
  virtual absl::StatusOr<std::vector<float>> Noise(const FrameName& frame, LatentShape shape) = 0;
  // The same for a step of an ancestral sampler.
  virtual absl::StatusOr<std::vector<float>> StepNoise(const FrameName& frame, int step, LatentShape shape) = 0;
  // Of a character's write pass, and of a panel's read pass.
  virtual absl::StatusOr<GateTable> IdentityGates(const CharacterName& character) = 0;
  virtual absl::StatusOr<GateTable> FrameGates(const FrameName& frame) = 0;
  // Row-major token numbers kept of identity frame `identity_frame` at a step, ascending, in every layer of that grid.
  virtual absl::StatusOr<std::vector<int32_t>> Tokens(const CharacterName& character, int step, Grid grid,
                                                      int identity_frame) = 0;
  // Whether a reader's gate may be open where the writer's is closed: then a bank keeps every entry.
  virtual bool gates_may_differ() const = 0;
};

// When a (step, layer) attends to identity state.
struct GateRule {
  double before = 0.3;             // open iff u > before, in steps from 1 up to the switch
  double after = 0.1;              // open iff u > after, from the switch on
  std::optional<int> switch_step;  // absent: switch_fraction counts
  double switch_fraction = 0.4;    // of the steps
};

enum class NoiseKind {
  kPanel,   // noise of its own for each panel
  kShared,  // identity frame i of every character starts alike, all read frames start as identity frame 0
};

struct DrawSettings {
  uint64_t seed = 0;  // the story's: keys tokens
  int64_t steps = 0;
  int64_t layers = 0;  // UNet::self_attention_layers
  GateRule gate;
  NoiseKind noise = NoiseKind::kPanel;
  std::vector<double> token_rate;  // (0, 1]; one number, or one per grid from the smallest grid up
  // Grids of the identity pass, from the smallest up: which token_rate counts.
  std::vector<Grid> identity_grids;
};

// The project's own draws. Its answers never fail but for a token_rate of the wrong length.
class PhiloxDraws final : public DrawSource {
 public:
  explicit PhiloxDraws(DrawSettings settings) : settings_(std::move(settings)) {}
  absl::StatusOr<std::vector<float>> Noise(const FrameName& frame, LatentShape shape) override;
  absl::StatusOr<std::vector<float>> StepNoise(const FrameName& frame, int step, LatentShape shape) override;
  absl::StatusOr<GateTable> IdentityGates(const CharacterName& character) override;
  absl::StatusOr<GateTable> FrameGates(const FrameName& frame) override;
  // Exactly round(rate x N) of N tokens (halves away from zero).
  absl::StatusOr<std::vector<int32_t>> Tokens(const CharacterName& character, int step, Grid grid,
                                              int identity_frame) override;
  bool gates_may_differ() const override { return false; }

 private:
  DrawSettings settings_;
};

// The gates of kGateSeed under a rule: the same for every pass of every story.
GateTable GatesOf(const GateRule& rule, int64_t steps, int64_t layers);

}  // namespace storyfarm::identity

#endif  // STORYFARM_PIPELINE_IDENTITY_DRAWS_H_
