#include "pipeline/plan/cost.h"

#include <algorithm>
#include <cmath>

#include "pipeline/plan/vae_cost.h"
#include "pipeline/plan/weight_cost.h"

namespace storyfarm::plan {
namespace {

using farm::v1::DeviceReport;
using farm::v1::Dtype;
using farm::v1::GroupShape;
using farm::v1::MemoryPlan;
using farm::v1::ModelProfile;
using farm::v1::UnetLevel;

constexpr double kTextTokens = 77;  // CLIP's context

// Widths of hidden states alive at once, in multiples of a level's channels, at the widest point of an attention
// without its keys (input, norm, queries, output, residual); of a feed-forward see BackendTraits.
constexpr double kAttentionWidths = 5;
constexpr double kKeyWidths = 3;      // concatenated input, keys, values
constexpr double kKernelWidths = 15;  // of a feed-forward whose gate is a kernel's; see BackendTraits
// Input, its norm, and what a kernel makes of that first: a copy in its own order (oneDNN), or about as much scratch.
constexpr double kResnetWidths = 3;

// Materialised scores: 2 bytes of fp16, 4 of the fp32 that softmax works on, 2 of its result; fp32: 4 and 4.
constexpr double kScoreBytes = 8;

// Page-locked chunks through which weights go to a card (device/copy_lane.cc): 12 of 4 MiB.
constexpr double kStagedBytes = 12 * 4'194'304;

// Identity state read from files and checked, or written to them, likewise.
constexpr double kBankBytesPerSecond = 1.5e9;
// What a write pass holds of its bank beside its queue (identity/bank_writer.h): the three parts that are being
// written, and the one being packed.
constexpr double kPartsInHand = 4;
// A ring of two slots reads one layer while the other is used: time that a hesitating read takes is not made up for.
constexpr uint32_t kShallowRing = 2;
constexpr double kShallowRingStall = 0.05;  // of the shorter of reading and computing
// Measured on an H200, four identity frames and a bank in memory: 7.0 to 7.4 s against 6.0 with a deep queue.
constexpr double kShallowQueueStall = 0.2;  // of the shorter of writing and computing

double LatentWidth(const ModelProfile& model, const GroupShape& shape) {
  return static_cast<double>(shape.width()) / model.vae_scale_factor();
}
double LatentHeight(const ModelProfile& model, const GroupShape& shape) {
  return static_cast<double>(shape.height()) / model.vae_scale_factor();
}

double Tokens(const ModelProfile& model, const GroupShape& shape, const UnetLevel& level) {
  const double downsampling = level.downsampling();
  return std::ceil(LatentWidth(model, shape) / downsampling) * std::ceil(LatentHeight(model, shape) / downsampling);
}

// Token rate of a level's grid: rates count from the smallest grid that has CSA layers.
double TokenRate(const ModelProfile& model, const GroupShape& shape, int level) {
  if (shape.token_rate_size() == 0) return 1.0;
  int grid = 0;
  for (int i = model.levels_size() - 1; i > level; --i) {
    if (model.levels(i).csa_layers() > 0) ++grid;
  }
  return shape.token_rate(std::min(grid, shape.token_rate_size() - 1));
}

// Tokens of other frames that one frame attends to in a CSA layer of this level.
double IdentityTokens(const ModelProfile& model, const GroupShape& shape, int level) {
  if (shape.identity_frames() == 0 || model.levels(level).csa_layers() == 0) return 0;
  const double others = shape.identity_pass() ? shape.identity_frames() - 1 : shape.identity_frames();
  return others * TokenRate(model, shape, level) * Tokens(model, shape, model.levels(level));
}

// Tokens that a layer's entry has: those kept of all identity frames.
double BankTokens(const ModelProfile& model, const GroupShape& shape, int level) {
  if (model.levels(level).csa_layers() == 0) return 0;
  return shape.identity_frames() *
         std::round(TokenRate(model, shape, level) * Tokens(model, shape, model.levels(level)));
}

// Bytes of one layer and guidance half, as stored.
double BankLayerBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan, int level) {
  constexpr double kScaleBytes = 2;
  const double channels = model.levels(level).channels();
  const double token = plan.bank_dtype() == farm::v1::BANK_INT8
                           ? channels + kScaleBytes
                           : channels * static_cast<double>(DtypeBytes(plan.dtype()));
  return BankTokens(model, shape, level) * token;
}

// Keys and values of a prompt in every transformer block, of one pass.
double TextKeyBytes(const ModelProfile& model, const MemoryPlan& plan) {
  double channels = 0;  // of all blocks
  for (int i = 0; i < model.levels_size(); ++i) {
    const UnetLevel& level = model.levels(i);
    const double down = static_cast<double>(level.transformer_layers()) * level.resnets_down();
    const double middle = i + 1 == model.levels_size() ? level.transformer_layers() : 0;
    channels += level.channels() * (down + middle + level.csa_layers());
  }
  return 2 * kTextTokens * channels * static_cast<double>(DtypeBytes(plan.dtype()));
}

// What hooks of a recorded pass hand over, a tensor for each grid.
double SiteBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan) {
  double elements = 0;
  for (int i = 0; i < model.levels_size(); ++i) {
    const UnetLevel& level = model.levels(i);
    if (level.csa_layers() > 0) elements += Tokens(model, shape, level) * level.channels();
  }
  return elements * static_cast<double>(DtypeBytes(plan.dtype()));
}

