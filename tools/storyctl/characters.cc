// characters list, show, name and remove: what the farm keeps of characters, for later chapters and jobs.
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "pipeline/plan/pack.h"
#include "pipeline/plan/settings.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"

namespace storyfarm::storyctl {
namespace {

using Client = farm::v1::ClientService::StubInterface;

std::string SecondsText(uint64_t ms) { return absl::StrFormat("%.1f s", static_cast<double>(ms) / 1000); }

std::string UseText(const farm::v1::PackStatus& pack) {
  if (pack.lost()) return "files missing";
  return pack.live_jobs().empty() ? "" : absl::StrJoin(pack.live_jobs(), ", ");
}

void PrintPack(const Context& context, const farm::v1::PackStatus& pack) {
  const farm::v1::PackManifest& manifest = pack.manifest();
  const farm::v1::RenderSettings& settings = manifest.settings();
  const auto line = [&context](const char* what, const std::string& text) {
    context.console.out() << absl::StrFormat("%-16s %s\n", what, text);
  };
  line("character", manifest.character());
  line("name", pack.name().empty() ? absl::StrCat("none; storyctl characters name ", plan::ShortKey(manifest.key()),
                                                  " NAME gives it one")
                                   : pack.name());
  line("key", absl::BytesToHexString(manifest.key()));
  line("described as", manifest.description());
  line("model", manifest.model());
  line("made by", absl::StrCat(manifest.job_id(), " (", manifest.title(), ") on ", manifest.node(), ", in ",
                               SecondsText(manifest.render_ms()), ", ", plan::DtypeName(manifest.plan().dtype())));
  line("size", FormatBytes(manifest.size_bytes()));
  line("settings", absl::StrCat(settings.width(), " x ", settings.height(), ", ", settings.steps(), " steps, ",
                                plan::SchedulerName(settings.scheduler()), ", guidance ", settings.guidance_scale(),
                                ", seed ", settings.seed(), settings.reproducible() ? ", reproducible" : ""));
  if (!pack.live_jobs().empty()) line("needed by", absl::StrJoin(pack.live_jobs(), ", "));
  if (pack.lost()) line("lost", "files of it are missing on the farm; the next job that needs it computes it anew");
  for (const farm::v1::PackFrame& frame : manifest.frames()) {
    line(frame.hidden() ? "drawn, not shown" : "drawn", frame.prompt());
  }
  context.console.out() << std::flush;
}

}  // namespace

Outcome ListCharacters(const Context& context) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  const auto response = farm.Call(&Client::ListPacks, farm::v1::ListPacksRequest());
  if (!response.ok()) return response.status();
  if (context.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const auto& pack : response->packs()) list.push_back(ToJson(pack, /*in_full=*/false));
    context.console.out() << Print({{"characters", list}}) << std::endl;
    return ExitCode::kOk;
  }
  if (response->packs().empty()) {
    context.console.Note("no characters yet: a job that draws one leaves it here for the next");
    return ExitCode::kOk;
  }
  std::vector<std::vector<std::string>> rows = {
      {"CHARACTER", "NAME", "KEY", "MODEL", "FRAMES", "SIZE", "TOOK", "MADE BY", "NEEDED BY"}};
  for (const auto& pack : response->packs()) {
    const farm::v1::PackManifest& manifest = pack.manifest();
    rows.push_back({manifest.character(), pack.name(), plan::ShortKey(manifest.key()), manifest.model(),
                    absl::StrCat(manifest.bank().identity_frames()), FormatBytes(manifest.size_bytes()),
                    SecondsText(manifest.render_ms()), manifest.job_id(), UseText(pack)});
  }
  context.console.out() << Table(rows) << std::flush;
  return ExitCode::kOk;
}

Outcome ShowCharacter(const Context& context, const std::string& pack) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::ListPacksRequest request;
  request.set_pack(pack);
  const auto response = farm.Call(&Client::ListPacks, request);
  if (!response.ok()) return response.status();
  if (response->packs().empty()) return absl::NotFoundError(absl::StrCat("the farm keeps no pack '", pack, "'"));
  if (context.json) {
    context.console.out() << Print(ToJson(response->packs(0), /*in_full=*/true)) << std::endl;
  } else {
    PrintPack(context, response->packs(0));
  }
  return ExitCode::kOk;
}

Outcome NameCharacter(const Context& context, const std::string& pack, const std::string& name) {
  if (const std::string wrong = plan::WrongPackName(name); !wrong.empty()) return absl::InvalidArgumentError(wrong);
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::NamePackRequest request;
  request.set_pack(pack);
  request.set_name(name);
  const auto named = farm.Call(&Client::NamePack, request);
  if (!named.ok()) return named.status();
  if (context.json) {
    context.console.out() << Print(ToJson(*named, /*in_full=*/false)) << std::endl;
  } else {
    context.console.out() << absl::StrCat(plan::ShortKey(named->manifest().key()), " (", named->manifest().character(),
                                          ") is called ", name)
                          << std::endl;
  }
  return ExitCode::kOk;
}

Outcome RemoveCharacter(const Context& context, const std::string& pack) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::RemovePackRequest request;
  request.set_pack(pack);
  const auto removed = farm.Call(&Client::RemovePack, request);
  if (!removed.ok()) return removed.status();
  if (context.json) {
    context.console.out() << Print({{"pack", pack}, {"removed", true}}) << std::endl;
  } else {
    context.console.out() << pack << " removed" << std::endl;
  }
  return ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
