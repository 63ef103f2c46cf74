// plan: what would happen to a story on machines that are only described.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pipeline/plan/plan.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/foresight.h"
#include "tools/storyctl/inputs.h"
#include "tools/storyctl/json.h"
#include "tools/storyctl/local_model.h"
#include "tools/storyctl/problems.h"

namespace storyfarm::storyctl {
namespace {

using Client = farm::v1::ClientService::StubInterface;

absl::StatusOr<farm::v1::ModelManifest> ModelOfFarm(const Context& context, const std::string& name) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  const auto models = farm.Call(&Client::ListModels, farm::v1::ListModelsRequest());
  if (!models.ok()) {
    return absl::Status(models.status().code(),
                        absl::StrCat(models.status().message(), "; it was asked about the model '", name,
                                     "', as there is no folder of that name: --model FOLDER needs no farm"));
  }
  for (const farm::v1::ModelManifest& model : models->models()) {
    if (model.name() == name) return model;
  }
  return absl::NotFoundError(absl::StrCat("there is neither a folder '", name, "' nor a model of that name at ",
                                          target->target, ": storyctl models list names those that it has"));
}

// A folder where there is one or a path is meant, else a name that the farm knows.
absl::StatusOr<farm::v1::ModelManifest> FindModel(const Context& context, const PlanOptions& options,
                                                  const std::string& of_story) {
  if (options.model.empty()) {
    if (!of_story.empty()) return ModelOfFarm(context, of_story);
    return absl::InvalidArgumentError(
        "the story names no model: say --model FOLDER, or --model NAME of one of the farm");
  }
  if (!absl::StrContains(options.model, '/') && !context.env.Exists(options.model)) {
    return ModelOfFarm(context, options.model);
  }
  auto local = ReadLocalModel(context, options.model, options.fp16);
  if (!local.ok()) return local.status();
  return std::move(local->manifest);
}

// The packs that the story names, as the farm has them.
absl::StatusOr<plan::NamedPacks> FindPacks(const Context& context, const farm::v1::Story& story) {
  plan::NamedPacks packs;
  for (const farm::v1::Character& character : story.characters()) {
    if (character.pack().empty() || packs.count(character.pack()) > 0) continue;
    const auto target = FarmTarget(context);
    if (!target.ok()) return target.status();
    FarmClient farm(*target);
    farm::v1::ListPacksRequest request;
    request.set_pack(character.pack());
    auto found = farm.Call(&Client::ListPacks, request);
    if (absl::IsNotFound(found.status())) continue;
    if (!found.ok()) {
      return absl::Status(found.status().code(),
                          absl::StrCat(found.status().message(), "; it was asked about the pack '", character.pack(),
                                       "', which the story names"));
    }
    if (!found->packs().empty()) packs[character.pack()].manifest = found->packs(0).manifest();
  }
  return packs;
}

void PrintText(const Context& context, const farm::v1::JobSpec& job, const std::vector<DrawnGroup>& groups,
               const std::vector<Foresight>& foresights) {
  uint64_t frames = 0;
  for (const DrawnGroup& group : groups) frames += uint64_t{group.times} * group.shape.frames();
  const uint32_t panels = plan::PanelCount(job.story());
  const farm::v1::RenderSettings& settings = job.story().settings();
  std::ostream& out = context.console.out();
  out << absl::StrCat(
      panels, panels == 1 ? " panel" : " panels",
      frames > panels ? absl::StrCat(" and ", frames - panels, " identity frames that are on no page") : "", ", model ",
      job.model().name(), ", ", settings.width(), " x ", settings.height(), ", ", settings.steps(), " steps\n");
  for (const Foresight& foresight : foresights) out << "\n" << InWords(foresight, groups);
  if (foresights.size() > 1) {
    std::vector<std::vector<std::string>> rows = {{"DEVICE", "PREDICTED PEAK", "PREDICTED TIME", "SPEED"}};
    for (const Foresight& f : foresights) {
      rows.push_back(
          {f.device.text, f.refused ? "refused" : FormatBytes(f.peak_bytes), f.refused ? "" : FormatSeconds(f.seconds),
           absl::StrCat(f.device.report.speed_tflops(), " TFLOP/s", f.device.speed_assumed ? ", assumed" : "")});
    }
    out << "\n" << Table(rows);
  }
  out << std::flush;
}

void PrintJson(const Context& context, const farm::v1::JobSpec& job, const std::vector<DrawnGroup>& groups,
               const std::vector<Foresight>& foresights) {
  nlohmann::json devices = nlohmann::json::array();
  for (const Foresight& foresight : foresights) devices.push_back(ToJson(foresight, groups));
  context.console.out() << Print({{"title", job.story().title()},
                                  {"model", job.model().name()},
                                  {"panels", plan::PanelCount(job.story())},
                                  {"pages", job.pages_size()},
                                  {"settings", ToJson(job.story().settings())},
                                  {"devices", devices}})
                        << std::endl;
}

}  // namespace

Outcome Plan(const Context& context, const PlanOptions& options) {
  std::vector<DeviceSpec> devices;
  for (const std::string& text : options.devices) {
    auto device = ParseDeviceSpec(text);
    if (!device.ok()) return device.status();
    devices.push_back(*std::move(device));
  }
  const auto inputs = ReadStoryInputs(context, options.story, options.settings);
  if (!inputs.ok()) return inputs.status();
  if (!inputs->ok()) return ReportProblems(context, *inputs, inputs->problems);
  const auto model = FindModel(context, options, inputs->story.model());
  if (!model.ok()) return model.status();
  const auto packs = FindPacks(context, inputs->story);
  if (!packs.ok()) return packs.status();
  const plan::Expansion expansion = plan::ExpandStory(inputs->story, *model, *packs);
  std::vector<farm::v1::Problem> problems = inputs->problems;
  problems.insert(problems.end(), expansion.problems.begin(), expansion.problems.end());
  if (!expansion.ok()) return ReportProblems(context, *inputs, problems);
  PrintProblems(context.console, problems, inputs->story_bytes, inputs->story_name);

  const auto groups = GroupsOf(expansion.job);
  if (!groups.ok()) return groups.status();
  std::vector<Foresight> foresights;
  for (const DeviceSpec& device : devices) foresights.push_back(Foresee(model->profile(), *groups, device));
  (context.json ? PrintJson : PrintText)(context, expansion.job, *groups, foresights);
  const bool none = std::all_of(foresights.begin(), foresights.end(), [](const Foresight& f) { return f.refused; });
  return none ? ExitCode::kNoRoom : ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
