#include "coordinator/rpc/metadata.h"

#include <map>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "coordinator/core/farm.h"
#include "nlohmann/json.hpp"
#include "pipeline/base/digest.h"
#include "pipeline/plan/names.h"
#include "pipeline/plan/plan.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::JobArchive;
using farm::v1::JobSpec;
using farm::v1::RenderSettings;
using farm::v1::TaskStatus;
using nlohmann::ordered_json;

ordered_json SettingsOf(const RenderSettings& settings) {
  ordered_json json;
  json["width"] = settings.width();
  json["height"] = settings.height();
  json["steps"] = settings.steps();
  json["guidance_scale"] = settings.guidance_scale();
  json["scheduler"] = plan::SchedulerName(settings.scheduler());
  if (!settings.scheduler_config().empty()) {
    json["scheduler_config"] = ordered_json::parse(settings.scheduler_config(), nullptr, false);
  }
  json["seed"] = settings.seed();
  json["id_length"] = settings.id_length();
  json["token_rate"] = std::vector<double>(settings.token_rate().begin(), settings.token_rate().end());
  ordered_json& gate = json["gate"];
  gate["before"] = settings.gate().before();
  gate["after"] = settings.gate().after();
  if (settings.gate().at_case() == farm::v1::Gate::kSwitchStep) {
    gate["switch"] = settings.gate().switch_step();
  } else {
    gate["switch"] = settings.gate().switch_fraction();
  }
  json["noise"] = plan::NoiseName(settings.noise());
  json["consistency"] = settings.consistency() ? "on" : "off";
  if (settings.has_freeu()) {
    const farm::v1::FreeU& freeu = settings.freeu();
    json["freeu"] = {{"s1", freeu.s1()}, {"s2", freeu.s2()}, {"b1", freeu.b1()}, {"b2", freeu.b2()}};
  } else {
    json["freeu"] = "off";
  }
  json["style"] = {{"prompt", settings.style().prompt()}, {"negative", settings.style().negative()}};
  if (settings.has_negative_prompt()) json["negative_prompt"] = settings.negative_prompt();
  json["dtype"] = plan::DtypeName(settings.dtype());
  json["reproducible"] = settings.reproducible();
  return json;
}

// Paths of the pictures by panel.
std::map<uint32_t, std::string> PanelPaths(const farm::v1::JobStatus& status) {
  std::map<uint32_t, std::string> paths;
  for (const farm::v1::Output& output : OutputsOf(status)) {
    absl::string_view name = output.path();
    uint32_t panel = 0;
    if (absl::ConsumePrefix(&name, "panels/") && absl::ConsumeSuffix(&name, ".png") && absl::SimpleAtoi(name, &panel)) {
      paths[panel] = output.path();
    }
  }
  return paths;
}

// Who did a task and how that went, into an object that says which one it is.
void AddTask(const TaskStatus& task, ordered_json& json) {
  json["state"] = plan::StateName(task.state());
  if (!task.node().empty()) {
    json["node"] = task.node();
    json["device"] = task.device();
  }
  json["attempts"] = task.attempts();
  if (!task.message().empty()) json["message"] = task.message();
}

ordered_json PackOf(const farm::v1::PackUse& pack) {
  const auto key = base::Digest::FromBytes(pack.key());
  return {{"key", key.ok() ? key->Hex() : ""},
          {"name", pack.name()},
          {"made_by_job", pack.job_id()},
          {"saved_seconds", static_cast<double>(pack.saved_ms()) / 1000}};
}

