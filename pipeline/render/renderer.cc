#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/env.h"
#include "pipeline/device/device.h"
#include "pipeline/device/landing.h"
#include "pipeline/identity/draws_file.h"
#include "pipeline/identity/identity.h"
#include "pipeline/render/banks.h"
#include "pipeline/render/denoise.h"
#include "pipeline/render/loaded_model.h"
#include "pipeline/render/request.h"
#include "pipeline/render/run_draws.h"
#include "pipeline/render/text_file.h"
#include "pipeline/render/torch_error.h"

namespace storyfarm::render {
namespace {

constexpr int kMaxEdgePixels = 16'384;  // as pages/PNG readers allow; also keeps every product within 64 bits

double MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

absl::Status CheckFrames(const std::vector<Frame>& frames, int64_t pixels_per_latent) {
  if (frames.empty()) return Fail(FailureKind::kBadInput, "no frames to render");
  for (const Frame& frame : frames) {
    for (const int edge : {frame.width, frame.height}) {
      if (edge >= 1 && edge <= kMaxEdgePixels && edge % pixels_per_latent == 0) continue;
      return Fail(FailureKind::kBadInput, absl::StrCat(FrameText(frame), " is ", frame.width, " x ", frame.height,
                                                       " pixels; width and height must be multiples of ",
                                                       pixels_per_latent, " up to ", kMaxEdgePixels));
    }
  }
  return absl::OkStatus();
}

class LetGo {
 public:
  explicit LetGo(const std::function<void()>& call) : call_(call) {}
  ~LetGo() {
    if (call_) call_();
  }
  LetGo(const LetGo&) = delete;
  LetGo& operator=(const LetGo&) = delete;

 private:
  const std::function<void()>& call_;
};

class TorchRenderer final : public Renderer {
 public:
  TorchRenderer(std::unique_ptr<device::Device> device, int threads)
      : env_(base::Env::Real()), device_(std::move(device)), landings_(device_->NewLandings()), threads_(threads) {}

  device::Report Report(bool measure_speed) override { return device_->Describe(measure_speed); }
  device::Memory MemoryNow() override { return device_->MemoryNow(); }

  absl::StatusOr<RunStats> RenderIdentity(const IdentityRequest& request, Observer& observer) override {
    return Guarded([&] { return Identity(request, observer); });
  }
  absl::StatusOr<RunStats> RenderFrames(const FramesRequest& request, Observer& observer) override {
    return Guarded([&] { return Frames(request, observer); });
  }
  absl::StatusOr<RunStats> EncodeTexts(const TextRequest& request, Observer& observer) override {
    return Guarded([&] { return Texts(request, observer); });
  }

 private:
  // Everything that one run needs, whichever kind it is.
  struct Run {
    const Settings& settings;
    const Plan& plan;
    sdxl::UNet* unet = nullptr;
    sdxl::Vae* vae = nullptr;
    std::vector<FramePrompts> prompts;
    std::unique_ptr<RunDraws> draws;
    identity::WritePass* lock_step = nullptr;  // DenoiseOptions::lock_step
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
    double load_ms = 0;

    bool guidance() const { return UsesGuidance(settings.guidance_scale); }
    int64_t halves() const { return guidance() ? 2 : 1; }
  };

  // Torch's exceptions end here.
  template <typename Work>
  absl::StatusOr<RunStats> Guarded(const Work& work) {
    std::optional<TorchError> error;
    try {
      const c10::InferenceMode inference;
      return work();
    } catch (const std::exception& thrown) {
      error = ReadTorchError(thrown);
    }
    // Outside the handler, where what the exception kept alive is gone.
    if (!error->out_of_memory) return Fail(FailureKind::kInternal, "libtorch: " + error->message);
    const device::Memory now = device_->MemoryNow();
    Drain();
    model_.reset();  // the next run starts from an empty device
    last_plan_.reset();
    device_->EmptyCache();
    return OutOfMemory(*error, device_->torch_device().str(), now);
  }

  // Before memory is given back that kernels may still use. What they failed with was told already.
  void Drain() {
    try {
      device_->Synchronize();
    } catch (const std::exception&) {
    }
  }

