// SDXL on libtorch's tensors, from scratch: what a denoising loop needs to turn prompts into pictures.
//
// For pipeline/identity, which plugs consistent self-attention into the UNet (attention.h), and pipeline/render, which
// runs the loop. A model is a diffusers directory; every shape follows from its config.json files.
//
//   token ids --> ClipTextModel x 2 --> Prompt embeddings ----+
//                 (text_encoder.h)                            v
//   noise --> latents --> [ UNet (unet.h) <--> SelfAttentionHook ] --> noise prediction --> scheduler.h --+
//                ^                                                                                        |
//                +----------------------------------------------------------------------------------------+
//   final latents --> Vae (vae.h) --> image --> ToRgb8
//
// Weights (weights.h) brings a component's tensors from its files; a missing, surplus or mis-shaped tensor is an error.
//
// Errors: loading returns absl::Status. Forward, Encode and Decode may throw c10::Error (out of memory, for the most
// part): pipeline/render, the door of everything that links torch, catches it. All of them run under
// c10::InferenceMode, so nothing records gradients.
// Threads: a loaded component may be read by one thread at a time.
#ifndef STORYFARM_PIPELINE_SDXL_SDXL_H_
#define STORYFARM_PIPELINE_SDXL_SDXL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "pipeline/model/model_folder.h"
#include "pipeline/sdxl/text_encoder.h"
#include "pipeline/sdxl/unet.h"
#include "pipeline/sdxl/vae.h"
#include "pipeline/sdxl/vae_encoder.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

// The parts of one model, each loaded on its own so that text encoders can leave the device before the UNet comes.
// NOT_FOUND, INVALID_ARGUMENT or DATA_LOSS with a message that names the file, the tensor and what to do.
absl::StatusOr<std::unique_ptr<TextEncoders>> LoadTextEncoders(const model::ModelFolder& folder, Placement placement);
absl::StatusOr<std::unique_ptr<UNet>> LoadUNet(const model::ModelFolder& folder, Placement placement);
// Where the config says force_upcast, `placement.dtype` float16 becomes float32: SDXL's VAE overflows in float16.
absl::StatusOr<std::unique_ptr<Vae>> LoadVae(const model::ModelFolder& folder, Placement placement);
absl::StatusOr<std::unique_ptr<VaeEncoder>> LoadVaeEncoder(const model::ModelFolder& folder, Placement placement);

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_SDXL_H_