ordered_json PanelsOf(const JobSpec& spec, const farm::v1::JobStatus& status) {
  std::map<uint32_t, const TaskStatus*> frames;
  for (const TaskStatus& task : status.tasks()) {
    if (task.task().kind() == farm::v1::TASK_FRAME) frames[task.task().number()] = &task;
  }
  const std::map<uint32_t, std::string> paths = PanelPaths(status);
  const RenderSettings& settings = spec.story().settings();
  ordered_json panels = ordered_json::array();
  uint32_t number = 0;
  for (const farm::v1::Chapter& chapter : spec.story().chapters()) {
    for (const farm::v1::Panel& panel : chapter.panels()) {
      ordered_json json;
      json["panel"] = number;
      json["id"] = panel.id();
      json["chapter"] = chapter.title();
      json["prompt"] = plan::StyledPrompt(settings.style(), panel.prompt());
      json["caption"] = panel.caption();
      json["characters"] = ordered_json::array();
      for (const uint32_t character : panel.characters()) {
        if (character < static_cast<uint32_t>(spec.story().characters_size())) {
          json["characters"].push_back(spec.story().characters(static_cast<int>(character)).name());
        }
      }
      json["seed"] = panel.has_seed() ? panel.seed() : settings.seed();
      json["width"] = panel.has_width() ? panel.width() : settings.width();
      json["height"] = panel.has_height() ? panel.height() : settings.height();
      if (const auto path = paths.find(number); path != paths.end()) json["image"] = path->second;
      if (const auto found = frames.find(number); found != frames.end()) {
        const TaskStatus& task = *found->second;
        AddTask(task, json);
        if (task.has_frame()) {
          json["render_ms"] = task.frame().render_ms();
          json["peak_bytes"] = task.frame().peak_bytes();
          json["predicted_peak_bytes"] = task.frame().predicted_peak_bytes();
          json["warnings"] = std::vector<std::string>(task.frame().warnings().begin(), task.frame().warnings().end());
        }
      }
      panels.push_back(std::move(json));
      ++number;
    }
  }
  return panels;
}

}  // namespace

std::string MetadataJson(const JobArchive& body) {
  const JobSpec& spec = body.spec();
  const farm::v1::JobStatus& status = body.status();
  const auto digest = base::Digest::FromBytes(spec.model().digest());
  ordered_json json;
  json["job"] = status.job_id();
  json["title"] = spec.story().title();
  json["author"] = spec.story().author();
  json["state"] = plan::StateName(status.state());
  json["model"] = {{"name", spec.model().name()}, {"digest", digest.ok() ? digest->Hex() : ""}};
  json["submitted_unix_ms"] = status.submitted_unix_ms();
  if (status.finished_unix_ms() != 0) json["finished_unix_ms"] = status.finished_unix_ms();
  json["identity_seconds"] = static_cast<double>(status.identity_ms()) / 1000;
  json["settings"] = SettingsOf(spec.story().settings());
  json["characters"] = ordered_json::array();
  for (const farm::v1::Character& character : spec.story().characters()) {
    json["characters"].push_back({{"name", character.name()}, {"description", character.description()}});
  }
  json["panels"] = PanelsOf(spec, status);
  json["identities"] = ordered_json::array();
  json["pages"] = ordered_json::array();
  for (const TaskStatus& task : status.tasks()) {
    const auto number = static_cast<int>(task.task().number());
    ordered_json entry;
    if (task.task().kind() == farm::v1::TASK_IDENTITY && number < spec.identities_size()) {
      const auto character = static_cast<int>(spec.identities(number).character());
      if (character < spec.story().characters_size()) entry["character"] = spec.story().characters(character).name();
      AddTask(task, entry);
      entry["seconds"] = static_cast<double>(task.identity_ms()) / 1000;
      if (task.has_pack()) entry["pack_hit"] = PackOf(task.pack());
      json["identities"].push_back(std::move(entry));
    } else if (task.task().kind() == farm::v1::TASK_PAGE && number < spec.pages_size()) {
      const farm::v1::PageTask& page = spec.pages(number);
      if (page.book()) {
        entry["book"] = true;
      } else {
        entry["page"] = number;
        const auto chapter = static_cast<int>(page.chapter());
        if (chapter < spec.story().chapters_size()) entry["chapter"] = spec.story().chapters(chapter).title();
      }
      AddTask(task, entry);
      json["pages"].push_back(std::move(entry));
    }
  }
  json["warnings"] = std::vector<std::string>(spec.warnings().begin(), spec.warnings().end());
  // Node names come from workers, which may send anything.
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace storyfarm::coordinator
