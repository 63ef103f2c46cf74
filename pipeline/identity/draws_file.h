// Draws as a file: "story-draws", version 1, safetensors. Replaying a recorded run gives identical latents.
//
//   noise/{p}  noise/id/{c}/{i}          F32 [latent channels, h, w]   initial noise; hidden identity frames
//   step_noise/{p}/{s}                   F32 the same                  ancestral samplers only
//   step_noise/id/{c}/{i}/{s}            F32 the same                  the same for hidden identity frames
//   gate/id/{c}  gate/frame/{p}          U8  [steps, layers]           1: attends to identity state
//   tokens/{c}/{s}/{h}x{w}/{i}           I32 [n], n may be 0           ascending row-major token numbers
// {p} panel, {c} character, {i} identity frame, {s} step, all from 0. Metadata: format, version, panels, steps, height,
// width; as JSON characters, id_panels ({"c": [panels]}), layers. n may differ between entries.
#ifndef STORYFARM_PIPELINE_IDENTITY_DRAWS_FILE_H_
#define STORYFARM_PIPELINE_IDENTITY_DRAWS_FILE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/identity/draws.h"
#include "pipeline/model/safetensors.h"

namespace storyfarm::identity {

// What a draws file says of the run as a whole.
struct DrawsHeader {
  int panels = 0;
  int64_t steps = 0;
  int height = 0, width = 0;                        // pixels, the story's
  std::vector<std::string> characters;              // names, in order of definition
  std::map<int, std::vector<int>> identity_panels;  // by character: identity frames that are panels
  std::vector<std::string> layers;                  // names, in execution order
};

// Replays a file. Every answer is checked: type, shape, range and order; INVALID_ARGUMENT names the file and the entry.
class DrawsFile final : public DrawSource {
 public:
  // DATA_LOSS or INVALID_ARGUMENT: not a draws file of version 1, or a header that is not whole.
  static absl::StatusOr<std::unique_ptr<DrawsFile>> Open(const std::string& path);

  const DrawsHeader& header() const { return header_; }
  // INVALID_ARGUMENT where the file was made for other steps or layers than the run's.
  absl::Status CheckFits(int64_t steps, const std::vector<std::string>& layers) const;
  // INVALID_ARGUMENT where it was made with other identity frames. `panels`: those that are panels.
  absl::Status CheckIdentityPanels(int character, const std::vector<int>& panels) const;

  absl::StatusOr<std::vector<float>> Noise(const FrameName& frame, LatentShape shape) override;
  absl::StatusOr<std::vector<float>> StepNoise(const FrameName& frame, int step, LatentShape shape) override;
  absl::StatusOr<GateTable> IdentityGates(const CharacterName& character) override;
  absl::StatusOr<GateTable> FrameGates(const FrameName& frame) override;
  absl::StatusOr<std::vector<int32_t>> Tokens(const CharacterName& character, int step, Grid grid,
                                              int identity_frame) override;
  bool gates_may_differ() const override { return true; }

 private:
  explicit DrawsFile(std::shared_ptr<const model::SafetensorsFile> file) : file_(std::move(file)) {}
  absl::Status ReadHeader();
  // The entry, of this type and shape.
  absl::StatusOr<const model::TensorInfo*> Entry(const std::string& key, model::TensorType type,
                                                 const std::vector<int64_t>& shape) const;
  absl::StatusOr<std::vector<float>> Floats(const std::string& key, LatentShape shape) const;
  absl::StatusOr<GateTable> Gates(const std::string& key) const;
  absl::Status Wrong(const std::string& key, const std::string& what) const;

  std::shared_ptr<const model::SafetensorsFile> file_;
  DrawsHeader header_;
};

// Passes another source's answers on and remembers them.
class RecordingDraws final : public DrawSource {
 public:
  // `source` outlives this.
  explicit RecordingDraws(DrawSource* source) : source_(source) {}

  absl::StatusOr<std::vector<float>> Noise(const FrameName& frame, LatentShape shape) override;
  absl::StatusOr<std::vector<float>> StepNoise(const FrameName& frame, int step, LatentShape shape) override;
  absl::StatusOr<GateTable> IdentityGates(const CharacterName& character) override;
  absl::StatusOr<GateTable> FrameGates(const FrameName& frame) override;
  absl::StatusOr<std::vector<int32_t>> Tokens(const CharacterName& character, int step, Grid grid,
                                              int identity_frame) override;
  bool gates_may_differ() const override { return source_->gates_may_differ(); }

  // Writes what was answered so far, merged with what `path` already holds: entries of the same key are replaced,
  // identity panels are joined. INVALID_ARGUMENT where the file there belongs to another story or is no draws file.
  // Durable once OK. One writer a file at a time.
  absl::Status Save(base::Env& env, const std::string& path, const DrawsHeader& header) const;

 private:
  struct Recorded {
    model::TensorType type;
    std::vector<int64_t> shape;
    std::string bytes;
  };
  template <typename T>
  void Record(const std::string& key, model::TensorType type, std::vector<int64_t> shape, const std::vector<T>& values);

  DrawSource* source_;
  std::map<std::string, Recorded> recorded_;
};

}  // namespace storyfarm::identity

#endif  // STORYFARM_PIPELINE_IDENTITY_DRAWS_FILE_H_
