// The draws of one run: the project's own or a replayed file's, written down where that was asked for.
#ifndef STORYFARM_PIPELINE_RENDER_RUN_DRAWS_H_
#define STORYFARM_PIPELINE_RENDER_RUN_DRAWS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/identity/draws_file.h"
#include "pipeline/render/request.h"
#include "pipeline/sdxl/attention.h"

namespace storyfarm::render {

class RunDraws {
 public:
  // `shape`: of the run's first frame; of all frames in a write pass, whose grids token rates count.
  static absl::StatusOr<std::unique_ptr<RunDraws>> Open(base::Env& env, const Draws& draws, const Settings& settings,
                                                        const std::vector<sdxl::SelfAttentionLayer>& layers,
                                                        identity::LatentShape shape);

  // What passes ask.
  identity::DrawSource* source();
  // Of a write pass: a replayed file must agree, a saved one will say so.
  absl::Status CheckIdentityPanels(int character, const std::vector<Frame>& frames);
  // Once the run has succeeded.
  absl::Status Save() const;

 private:
  RunDraws(base::Env& env, std::string save_path) : env_(env), save_path_(std::move(save_path)) {}

  base::Env& env_;
  std::string save_path_;
  identity::DrawsHeader header_;
  std::unique_ptr<identity::DrawSource> made_;           // the project's own, or the replayed file
  identity::DrawsFile* replayed_ = nullptr;              // `made_`, where it is a file
  std::unique_ptr<identity::RecordingDraws> recording_;  // null: not saved
};

}  // namespace storyfarm::render

#endif  // STORYFARM_PIPELINE_RENDER_RUN_DRAWS_H_