// What reading or writing the bank beside the UNet adds to its time. `batch_seconds`: of all steps of one batch.
double BankStallSeconds(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape,
                        const MemoryPlan& plan, double batch_seconds) {
  if (plan.bank() == farm::v1::BANK_NONE) return 0;
  const double measured =
      static_cast<double>(shape.identity_pass() ? device.disk_write_bytes_per_s() : device.disk_read_bytes_per_s());
  const double bank_seconds = shape.steps() * static_cast<double>(BankStepBytes(model, shape, plan)) /
                              (measured > 0 ? measured : kBankBytesPerSecond);
  double stall = std::max(0.0, bank_seconds - batch_seconds);
  if (shape.identity_pass()) {
    return stall +
           (plan.ring_layers() <= kShallowQueue ? kShallowQueueStall * std::min(bank_seconds, batch_seconds) : 0);
  }
  if (plan.ring_layers() <= kShallowRing) stall += kShallowRingStall * std::min(bank_seconds, batch_seconds);
  const bool once = plan.bank() == farm::v1::BANK_DEVICE;
  return stall * (once ? 1 : std::ceil(static_cast<double>(shape.frames()) / std::max(1u, plan.batch())));
}

// Skips that down blocks make on a level's grid.
double SkipsOfLevel(const ModelProfile& model, const GroupShape& shape, int index) {
  const UnetLevel& level = model.levels(index);
  // conv_in's output, or the downsampled map of the level above.
  const double first = index == 0 ? level.channels() : model.levels(index - 1).channels();
  return (first + static_cast<double>(level.resnets_down()) * level.channels()) * Tokens(model, shape, level);
}

double SkipElements(const ModelProfile& model, const GroupShape& shape) {
  double elements = 0;
  for (int i = 0; i < model.levels_size(); ++i) elements += SkipsOfLevel(model, shape, i);
  return elements;
}

// Those that lie beside the first resnet of a level's up block, whose input holds one of them.
double SkipsAtUpBlock(const ModelProfile& model, const GroupShape& shape, int index) {
  const UnetLevel& level = model.levels(index);
  double elements = -static_cast<double>(level.channels()) * Tokens(model, shape, level);
  for (int i = 0; i <= index; ++i) elements += SkipsOfLevel(model, shape, i);
  return elements;
}

// Widest input of a level's resnets: an up block's first one sees the level below and a skip.
double WidestResnetInput(const ModelProfile& model, int level) {
  const double own = model.levels(level).channels();
  const double below = level + 1 < model.levels_size() ? model.levels(level + 1).channels() : own;
  return below + own;
}