  // `encodes`: the run may need text encoders; else none stay.
  absl::Status OpenModel(const std::string& folder, const Plan& plan, bool encodes) {
    at::set_num_threads(plan.threads > 0 ? plan.threads : threads_);
    // A run that ended early left work behind, whose memory may go now.
    device_->Synchronize();
    if (model_ == nullptr || !model_->Is(folder, plan.dtype, plan.vae_dtype)) {
      last_plan_.reset();
      model_.reset();
      device_->EmptyCache();
      auto model = LoadedModel::Open(env_, folder, plan.dtype, plan.vae_dtype, device_->torch_device());
      if (!model.ok()) return model.status();
      model_ = *std::move(model);
    }
    model_->KeepWeights(plan.int8_weights, plan.stream);
    device_->KeepIdleBlocks(!plan.stream);
    // What was recorded for other pictures is no part of a plan that records nothing, one for texts among them.
    if (!plan.graphs) model_->ForgetRecordings();
    // What earlier runs left between live blocks would count as this one's, where it is not what this one takes anyhow.
    const bool released = !encodes && model_->ReleaseTextEncoders();
    if (released || last_plan_ != plan) device_->EmptyCache();
    last_plan_ = plan;
    landings_ = device_->NewLandings();  // with the buffers of other sizes that earlier runs landed in
    device_->ResetPeak();
    const absl::Status capped = device_->Cap(plan.cap_bytes > 0 ? plan.cap_bytes : device_->MemoryNow().total_bytes);
    return absl::IsUnimplemented(capped) ? absl::OkStatus() : capped;
  }

  // Around the encoding of prompts, as a plan has it.
  void MakeRoomForText(const Plan& plan) {
    if (!plan.text_encoders_in_phases) return;
    model_->ReleaseForText();
    device_->EmptyCache();
  }
  void LeaveText(const Plan& plan) {
    if (plan.text_encoders_in_phases && model_->ReleaseTextEncoders()) device_->EmptyCache();
  }

  absl::StatusOr<Run> Prepare(const std::string& folder, const Settings& settings, const Plan& plan,
                              const std::vector<Frame>& frames, const TextFiles& text, const Draws& draws) {
    if (absl::Status opened = OpenModel(folder, plan, /*encodes=*/text.files.empty()); !opened.ok()) return opened;
    Run run{settings, plan};
    if (const absl::Status status = CheckFrames(frames, model_->pixels_per_latent()); !status.ok()) return status;
    std::optional<TextReader> reader;
    if (!text.files.empty()) {
      absl::StatusOr<TextReader> opened = TextReader::Open(env_, text);
      if (!opened.ok()) return opened.status();
      reader = *std::move(opened);
    }
    if (!reader) MakeRoomForText(plan);
    auto prompts = model_->EncodePrompts(frames, run.guidance(), reader ? &*reader : nullptr);
    if (!prompts.ok()) return prompts.status();
    run.prompts = *std::move(prompts);
    LeaveText(plan);

    auto unet = model_->UNet();
    if (!unet.ok()) return unet.status();
    run.unet = *unet;
    auto vae = model_->Vae();
    if (!vae.ok()) return vae.status();
    run.vae = *vae;
    const auto& freeu = settings.freeu;
    run.unet->set_freeu(freeu ? std::optional(sdxl::FreeU{freeu->s1, freeu->s2, freeu->b1, freeu->b2}) : std::nullopt);
    run.unet->set_attention_chunk(plan.attention_chunk);
    run.unet->UseGraphs(plan.graphs);
    auto opened = RunDraws::Open(env_, draws, settings, run.unet->self_attention_layers(), Shape(frames[0]));
    if (!opened.ok()) return opened.status();
    run.draws = *std::move(opened);
    run.load_ms = model_->TakeLoadMs();
    if (run.load_ms > 0) device_->EmptyCache();  // what loading left between the weights
    return run;
  }

  identity::LatentShape Shape(const Frame& frame) const {
    const int64_t factor = model_->pixels_per_latent();
    return {model_->latent_channels(), frame.height / factor, frame.width / factor};
  }

  absl::StatusOr<std::unique_ptr<sdxl::Scheduler>> NewScheduler(const Settings& settings) const {
    return sdxl::Scheduler::Create(ToSampler(settings.sampler), model_->scheduler(), settings.scheduler_config,
                                   settings.steps);
  }

  DenoiseOptions OptionsOf(const Run& run, const Frame& frame) const {
    return {run.settings.guidance_scale, run.plan.guidance_batched, Shape(frame), run.lock_step};
  }

