#include "worker/engine/convert.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"

namespace storyfarm::engine {
namespace {

// Beyond all layers of a step, a deeper ring only takes memory.
constexpr uint32_t kMostRingLayers = 256;

absl::Status Unset(const char* field) {
  return absl::InvalidArgumentError(
      absl::StrCat("the work's ", field, " is unset or unknown: sender and engine are of different versions"));
}

absl::StatusOr<render::Dtype> ToDtype(farm::v1::Dtype dtype, const char* field) {
  switch (dtype) {
    case farm::v1::FP32:
      return render::Dtype::kFp32;
    case farm::v1::FP16:
      return render::Dtype::kFp16;
    case farm::v1::BF16:
      return render::Dtype::kBf16;
    default:
      return Unset(field);
  }
}

absl::StatusOr<render::Sampler> ToSampler(farm::v1::Scheduler scheduler) {
  switch (scheduler) {
    case farm::v1::DDIM:
      return render::Sampler::kDdim;
    case farm::v1::EULER:
      return render::Sampler::kEuler;
    case farm::v1::EULER_ANCESTRAL:
      return render::Sampler::kEulerAncestral;
    case farm::v1::DPMPP_2M_KARRAS:
      return render::Sampler::kDpmpp2mKarras;
    default:
      return Unset("scheduler");
  }
}

render::Gate ToGate(const farm::v1::Gate& from) {
  render::Gate gate;
  if (from.has_before()) gate.before = from.before();
  if (from.has_after()) gate.after = from.after();
  if (from.has_switch_step()) gate.switch_step = static_cast<int>(from.switch_step());
  if (from.has_switch_fraction()) gate.switch_fraction = from.switch_fraction();
  return gate;
}

absl::StatusOr<render::Settings> ToSettings(const farm::v1::RenderSettings& from) {
  auto sampler = ToSampler(from.scheduler());
  if (!sampler.ok()) return sampler.status();
  if (from.steps() == 0) return Unset("steps");
  if (!from.has_guidance_scale()) return Unset("guidance_scale");
  if (!from.has_consistency()) return Unset("consistency");
  if (from.consistency() && from.token_rate().empty()) return Unset("token_rate");
  if (from.noise() == farm::v1::NOISE_UNSPECIFIED) return Unset("noise");

  render::Settings settings;
  settings.steps = static_cast<int>(from.steps());
  settings.guidance_scale = from.guidance_scale();
  settings.sampler = *sampler;
  settings.scheduler_config = from.scheduler_config();
  settings.seed = from.seed();
  settings.token_rate.assign(from.token_rate().begin(), from.token_rate().end());
  settings.gate = ToGate(from.gate());
  settings.noise = from.noise() == farm::v1::NOISE_SHARED ? render::NoiseKind::kShared : render::NoiseKind::kPanel;
  settings.consistency = from.consistency();
  if (from.has_freeu()) {
    settings.freeu = render::FreeU{
        .s1 = from.freeu().s1(), .s2 = from.freeu().s2(), .b1 = from.freeu().b1(), .b2 = from.freeu().b2()};
  }
  return settings;
}

absl::StatusOr<render::Plan> ToPlan(const farm::v1::MemoryPlan& from, const farm::v1::RunRequest& run) {
  auto dtype = ToDtype(from.dtype(), "plan.dtype");
  if (!dtype.ok()) return dtype.status();
  auto vae_dtype = ToDtype(from.vae_dtype(), "plan.vae_dtype");
  if (!vae_dtype.ok()) return vae_dtype.status();
  if (from.batch() == 0) return Unset("plan.batch");
  render::Plan plan;
  plan.dtype = *dtype;
  plan.vae_dtype = *vae_dtype;
  plan.text_encoders_in_phases = from.text_encoders_in_phases();
  plan.guidance_batched = from.guidance_batched();
  plan.batch = static_cast<int>(from.batch());
  plan.attention_chunk = static_cast<int>(from.attention_chunk());
  plan.vae_tile = static_cast<int>(from.vae_tile());
  plan.bank_on_device = from.bank() == farm::v1::BANK_DEVICE;
  if (from.ring_layers() > 0) plan.ring_layers = static_cast<int>(std::min(from.ring_layers(), kMostRingLayers));
  plan.lock_step = from.lock_step();
  plan.graphs = from.graphs();
  plan.bank_dtype =
      from.bank_dtype() == farm::v1::BANK_INT8 ? render::BankDtype::kInt8 : render::BankDtype::kAsComputed;
  plan.threads = static_cast<int>(from.threads());
  // The runtime's own memory is none of an allocator's.
  if (!run.lift_cap()) plan.cap_bytes = from.predicted_peak_bytes() - std::min(from.predicted_peak_bytes(), from.framework_bytes());
  plan.int8_weights = from.int8_weights();
  if (from.weights() == farm::v1::STREAMED) {
    plan.stream = render::WeightStream{from.resident_weight_bytes(), from.weight_buffer_bytes()};
  }
  return plan;
}

render::Frame ToFrame(const farm::v1::Frame& from) {
  render::Frame frame;
  frame.panel = static_cast<int>(from.panel());
  frame.id = from.id();
  frame.prompt = from.prompt();
  if (from.has_negative_prompt()) frame.negative_prompt = from.negative_prompt();
  frame.width = static_cast<int>(from.width());
  frame.height = static_cast<int>(from.height());
  frame.seed = from.seed();
  frame.characters.assign(from.characters().begin(), from.characters().end());
  frame.hidden = from.hidden();
  return frame;
}

// What a bank is made with and read with must be one model: its digest tells, and its name where nobody took a digest.
std::string Origin(const farm::v1::ModelManifest& model) {
  return model.digest().empty() ? model.name() : absl::BytesToHexString(model.digest());
}

absl::StatusOr<render::CharacterKey> ToKey(const std::string& bytes) {
  render::CharacterKey key{};
  if (bytes.size() != key.size()) return absl::InvalidArgumentError("a character's key is not 16 bytes");
  std::copy(bytes.begin(), bytes.end(), key.begin());
  return key;
}

render::Draws ToDraws(const farm::v1::RunRequest& run, const farm::v1::RenderSettings& settings) {
  render::Draws draws;
  draws.replay_path = run.draws_file();
  draws.save_path = run.save_draws_file();
  draws.story_panels = static_cast<int>(run.panel_count());
  draws.story_width = static_cast<int>(settings.width());
  draws.story_height = static_cast<int>(settings.height());
  draws.character_names.assign(run.character_names().begin(), run.character_names().end());
  return draws;
}

absl::StatusOr<render::BankFiles> ToBank(const farm::v1::Bank& from, const FilesByDigest& files,
                                         const GrowingStep& growing) {
  auto key = ToKey(from.character_key());
  if (!key.ok()) return key.status();
  render::BankFiles bank;
  bank.character = static_cast<int>(from.character());
  bank.character_key = *key;
  bank.identity_frames = static_cast<int>(from.identity_frames());
  if (from.growing()) {
    if (growing == nullptr) return absl::InvalidArgumentError("a bank that is still computed, and nobody tells its steps");
    bank.path_of = [growing, character = from.character()](int step) {
      return growing(character, static_cast<uint32_t>(step));
    };
    return bank;
  }
  for (int step = 0; step < from.steps_size(); ++step) {
    if (from.steps(step).digest().empty()) {
      bank.steps.emplace_back();
      continue;
    }
    auto path =
        FindFile(files, from.steps(step), absl::StrCat("step ", step, " of character ", from.character(), "'s bank"));
    if (!path.ok()) return path.status();
    bank.steps.push_back(*std::move(path));
  }
  return bank;
}

absl::StatusOr<render::TextFiles> ToTextFiles(const farm::v1::TextEmbeddings& from, const FilesByDigest& files) {
  render::TextFiles text;
  text.encoders = absl::BytesToHexString(from.encoders());
  for (const farm::v1::BlobRef& file : from.files()) {
    auto path = FindFile(files, file, "a file of text embeddings");
    if (!path.ok()) return path.status();
    text.files.push_back({*std::move(path), file.digest()});
  }
  return text;
}

}  // namespace

absl::StatusOr<FilesByDigest> IndexFiles(const farm::v1::RunRequest& run) {
  FilesByDigest files;
  for (const farm::v1::LocalFile& file : run.files()) {
    if (file.digest().size() != base::Digest::kBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.path(), ": its digest is not ", base::Digest::kBytes, " bytes"));
    }
    const auto [at, inserted] = files.emplace(file.digest(), file.path());
    if (!inserted && at->second != file.path()) {
      return absl::InvalidArgumentError(absl::StrCat("two files for one digest: ", at->second, " and ", file.path()));
    }
  }
  return files;
}