// Bytes of one pass at the widest point of a level's transformers, skips apart.
double TransformerBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan, int index) {
  const UnetLevel& level = model.levels(index);
  if (level.transformer_layers() == 0) return 0;
  const double element = static_cast<double>(DtypeBytes(plan.dtype()));
  const double tokens = Tokens(model, shape, level);
  const double channels = level.channels();
  const double keys = tokens + IdentityTokens(model, shape, index);
  double attention = (kAttentionWidths * tokens + kKeyWidths * keys) * channels * element;
  if (TraitsOf(plan.backend()).attention_materialises_scores) {
    const double queries = plan.attention_chunk() > 0 ? std::min<double>(plan.attention_chunk(), tokens) : tokens;
    attention += level.heads() * queries * keys * kScoreBytes;
  }
  const BackendTraits traits = TraitsOf(plan.backend());
  const double widths = HasKernels(traits, plan.dtype()) ? kKernelWidths : traits.feed_forward_widths;
  return std::max(widths * channels * tokens * element, attention);
}

// The same of its resnets.
double ResnetBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan, int index) {
  const UnetLevel& level = model.levels(index);
  return (kResnetWidths * WidestResnetInput(model, index) + level.channels()) * Tokens(model, shape, level) *
         static_cast<double>(DtypeBytes(plan.dtype()));
}

// Bytes of one pass at its widest point, beside the skips.
double WidestPointBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan) {
  double widest = 0;
  for (int i = 0; i < model.levels_size(); ++i) {
    widest = std::max({widest, TransformerBytes(model, shape, plan, i), ResnetBytes(model, shape, plan, i)});
  }
  return widest;
}

// And with skips: all of them beside a transformer, as in the middle block; beside a resnet those left at its up block.
double PassBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan) {
  const double element = static_cast<double>(DtypeBytes(plan.dtype()));
  double widest = 0;
  for (int i = 0; i < model.levels_size(); ++i) {
    const double transformers = TransformerBytes(model, shape, plan, i);
    if (transformers > 0) widest = std::max(widest, SkipElements(model, shape) * element + transformers);
    widest = std::max(widest, SkipsAtUpBlock(model, shape, i) * element + ResnetBytes(model, shape, plan, i));
  }
  return widest;
}

// Activations of a write pass whose frames run one at a time, one guidance half after the other: what each frame keeps
// while others run, what they take of each other, and one pass at its widest.
double LockStepBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan) {
  constexpr double kHeldWidths = 3;  // around an attention: the transformer's input, its tokens, their norm
  const double element = static_cast<double>(DtypeBytes(plan.dtype()));
  double held = 0;
  double gathered = 0;
  for (int i = 0; i < model.levels_size(); ++i) {
    const double channels = model.levels(i).channels();
    if (model.levels(i).csa_layers() > 0) {
      held = std::max(held, kHeldWidths * channels * Tokens(model, shape, model.levels(i)));
    }
    gathered = std::max(gathered, channels * BankTokens(model, shape, i));
  }
  return (shape.frames() * (SkipElements(model, shape) + held) + gathered) * element +
         WidestPointBytes(model, shape, plan);
}

double ResnetFlop(double in, double out, double tokens) { return 2.0 * 9 * (in * out + out * out) * tokens; }

// One transformer block: projections of both attentions and of the feed-forward (18 C^2 a token), text keys, scores.
double TransformerFlop(double channels, double tokens, double identity_tokens, double text_width) {
  const double projections = 2 * (18 * channels * channels * tokens + 2 * channels * channels * identity_tokens);
  const double text = 2 * 2 * kTextTokens * text_width * channels + 4 * tokens * kTextTokens * channels;
  return projections + text + 4 * tokens * (tokens + identity_tokens) * channels;
}