  absl::StatusOr<RunStats> Identity(const IdentityRequest& request, Observer& observer) {
    for (const Frame& frame : request.frames) {
      if (frame.width != request.frames[0].width || frame.height != request.frames[0].height) {
        return Fail(FailureKind::kBadInput, "identity frames of one character must have one size");
      }
    }
    absl::StatusOr<Run> run =
        Prepare(request.model_folder, request.settings, request.plan, request.frames, request.text, request.draws);
    if (!run.ok()) return run.status();
    const identity::CharacterName character{request.character, request.character_key};
    if (const auto status = run->draws->CheckIdentityPanels(request.character, request.frames); !status.ok()) {
      return status;
    }
    const identity::LatentShape shape = Shape(request.frames[0]);
    const identity::BankElement element = request.plan.bank_dtype == BankDtype::kInt8
                                              ? identity::BankElement::kInt8
                                              : identity::ElementOf(TorchType(request.plan.dtype));
    std::optional<identity::BankWriter> writer;
    if (request.keep_bank) {
      writer.emplace(env_, request.output_folder,
                     OriginOf(request.settings, request.model_name, request.character_key,
                              static_cast<int>(request.frames.size())),
                     run->halves(), element, static_cast<uint64_t>(std::max(2, request.plan.ring_layers)),
                     /*durable=*/!request.scratch);
    }
    auto pass = identity::WritePass::Create(
        {.character = character,
         .identity_frames = static_cast<int64_t>(request.frames.size()),
         .grids = identity::GridsOf(run->unet->self_attention_layers(), shape.height, shape.width),
         .writer = writer ? &*writer : nullptr,
         .landings = landings_.get(),
         .element = element},
        run->draws->source(), device_->torch_device());
    if (!pass.ok()) return pass.status();
    if (request.plan.lock_step) run->lock_step = pass->get();

    std::vector<BatchFrame> batch;
    std::vector<const Frame*> frames;
    for (size_t i = 0; i < request.frames.size(); ++i) {
      const Frame& frame = request.frames[i];
      frames.push_back(&frame);
      batch.push_back({&frame,
                       {frame.panel, frame.id, frame.seed, frame.hidden, static_cast<int>(i), character},
                       &run->prompts[i]});
    }
    std::deque<identity::BankWriter::StoredStep> stored;
    const auto after_step = [&](int finished, const at::Tensor&) -> absl::Status {
      if (const auto status = observer.OnStep(frames, finished, request.settings.steps); !status.ok()) return status;
      if (!writer) return absl::OkStatus();
      if (const auto status = writer->EndStep(); !status.ok()) return BankFailure(status);
      // Writing may lag behind computing, but not behind the frames' own end.
      const bool last = finished == request.settings.steps;
      // The numbers of all steps but the newest are known to be finite; at the end the last one's are, too.
      return TellStored(*writer, /*wait=*/last, /*below=*/last ? finished : finished - 1, stored, observer);
    };
    if (const auto status = RenderBatch(*run, batch, frames, pass->get(), after_step, observer); !status.ok()) {
      return status;
    }
    return FinishRun(*run);
  }

  absl::StatusOr<RunStats> Texts(const TextRequest& request, Observer& observer) {
    const auto start = std::chrono::steady_clock::now();
    if (absl::Status opened = OpenModel(request.model_folder, request.plan, /*encodes=*/true); !opened.ok())
      return opened;
    MakeRoomForText(request.plan);
    TextEmbeddings embeddings;
    const absl::Span<const std::string> texts = request.texts;
    const auto steps = static_cast<int>(texts.size());
    for (size_t done = 0; done < texts.size(); done += LoadedModel::kTextsAtOnce) {
      const auto some = texts.subspan(done, LoadedModel::kTextsAtOnce);
      auto encoded = model_->EncodeTexts(some);
      if (!encoded.ok()) return encoded.status();
      for (size_t i = 0; i < some.size(); ++i) {
        sdxl::PromptEmbeds& embeds = (*encoded)[i];
        if (!embeds.embeds.isfinite().all().item<bool>() || !embeds.pooled.isfinite().all().item<bool>()) {
          return Fail(FailureKind::kInvalidOutput,
                      absl::StrCat("the embeddings of \"", some[i].substr(0, 100),
                                   "\" are not finite: the model overflows in this number format, or its weights are "
                                   "damaged"));
        }
        embeddings[some[i]] = std::move(embeds);
      }
      const auto status = observer.OnStep({}, static_cast<int>(done + some.size()), steps);
      if (!status.ok()) return status;
    }
    const device::Memory memory = device_->MemoryNow();
    // Where the plan keeps them they are there for the next prompts; a run that needs none lets them go.
    LeaveText(request.plan);
    if (const auto status = WriteTextFile(env_, request.output_path, request.encoders, embeddings); !status.ok()) {
      return absl::IsResourceExhausted(status) ? Fail(FailureKind::kDiskFull, std::string(status.message())) : status;
    }
    return RunStats{MillisecondsSince(start), model_->TakeLoadMs(), memory.peak_bytes, memory.overhead_bytes};
  }

