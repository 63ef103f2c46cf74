#include "tools/storyctl/json.h"

#include "absl/strings/escaping.h"
#include "pipeline/plan/limits.h"
#include "pipeline/plan/names.h"
#include "pipeline/plan/settings.h"
#include "tools/storyctl/foresight.h"

namespace storyfarm::storyctl {
namespace {

// "normal", "warning", "critical"; nothing where the system does not tell.
nlohmann::json PressureName(farm::v1::MemoryPressure pressure) {
  if (pressure == farm::v1::PRESSURE_NORMAL) return "normal";
  if (pressure == farm::v1::PRESSURE_WARNING) return "warning";
  if (pressure == farm::v1::PRESSURE_CRITICAL) return "critical";
  return nullptr;
}

const char* BankName(farm::v1::BankPlacement bank) {
  if (bank == farm::v1::BANK_DEVICE) return "device";
  return bank == farm::v1::BANK_STREAMED ? "streamed" : "none";
}

}  // namespace

using nlohmann::json;

json ToJson(const farm::v1::LogLine& line) {
  json document = {
      {"number", line.number()}, {"unix_ms", line.unix_ms()}, {"level", line.level()}, {"event", line.event()}};
  for (const auto& field : line.fields()) document["fields"][field.name()] = field.value();
  return document;
}

json ToJson(const farm::v1::PackUse& pack) {
  return {{"key", absl::BytesToHexString(pack.key())},
          {"name", pack.name()},
          {"made_by_job", pack.job_id()},
          {"saved_seconds", static_cast<double>(pack.saved_ms()) / 1000}};
}

json ToJson(const farm::v1::PackStatus& pack, bool in_full) {
  const farm::v1::PackManifest& manifest = pack.manifest();
  json document = {{"key", absl::BytesToHexString(manifest.key())},
                   {"name", pack.name()},
                   {"character", manifest.character()},
                   {"description", manifest.description()},
                   {"model", manifest.model()},
                   {"model_digest", absl::BytesToHexString(manifest.model_digest())},
                   {"identity_frames", manifest.bank().identity_frames()},
                   {"bytes", manifest.size_bytes()},
                   {"identity_seconds", static_cast<double>(manifest.render_ms()) / 1000},
                   {"job_id", manifest.job_id()},
                   {"title", manifest.title()},
                   {"node", manifest.node()},
                   {"device", manifest.device()},
                   {"created_unix_ms", manifest.created_unix_ms()},
                   {"last_used_unix_ms", pack.last_used_unix_ms()},
                   {"live_jobs", std::vector<std::string>(pack.live_jobs().begin(), pack.live_jobs().end())},
                   {"lost", pack.lost()}};
  if (!in_full) return document;
  document["settings"] = ToJson(manifest.settings());
  document["plan"] = ToJson(manifest.plan());
  document["steps"] = json::array();
  for (const auto& step : manifest.bank().steps()) {
    document["steps"].push_back({{"digest", absl::BytesToHexString(step.digest())}, {"bytes", step.size_bytes()}});
  }
  document["frames"] = json::array();
  for (const auto& frame : manifest.frames()) {
    document["frames"].push_back({{"prompt", frame.prompt()},
                                  {"hidden", frame.hidden()},
                                  {"image", absl::BytesToHexString(frame.image().digest())},
                                  {"latents", absl::BytesToHexString(frame.latents().digest())}});
  }
  return document;
}

json ToJson(const farm::v1::JobStatus& status) {
  json chapters = json::array();
  for (const auto& chapter : status.chapters()) {
    chapters.push_back({{"title", chapter.title()},
                        {"frames_total", chapter.frames_total()},
                        {"frames_done", chapter.frames_done()},
                        {"frames_failed", chapter.frames_failed()}});
  }
  json waiting = json::array();
  for (const auto& refusal : status.waiting()) {
    waiting.push_back({{"reason", refusal.reason()},
                       {"needed_bytes", refusal.needed_bytes()},
                       {"offered_bytes", refusal.offered_bytes()}});
  }
  json document = {
      {"job_id", status.job_id()},
      {"title", status.title()},
      {"state", plan::StateName(status.state())},
      {"model", status.model()},
      {"submitted_unix_ms", status.submitted_unix_ms()},
      {"finished_unix_ms", status.finished_unix_ms()},
      {"frames_total", status.frames_total()},
      {"frames_done", status.frames_done()},
      {"frames_failed", status.frames_failed()},
      {"frames_running", status.frames_running()},
      {"frames_attempted", status.frames_attempted()},
      {"identities_total", status.identities_total()},
      {"identities_done", status.identities_done()},
      {"pages_total", status.pages_total()},
      {"pages_done", status.pages_done()},
      {"chapters", chapters},
      {"frames_per_minute", status.frames_per_minute()},
      {"seconds_left", status.seconds_left() < 0 ? json(nullptr) : json(status.seconds_left())},
      {"warnings", std::vector<std::string>(status.warnings().begin(), status.warnings().end())},
      {"waiting", waiting},
      {"paused", status.paused()},
      {"priority", status.priority()},
      {"identity_seconds", static_cast<double>(status.identity_ms()) / 1000},
      {"identities_reused", status.identities_reused()},
  };
  if (status.tasks().empty()) return document;
  json tasks = json::array();
  for (const auto& task : status.tasks()) {
    tasks.push_back({{"task", plan::TaskName(task.task())},
                     {"state", plan::StateName(task.state())},
                     {"node", task.node()},
                     {"device", task.device()},
                     {"step", task.step()},
                     {"steps", task.steps()},
                     {"attempts", task.attempts()},
                     {"message", task.message()}});
    if (task.task().kind() != farm::v1::TASK_IDENTITY) continue;
    tasks.back()["identity_seconds"] = static_cast<double>(task.identity_ms()) / 1000;
    if (task.has_pack()) tasks.back()["pack"] = ToJson(task.pack());
  }
  document["tasks"] = tasks;
  return document;
}

// What is not limited is null.
json ToJson(const farm::v1::WorkerLimits& limits) {
  json out = {{"memory_bytes", nullptr}, {"hours", nullptr}, {"power", nullptr}, {"idle_minutes", nullptr},
              {"devices", nullptr},      {"words", plan::LimitsInWords(limits)}};
  if (limits.memory_bytes() > 0) out["memory_bytes"] = limits.memory_bytes();
  if (!limits.hours().empty()) out["hours"] = limits.hours();
  if (limits.mains_only()) out["power"] = "mains";
  if (limits.idle_minutes() > 0) out["idle_minutes"] = limits.idle_minutes();
  if (!limits.devices().empty()) {
    out["devices"] = std::vector<std::string>(limits.devices().begin(), limits.devices().end());
  }
  return out;
}

json ToJson(const farm::v1::NodeStatus& node) {
  json devices = json::array();
  for (const auto& device : node.devices()) {
    const farm::v1::DeviceReport& report = device.report();
    devices.push_back({{"index", report.index()},
                       {"device", plan::DeviceName(report)},
                       {"backend", plan::BackendName(report.backend())},
                       {"name", report.name()},
                       {"driver", report.driver()},
                       {"total_bytes", report.total_bytes()},
                       {"free_bytes", device.has_memory() ? device.memory().free_bytes() : report.free_bytes()},
                       {"farm_bytes", device.memory().farm_bytes()},
                       {"tensor_bytes", device.memory().tensor_bytes()},
                       {"others_bytes", device.memory().others_bytes()},
                       {"planned_bytes", device.planned_bytes()},
                       {"plan", device.has_plan() ? ToJson(device.plan()) : json()},
                       {"plan_in_short", device.has_plan() ? InShort(device.plan()) : ""},
                       {"recommended_max_bytes", report.recommended_max_bytes()},
                       {"pressure", PressureName(device.memory().pressure())},
                       {"unified", report.unified()},
                       {"speed_tflops", report.speed_tflops()},
                       {"frames_per_minute", device.frames_per_minute()},
                       {"disk_read_bytes_per_s", report.disk_read_bytes_per_s()},
                       {"disk_write_bytes_per_s", report.disk_write_bytes_per_s()},
                       {"host_to_device_bytes_per_s", report.host_to_device_bytes_per_s()},
                       {"network_bytes_per_s", report.network_bytes_per_s()},
                       {"threads", report.threads()},
                       {"task", device.task()},
                       {"step", device.step()},
                       {"steps", device.steps()},
                       {"queued", device.queued()},
                       {"frames_done", device.frames_done()}});
  }
  return {{"node_id", node.node_id()},
          {"name", node.name()},
          {"connected", node.connected()},
          {"leaving", node.leaving()},
          {"drained", node.drained()},
          {"resting", node.resting()},
          {"limits", ToJson(node.limits())},
          {"software_version", node.software_version()},
          {"last_heard_ms", node.last_heard_ms()},
          {"note", node.note()},
          {"devices", devices}};
}

json ToJson(const farm::v1::ModelManifest& model) {
  uint64_t bytes = 0;
  for (const auto& file : model.files()) bytes += file.blob().size_bytes();
  return {{"name", model.name()},
          {"digest", absl::BytesToHexString(model.digest())},
          {"files", model.files_size()},
          {"bytes", bytes},
          {"native_width", model.profile().native_width()},
          {"native_height", model.profile().native_height()}};
}

json ToJson(const farm::v1::RenderSettings& settings) {
  json gate = {{"before", settings.gate().before()}, {"after", settings.gate().after()}};
  if (settings.gate().has_switch_step()) gate["switch"] = settings.gate().switch_step();
  if (settings.gate().has_switch_fraction()) gate["switch"] = settings.gate().switch_fraction();
  json freeu = "off";
  if (settings.has_freeu()) {
    freeu = {{"s1", settings.freeu().s1()},
             {"s2", settings.freeu().s2()},
             {"b1", settings.freeu().b1()},
             {"b2", settings.freeu().b2()}};
  }
  json document = {
      {"width", settings.width()},
      {"height", settings.height()},
      {"steps", settings.steps()},
      {"guidance_scale", settings.guidance_scale()},
      {"scheduler", plan::SchedulerName(settings.scheduler())},
      {"seed", settings.seed()},
      {"id_length", settings.id_length()},
      {"token_rate", std::vector<double>(settings.token_rate().begin(), settings.token_rate().end())},
      {"gate", gate},
      {"noise", plan::NoiseName(settings.noise())},
      {"consistency", settings.consistency() ? "on" : "off"},
      {"freeu", freeu},
      {"reproducible", settings.reproducible()},
      {"int8_weights", settings.int8_weights()},
  };
  if (settings.dtype() != farm::v1::DTYPE_UNSPECIFIED) document["dtype"] = plan::DtypeName(settings.dtype());
  if (settings.has_negative_prompt()) document["negative_prompt"] = settings.negative_prompt();
  if (settings.has_style()) {
    document["style"] = {{"prompt", settings.style().prompt()}, {"negative", settings.style().negative()}};
  }
  if (!settings.scheduler_config().empty()) {
    // Checked where it was read; text that is no JSON after all is better shown than dropped.
    const json overrides = json::parse(settings.scheduler_config(), nullptr, false);
    document["scheduler_config"] = overrides.is_discarded() ? json(settings.scheduler_config()) : overrides;
  }
  return document;
}

json ToJson(const farm::v1::MemoryPlan& plan) {
  return {{"backend", plan::BackendName(plan.backend())},
          {"dtype", plan::DtypeName(plan.dtype())},
          {"vae_dtype", plan::DtypeName(plan.vae_dtype())},
          {"weights", plan.weights() == farm::v1::STREAMED ? "streamed" : "resident"},
          {"int8_weights", plan.int8_weights()},
          {"resident_weight_bytes", plan.resident_weight_bytes()},
          {"weight_buffer_bytes", plan.weight_buffer_bytes()},
          {"bank", BankName(plan.bank())},
          {"bank_dtype", plan.bank_dtype() == farm::v1::BANK_INT8 ? "int8" : plan::DtypeName(plan.dtype())},
          {"ring_layers", plan.ring_layers()},
          {"lock_step", plan.lock_step()},
          {"graphs", plan.graphs()},
          {"batch", plan.batch()},
          {"guidance_batched", plan.guidance_batched()},
          {"attention_chunk", plan.attention_chunk()},
          {"vae_tile", plan.vae_tile()},
          {"text_encoders_in_phases", plan.text_encoders_in_phases()},
          {"threads", plan.threads()},
          {"predicted_peak_bytes", plan.predicted_peak_bytes()},
          {"framework_bytes", plan.framework_bytes()},
          {"predicted_seconds", plan.predicted_seconds()}};
}

json ToJson(const std::vector<farm::v1::Problem>& problems) {
  json list = json::array();
  for (const auto& problem : problems) {
    list.push_back({{"file", problem.file()},
                    {"line", problem.line()},
                    {"column", problem.column()},
                    {"field", problem.field()},
                    {"message", problem.message()},
                    {"warning", problem.warning()}});
  }
  return list;
}

std::string Print(const json& document, bool one_line) {
  return document.dump(one_line ? -1 : 2, ' ', false, json::error_handler_t::replace);
}

}  // namespace storyfarm::storyctl
