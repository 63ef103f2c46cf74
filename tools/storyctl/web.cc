// web: a link that opens the farm's page in a browser.
#include "absl/strings/str_cat.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"

namespace storyfarm::storyctl {
namespace {

using Client = farm::v1::ClientService::StubInterface;

farm::v1::Role RoleOf(const std::string& name) {
  if (name == "viewer") return farm::v1::ROLE_VIEWER;
  return name == "submitter" ? farm::v1::ROLE_SUBMITTER : farm::v1::ROLE_ADMIN;
}

}  // namespace

Outcome Web(const Context& context, const WebLinkOptions& options) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::OpenWebRequest request;
  request.set_role(RoleOf(options.role));
  const auto link = farm.Call(&Client::OpenWeb, request);
  if (!link.ok()) return link.status();
  if (context.json) {
    context.console.out() << Print({{"url", link->url()}, {"valid_seconds", link->valid_seconds()}, {"role", options.role}})
                          << std::endl;
    return ExitCode::kOk;
  }
  context.console.out() << link->url() << std::endl;
  context.console.Note(absl::StrCat(
      "open it in a browser on the farm's machine within ", link->valid_seconds() / 60,
      " minutes; it logs one browser in, as ", options.role,
      ". From another machine, first: ssh -N -L PORT:127.0.0.1:PORT you@farm-machine, with the port of the link"));
  return ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