  // `untold`: what was stored and not told yet.
  static absl::Status TellStored(identity::BankWriter& writer, bool wait, int below,
                                 std::deque<identity::BankWriter::StoredStep>& untold, Observer& observer) {
    auto stored = writer.TakeStored(wait);
    if (!stored.ok()) return BankFailure(stored.status());
    untold.insert(untold.end(), stored->begin(), stored->end());
    for (; !untold.empty() && untold.front().step < below; untold.pop_front()) {
      const identity::BankWriter::StoredStep& step = untold.front();
      if (const absl::Status status = observer.OnBankStep(step.step, step.path); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<RunStats> Frames(const FramesRequest& request, Observer& observer) {
    absl::StatusOr<Run> run =
        Prepare(request.model_folder, request.settings, request.plan, request.frames, request.text, request.draws);
    if (!run.ok()) return run.status();
    std::map<int, std::unique_ptr<identity::BankReader>> banks;
    // Declared after the readers, whose threads end with them: whoever waits for a writer is let go first.
    const LetGo let_go(request.let_go);
    for (const BankFiles& files : request.banks) {
      if (!files.path_of && files.steps.size() != static_cast<size_t>(request.settings.steps)) {
        return Fail(FailureKind::kBadInput,
                    absl::StrCat("the bank of character ", files.character, " has ", files.steps.size(),
                                 " steps, the story's settings say ", request.settings.steps));
      }
      banks[files.character] = std::make_unique<identity::BankReader>(env_, *device_, ReaderOf(*run, request, files));
    }
    const size_t most = static_cast<size_t>(std::max(1, request.plan.batch));
    for (size_t first = 0; first < request.frames.size();) {
      size_t end = first + 1;
      while (end < request.frames.size() && end - first < most &&
             request.frames[end].width == request.frames[first].width &&
             request.frames[end].height == request.frames[first].height) {
        ++end;
      }
      if (const auto status = ReadBatch(*run, request, first, end, banks, observer); !status.ok()) return status;
      first = end;
    }
    return FinishRun(*run);
  }

  static identity::BankReader::Options ReaderOf(const Run& run, const FramesRequest& request, const BankFiles& files) {
    identity::BankReader::Options options{
        .origin = OriginOf(request.settings, request.model_name, files.character_key, files.identity_frames),
        .path_of = files.path_of
                       ? identity::ChunkPath([of = files.path_of](int64_t step) { return of(static_cast<int>(step)); })
                       : [steps = files.steps](int64_t step) { return steps.at(static_cast<size_t>(step)); },
        .halves = run.halves(),
        .dtype = TorchType(request.plan.dtype),
        .ring_layers = request.plan.ring_layers,
        .resident = request.plan.bank_on_device};
    for (const sdxl::SelfAttentionLayer& layer : run.unet->self_attention_layers()) {
      options.layer_names.push_back(layer.name);
    }
    return options;
  }

  absl::Status ReadBatch(Run& run, const FramesRequest& request, size_t first, size_t end,
                         const std::map<int, std::unique_ptr<identity::BankReader>>& banks, Observer& observer) {
    std::vector<BatchFrame> batch;
    std::vector<const Frame*> frames;
    std::vector<identity::ReadPass::Frame> readers;
    bool reads = false;
    for (size_t f = first; f < end; ++f) {
      const Frame& frame = request.frames[f];
      frames.push_back(&frame);
      batch.push_back({&frame, {frame.panel, frame.id, frame.seed}, &run.prompts[f]});
      readers.push_back({batch.back().name, {}});
      if (!request.settings.consistency) continue;
      for (const int character : frame.characters) {
        const auto bank = banks.find(character);
        if (bank == banks.end()) {
          return Fail(FailureKind::kBadInput, absl::StrCat(FrameText(frame), " reads character ", character,
                                                           ", whose identity bank was not given"));
        }
        readers.back().banks.push_back(bank->second.get());
        reads = true;
      }
    }
    std::unique_ptr<identity::ReadPass> pass;
    if (reads) {
      auto created = identity::ReadPass::Create({.frames = std::move(readers),
                                                 .halves = run.halves(),
                                                 .halves_batched = run.plan.guidance_batched,
                                                 .layers = run.unet->self_attention_layers()},
                                                run.draws->source());
      if (!created.ok()) return created.status();
      pass = *std::move(created);
    }
    const auto after_step = [&](int finished, const at::Tensor&) {
      return observer.OnStep(frames, finished, request.settings.steps);
    };
    return RenderBatch(run, batch, frames, pass.get(), after_step, observer);
  }

  absl::Status RenderBatch(Run& run, const std::vector<BatchFrame>& batch, const std::vector<const Frame*>& frames,
                           identity::Pass* pass, const AfterStep& after_step, Observer& observer) {
    const auto start = std::chrono::steady_clock::now();
    auto scheduler = NewScheduler(run.settings);
    if (!scheduler.ok()) return scheduler.status();
    const absl::StatusOr<at::Tensor> latents = Denoise(batch, OptionsOf(run, *frames[0]), *run.unet, **scheduler,
                                                       *run.draws->source(), pass, *landings_, after_step);
    if (!latents.ok()) return latents.status();
    if (run.plan.stream) {
      model_->ParkWeights();
      device_->EmptyCache();  // the VAE's blocks fit into few of the UNet's, and small devices have no room for both
    }
    const double share_ms = MillisecondsSince(start) / static_cast<double>(frames.size());
    for (size_t f = 0; f < frames.size(); ++f) {
      const auto decode_start = std::chrono::steady_clock::now();
      FinishedFrame finished;
      finished.frame = frames[f];
      const at::Tensor own = latents->narrow(0, static_cast<int64_t>(f), 1);
      finished.latents = ToHost(own);
      if (!frames[f]->hidden) {
        absl::StatusOr<Image> image = Decode(run, own, *frames[f]);
        if (!image.ok()) return image.status();
        finished.image = *std::move(image);
      }
      finished.render_ms = share_ms + MillisecondsSince(decode_start);
      finished.peak_bytes = device_->MemoryNow().peak_bytes;
      finished.warnings = batch[f].prompts->warnings;
      if (const absl::Status status = observer.OnFrame(std::move(finished)); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  static Latents ToHost(const at::Tensor& latents) {
    const at::Tensor host = latents.to(at::kCPU, at::kFloat).contiguous();
    const auto* values = static_cast<const float*>(host.const_data_ptr());
    return {static_cast<int>(host.size(1)), static_cast<int>(host.size(2)), static_cast<int>(host.size(3)),
            std::vector<float>(values, values + host.numel())};
  }

  static absl::StatusOr<Image> Decode(const Run& run, const at::Tensor& latents, const Frame& frame) {
    const at::Tensor picture = run.vae->Decode(latents, run.plan.vae_tile);
    if (!picture.isfinite().all().item<bool>()) {
      return Fail(FailureKind::kInvalidOutput,
                  absl::StrCat(FrameText(frame),
                               ": the picture is not finite. The VAE overflows in this number "
                               "format: plan it with vae_dtype fp32"));
    }
    const at::Tensor rgb = sdxl::ToRgb8(picture);
    const auto* bytes = static_cast<const uint8_t*>(rgb.const_data_ptr());
    return Image{static_cast<int>(rgb.size(2)), static_cast<int>(rgb.size(1)),
                 std::vector<uint8_t>(bytes, bytes + rgb.numel())};
  }

  absl::StatusOr<RunStats> FinishRun(Run& run) {
    if (const absl::Status status = run.draws->Save(); !status.ok()) return status;
    const device::Memory memory = device_->MemoryNow();
    return RunStats{MillisecondsSince(run.start), run.load_ms, memory.peak_bytes, memory.overhead_bytes};
  }

  base::Env& env_;
  std::unique_ptr<device::Device> device_;
  std::unique_ptr<device::Landings> landings_;
  int threads_;
  std::unique_ptr<LoadedModel> model_;
  std::optional<Plan> last_plan_;  // of the last run, on this model
};

}  // namespace

absl::StatusOr<std::unique_ptr<Renderer>> Renderer::Create(const std::string& device, int threads,
                                                           uint64_t memory_limit_bytes) {
  try {
    const int count = threads > 0 ? threads : device::AvailableThreads();
    absl::StatusOr<std::unique_ptr<device::Device>> opened = device::Device::Open(device, count, memory_limit_bytes);
    if (!opened.ok()) return opened.status();
    return std::make_unique<TorchRenderer>(*std::move(opened), count);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("device ", device, " can't be opened: ", ReadTorchError(error).message));
  }
}

std::string Renderer::TorchVersion() { return TORCH_VERSION; }

std::vector<device::Report> Renderer::ProbeAll(bool measure_speed, int threads) {
  return device::DescribeAll(measure_speed, threads);
}

}  // namespace storyfarm::render