absl::StatusOr<std::string> FindFile(const FilesByDigest& files, const farm::v1::BlobRef& blob,
                                     const std::string& what) {
  const auto found = files.find(blob.digest());
  if (found == files.end()) {
    return render::Fail(
        render::FailureKind::kBlobUnavailable,
        absl::StrCat(what, " (", absl::BytesToHexString(blob.digest()), ") was not given to the engine"));
  }
  return found->second;
}

absl::StatusOr<render::IdentityRequest> ToIdentityRequest(const farm::v1::RunRequest& run, const FilesByDigest& files) {
  const farm::v1::IdentityWork& work = run.work().identity();
  auto settings = ToSettings(work.settings());
  if (!settings.ok()) return settings.status();
  auto plan = ToPlan(work.plan(), run);
  if (!plan.ok()) return plan.status();
  auto key = ToKey(work.character_key());
  if (!key.ok()) return key.status();
  auto text = ToTextFiles(work.text(), files);
  if (!text.ok()) return text.status();

  render::IdentityRequest request;
  request.text = *std::move(text);
  request.model_folder = run.model_folder();
  request.model_name = Origin(work.model());
  request.settings = *std::move(settings);
  request.plan = *plan;
  request.character = static_cast<int>(work.character());
  request.character_key = *key;
  for (const farm::v1::Frame& frame : work.frames()) request.frames.push_back(ToFrame(frame));
  request.keep_bank = work.keep_bank();
  request.scratch = run.scratch();
  request.output_folder = run.output_folder();
  request.draws = ToDraws(run, work.settings());
  return request;
}

