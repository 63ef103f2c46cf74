// What decoding a picture costs, whole and in tiles: the arithmetic of sdxl/vae_decoder.h. Internal to this folder.
#ifndef STORYFARM_PIPELINE_PLAN_VAE_COST_H_
#define STORYFARM_PIPELINE_PLAN_VAE_COST_H_

#include <cstdint>

#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"
#include "pipeline/plan/cost.h"

namespace storyfarm::plan {

// Whether the plan decodes pictures of this size in tiles.
bool VaeIsTiled(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape, uint32_t tile);

// Bytes alive at the widest point of decoding one picture, its pixels included, the VAE's weights not.
double VaeDecodeBytes(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape,
                      const farm::v1::MemoryPlan& plan, const BackendTraits& backend);

// TFLOP of decoding one picture; `tile`: latents an edge, 0: whole. In tiles, each group norm costs a sweep, and tiles
// overlap by what their convolutions see beyond them.
double VaeDecodeTflop(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape, uint32_t tile = 0);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_VAE_COST_H_