double UpResnetsFlop(const ModelProfile& model, int index, double tokens) {
  const UnetLevel& level = model.levels(index);
  const double own = level.channels();
  const double below = index + 1 < model.levels_size() ? model.levels(index + 1).channels() : own;
  const double finer = index > 0 ? model.levels(index - 1).channels() : own;
  double flop = 0;
  for (uint32_t i = 0; i < level.resnets_up(); ++i) {
    const double hidden = i == 0 ? below : own;
    const double skip = i + 1 == level.resnets_up() ? finer : own;
    flop += ResnetFlop(hidden + skip, own, tokens);
  }
  return flop;
}

double LevelFlop(const ModelProfile& model, const GroupShape& shape, int index) {
  const UnetLevel& level = model.levels(index);
  const double tokens = Tokens(model, shape, level);
  const double own = level.channels();
  const double finer = index > 0 ? model.levels(index - 1).channels() : own;
  const bool coarsest = index + 1 == model.levels_size();
  double flop = UpResnetsFlop(model, index, tokens);
  for (uint32_t i = 0; i < level.resnets_down(); ++i) flop += ResnetFlop(i == 0 ? finer : own, own, tokens);
  if (coarsest) flop += 2 * ResnetFlop(own, own, tokens);                                 // middle block
  if (!coarsest) flop += 18 * own * own * tokens / 4;                                     // downsampler
  if (index > 0) flop += 18 * own * own * Tokens(model, shape, model.levels(index - 1));  // upsampler
  const double layers = level.transformer_layers();
  if (layers == 0) return flop;
  const double plain_layers = layers * (level.resnets_down() + (coarsest ? 1.0 : 0.0));
  const double text_width = model.cross_attention_dim();
  flop += plain_layers * TransformerFlop(own, tokens, 0, text_width);
  flop += level.csa_layers() * TransformerFlop(own, tokens, IdentityTokens(model, shape, index), text_width);
  flop += (plain_layers + level.csa_layers()) / layers * 4 * own * own * tokens;  // projections in and out
  return flop;
}

}  // namespace

uint64_t DtypeBytes(Dtype dtype) { return dtype == farm::v1::FP32 ? 4 : 2; }

uint32_t PassesInCall(const GroupShape& shape, const MemoryPlan& plan) {
  const uint32_t halves = shape.guidance() && plan.guidance_batched() ? 2 : 1;
  return plan.batch() * halves;
}

uint64_t BankStepBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan) {
  double bytes = 0;
  for (int i = 0; i < model.levels_size(); ++i) {
    bytes += model.levels(i).csa_layers() * BankLayerBytes(model, shape, plan, i);
  }
  return static_cast<uint64_t>(bytes * (shape.guidance() ? 2 : 1));
}

uint64_t BankHeldBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan) {
  if (plan.bank() == farm::v1::BANK_NONE) return 0;
  double layer = 0;     // of one half, as stored
  double unpacked = 0;  // likewise, as attended to
  for (int i = 0; i < model.levels_size(); ++i) {
    layer = std::max(layer, BankLayerBytes(model, shape, plan, i));
    unpacked = std::max(unpacked, BankTokens(model, shape, i) * model.levels(i).channels() *
                                      static_cast<double>(DtypeBytes(plan.dtype())));
  }
  // CUDA's slots and landings lie in page-locked host memory and on the device.
  const double copies = plan.backend() == farm::v1::CPU ? 1 : 2;
  if (shape.identity_pass()) {
    const double whole = static_cast<double>(BankStepBytes(model, shape, plan)) * shape.steps();
    const double queued = std::min(whole, plan.ring_layers() * layer);
    return static_cast<uint64_t>((queued + kPartsInHand * layer) * copies);
  }
  const double halves = shape.guidance() && plan.guidance_batched() ? 2 : 1;
  double held = plan.ring_layers() * layer * halves * copies;
  if (plan.bank_dtype() == farm::v1::BANK_INT8) held += unpacked * halves;
  if (plan.bank() == farm::v1::BANK_DEVICE) {
    held += static_cast<double>(BankStepBytes(model, shape, plan)) * shape.steps();
  }
  return static_cast<uint64_t>(held);
}

double LargestScoresBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan) {
  if (!TraitsOf(plan.backend()).attention_materialises_scores) return 0;
  constexpr double kElement = 4;  // softmax works on fp32
  const double passes = plan.lock_step() ? 1 : PassesInCall(shape, plan);
  double largest = 0;
  for (int i = 0; i < model.levels_size(); ++i) {
    if (model.levels(i).transformer_layers() == 0) continue;
    const double tokens = Tokens(model, shape, model.levels(i));
    const double queries = plan.attention_chunk() > 0 ? std::min<double>(plan.attention_chunk(), tokens) : tokens;
    const double keys = tokens + IdentityTokens(model, shape, i);
    largest = std::max(largest, passes * model.levels(i).heads() * queries * keys * kElement);
  }
  if (shape.decode() && !VaeIsTiled(model, shape, plan.vae_tile())) {
    const double tokens = LatentWidth(model, shape) * LatentHeight(model, shape);
    largest = std::max(largest, tokens * tokens * kElement);
  }
  return largest;
}

uint64_t PeakBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan) {
  const BackendTraits traits = TraitsOf(plan.backend());
  const double element = static_cast<double>(DtypeBytes(plan.dtype()));
  const double text_weights = shape.text_from_file() ? 0 : model.text_encoder_parameters() * element;
  const double vae_weights =
      shape.decode() ? static_cast<double>(model.vae_parameters()) * DtypeBytes(plan.vae_dtype()) : 0;
  double resident = static_cast<double>(UNetWeightBytes(model, plan)) + vae_weights;
  if (!plan.text_encoders_in_phases()) resident += text_weights;

  const double latents = 4.0 * model.latent_channels() * LatentWidth(model, shape) * LatentHeight(model, shape);
  double unet_phase = latents * 8 * plan.batch();  // latents, noise, both predictions and the scheduler's history, fp32
  const double passes = PassesInCall(shape, plan);
  const double activations = plan.lock_step() ? LockStepBytes(model, shape, plan)
                                              : std::max(passes, traits.fewest_passes) * PassBytes(model, shape, plan);
  unet_phase += activations;
  // A writer is done with its bank before pictures are decoded; readers keep their ring for the next batch.
  const auto bank = static_cast<double>(BankHeldBytes(model, shape, plan));
  (shape.identity_pass() ? unet_phase : resident) += bank;
  unet_phase += static_cast<double>(UnpackedBytes(model, plan));
  // The ring of streamed weights is given back before the VAE runs.
  if (plan.weights() == farm::v1::STREAMED) {
    unet_phase += static_cast<double>(plan.weight_buffer_bytes());
    // Beside the ring, on a card: a block on its way into another order, and the host's page-locked chunks.
    if (plan.backend() == farm::v1::CUDA) {
      unet_phase += static_cast<double>(model.largest_block_parameters() * DtypeBytes(plan.dtype())) + kStagedBytes;
    }
  }
  double vae_phase = 0;
  if (shape.decode()) {
    uint64_t beside = traits.tiled_vae_bytes;
    if (!VaeIsTiled(model, shape, plan.vae_tile())) {
      const bool reads = plan.bank() != farm::v1::BANK_NONE && !shape.identity_pass();
      beside = traits.vae_workspace_bytes + (reads ? plan.batch() * traits.vae_after_reading_bytes : 0);
    }
    vae_phase = VaeDecodeBytes(model, shape, plan, traits) + static_cast<double>(beside);
  }

  double peak = resident + std::max(unet_phase, vae_phase);
  if (plan.graphs()) {
    // What was recorded stays taken, beside the calls that are made without it: the first one, and the one that it is
    // compared with.
    unet_phase += passes * (TextKeyBytes(model, plan) + SiteBytes(model, shape, plan));
    peak = resident + unet_phase + std::max(activations, vae_phase);
  }
  peak += static_cast<double>(traits.framework_bytes + traits.workspace_bytes);
  if (plan.weights() != farm::v1::STREAMED) peak += static_cast<double>(traits.idle_bytes);
  // Text encoders in phases come and go before the UNet's weights arrive.
  const uint64_t text_phase = plan.text_encoders_in_phases() ? TextPhaseBytes(model, plan) : 0;
  return std::max(static_cast<uint64_t>(peak), text_phase);
}