absl::StatusOr<render::FramesRequest> ToFramesRequest(const farm::v1::RunRequest& run, const FilesByDigest& files,
                                                      const GrowingStep& growing) {
  const farm::v1::FramesWork& work = run.work().frames();
  auto settings = ToSettings(work.settings());
  if (!settings.ok()) return settings.status();
  auto plan = ToPlan(work.plan(), run);
  if (!plan.ok()) return plan.status();
  auto text = ToTextFiles(work.text(), files);
  if (!text.ok()) return text.status();

  render::FramesRequest request;
  request.text = *std::move(text);
  request.model_folder = run.model_folder();
  request.model_name = Origin(work.model());
  request.settings = *std::move(settings);
  request.plan = *plan;
  for (const farm::v1::Frame& frame : work.frames()) request.frames.push_back(ToFrame(frame));
  for (const farm::v1::Bank& from : work.banks()) {
    auto bank = ToBank(from, files, growing);
    if (!bank.ok()) return bank.status();
    request.banks.push_back(*std::move(bank));
  }
  request.draws = ToDraws(run, work.settings());
  return request;
}

absl::StatusOr<render::TextRequest> ToTextRequest(const farm::v1::RunRequest& run) {
  const farm::v1::TextWork& work = run.work().text();
  auto plan = ToPlan(work.plan(), run);
  if (!plan.ok()) return plan.status();
  if (work.texts().empty()) return Unset("texts");
  render::TextRequest request;
  request.model_folder = run.model_folder();
  request.encoders = absl::BytesToHexString(work.encoders());
  request.plan = *plan;
  request.texts.assign(work.texts().begin(), work.texts().end());
  request.output_path = absl::StrCat(run.output_folder(), "/text.safetensors");
  return request;
}

farm::v1::DeviceReport ToMessage(const device::Report& report, uint32_t index) {
  farm::v1::DeviceReport message;
  message.set_index(index);
  switch (report.backend) {
    case device::Backend::kCpu:
      message.set_backend(farm::v1::CPU);
      break;
    case device::Backend::kCuda:
      message.set_backend(farm::v1::CUDA);
      break;
    case device::Backend::kMps:
      message.set_backend(farm::v1::MPS);
      break;
  }
  message.set_ordinal(static_cast<uint32_t>(report.ordinal));
  message.set_name(report.name);
  message.set_total_bytes(report.total_bytes);
  message.set_free_bytes(report.free_bytes);
  message.set_unified(report.unified);
  message.set_recommended_max_bytes(report.recommended_max_bytes);
  message.set_speed_tflops(report.speed_tflops);
  message.set_host_to_device_bytes_per_s(report.host_to_device_bytes_per_s);
  message.set_threads(static_cast<uint32_t>(report.threads));
  for (const std::string& dtype : report.dtypes) message.add_dtypes(dtype);
  message.set_driver(report.driver);
  return message;
}

farm::v1::DeviceMemory ToMessage(const device::Memory& memory) {
  farm::v1::DeviceMemory message;
  message.set_farm_bytes(memory.reserved_bytes);
  message.set_tensor_bytes(std::min(memory.allocated_bytes, memory.reserved_bytes));
  message.set_free_bytes(memory.free_bytes);
  switch (memory.pressure) {
    case device::Pressure::kUnknown:
      break;
    case device::Pressure::kNormal:
      message.set_pressure(farm::v1::PRESSURE_NORMAL);
      break;
    case device::Pressure::kWarning:
      message.set_pressure(farm::v1::PRESSURE_WARNING);
      break;
    case device::Pressure::kCritical:
      message.set_pressure(farm::v1::PRESSURE_CRITICAL);
      break;
  }
  const uint64_t accounted = memory.reserved_bytes + memory.free_bytes;
  message.set_others_bytes(memory.total_bytes > accounted ? memory.total_bytes - accounted : 0);
  return message;
}

farm::v1::Failure ToMessage(const absl::Status& why) {
  farm::v1::Failure failure;
  failure.set_message(std::string(why.message()));
  failure.set_needed_bytes(render::NeededBytes(why));
  switch (render::KindOf(why)) {
    case render::FailureKind::kBadInput:
      failure.set_kind(farm::v1::BAD_INPUT);
      break;
    case render::FailureKind::kOutOfMemory:
      failure.set_kind(farm::v1::OUT_OF_MEMORY);
      break;
    case render::FailureKind::kInvalidOutput:
      failure.set_kind(farm::v1::INVALID_OUTPUT);
      break;
    case render::FailureKind::kBlobUnavailable:
      failure.set_kind(farm::v1::BLOB_UNAVAILABLE);
      break;
    case render::FailureKind::kDiskFull:
      failure.set_kind(farm::v1::DISK_FULL);
      break;
    case render::FailureKind::kInternal:
      failure.set_kind(farm::v1::INTERNAL);
      break;
  }
  return failure;
}

}  // namespace storyfarm::engine