uint64_t TextPhaseBytes(const ModelProfile& model, const MemoryPlan& plan) {
  constexpr double kTextsAtOnce = 8;  // render/loaded_model.h
  constexpr double kWidths = 12;      // of both encoders' embeddings: a feed-forward's inner states, and around them
  const BackendTraits traits = TraitsOf(plan.backend());
  const double element = static_cast<double>(DtypeBytes(plan.dtype()));
  const double activations = kTextsAtOnce * kTextTokens * kWidths * model.cross_attention_dim() * element;
  const double peak = model.text_encoder_parameters() * element + activations;
  return traits.framework_bytes + traits.text_workspace_bytes + static_cast<uint64_t>(peak);
}

double UNetTflop(const ModelProfile& model, const GroupShape& shape) {
  double flop = 0;
  for (int i = 0; i < model.levels_size(); ++i) flop += LevelFlop(model, shape, i);
  if (model.levels_size() > 0) {
    flop += 2 * 18.0 * model.latent_channels() * model.levels(0).channels() * Tokens(model, shape, model.levels(0));
  }
  return flop * 1e-12;
}

Pace PaceOf(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape, const MemoryPlan& plan) {
  const BackendTraits traits = TraitsOf(plan.backend());
  Pace pace;
  pace.tflops = device.speed_tflops() > 0 ? device.speed_tflops() : kAssumedTflops;
  if (plan.threads() > 0 && device.threads() > plan.threads()) {
    pace.tflops *= static_cast<double>(plan.threads()) / device.threads();
  }
  pace.tflops *= traits.efficiency;
  const double frames = shape.frames();
  const double batches = std::ceil(frames / std::max(1u, plan.batch()));
  const double halves = shape.guidance() ? 2 : 1;
  pace.sweeps = batches * shape.steps() * (plan.guidance_batched() ? 1 : halves);
  pace.calls = pace.sweeps * (plan.lock_step() ? frames : 1);
  const double work = UNetTflop(model, shape) * frames * shape.steps() * halves;
  double call_seconds = work / std::max(1.0, pace.calls) / pace.tflops;
  if (!plan.graphs()) call_seconds = std::max(traits.launch_seconds, call_seconds + traits.gap_seconds);
  double seconds = pace.calls * (traits.call_seconds + call_seconds);
  if (plan.attention_chunk() > 0) seconds *= 1.05;  // more, smaller kernels
  pace.sweep_seconds = seconds / std::max(1.0, pace.sweeps);
  seconds += BankStallSeconds(model, device, shape, plan, seconds / batches);
  if (shape.decode()) {
    const double width = DtypeBytes(plan.vae_dtype()) == DtypeBytes(plan.dtype()) ? 1 : 4;  // fp32 without tensor cores
    seconds += frames * (traits.call_seconds + VaeDecodeTflop(model, shape, plan.vae_tile()) * width / pace.tflops);
  }
  if (plan.text_encoders_in_phases()) {
    const double rate = device.host_to_device_bytes_per_s() > 0
                            ? std::min<double>(kReloadBytesPerSecond, device.host_to_device_bytes_per_s())
                            : kReloadBytesPerSecond;
    seconds += (model.text_encoder_parameters() + model.unet_parameters()) * DtypeBytes(plan.dtype()) / rate;
  }
  pace.seconds = seconds;
  return pace;
}

double GroupSeconds(const ModelProfile& model, const DeviceReport& device, const MemoryPlan& plan, const Pace& pace) {
  return pace.seconds + pace.calls * UnpackTflop(model, plan) / pace.tflops +
         pace.sweeps * StreamSeconds(model, device, plan, pace.sweep_seconds);
}

double GroupSeconds(const ModelProfile& model, const DeviceReport& device, const GroupShape& shape,
                    const MemoryPlan& plan) {
  return GroupSeconds(model, device, plan, PaceOf(model, device, shape, plan));
}

}  // namespace storyfarm::plan
