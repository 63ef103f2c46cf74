// web: a link that opens the farm's page in a browser; from another machine, with a tunnel that carries the page there.
#include <mutex>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/places.h"
#include "pipeline/plan/names.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"
#include "tools/storyctl/web_tunnel.h"

namespace storyfarm::storyctl {
namespace {

using Client = farm::v1::ClientService::StubInterface;

farm::v1::Role RoleOf(const std::string& name) {
  for (const auto role : {farm::v1::ROLE_VIEWER, farm::v1::ROLE_SUBMITTER, farm::v1::ROLE_ADMIN}) {
    if (plan::RoleName(role) == name) return role;
  }
  return farm::v1::ROLE_UNSPECIFIED;
}

// A link's parts: "http://127.0.0.1:7851/login#..." -> port and what follows it.
struct Link {
  int port = 0;
  std::string path;
};
absl::StatusOr<Link> ReadLink(const std::string& url) {
  Link link;
  const size_t host = url.find("://");
  const size_t slash = host == std::string::npos ? host : url.find('/', host + 3);
  const size_t colon = slash == std::string::npos ? slash : url.rfind(':', slash);
  if (colon == std::string::npos || !absl::SimpleAtoi(url.substr(colon + 1, slash - colon - 1), &link.port)) {
    return absl::InternalError("the coordinator answered with a link that is none: is it of this version?");
  }
  link.path = url.substr(slash);
  return link;
}

void Print(const Context& context, const farm::v1::OpenWebResponse& link, const std::string& url, bool carried) {
  if (context.json) {
    context.console.out() << storyctl::Print({{"url", url},
                                              {"valid_seconds", link.valid_seconds()},
                                              {"role", plan::RoleName(link.role())},
                                              {"carried", carried}})
                          << std::endl;
    return;
  }
  context.console.out() << url << std::endl;
  const std::string within = absl::StrCat(" within ", link.valid_seconds() / 60, " minutes; it logs one browser in, as ",
                                          plan::RoleName(link.role()));
  context.console.Note(carried ? absl::StrCat("open it in a browser on this machine", within,
                                              ". The page is there while this runs; Ctrl-C ends it")
                               : absl::StrCat("open it in a browser on the farm's machine", within,
                                              ". On other machines: storyctl join there, then storyctl web"));
}

// Carries the page to this machine until it is interrupted or the farm forbids it.
absl::Status CarryPage(const Context& context, FarmClient& farm, const farm::v1::OpenWebResponse& answer, int port) {
  const absl::StatusOr<Link> link = ReadLink(answer.url());
  if (!link.ok()) return link.status();
  const auto tunnel = WebTunnel::Open(farm.client(), port == 0 ? link->port : port, /*or_any_port=*/port == 0);
  if (!tunnel.ok()) return tunnel.status();
  Print(context, answer, absl::StrCat("http://127.0.0.1:", (*tunnel)->port(), link->path), /*carried=*/true);
  std::mutex mutex;
  std::string told;
  const auto on_trouble = [&](const grpc::Status& status) {
    const std::string trouble(farm.Explain(status).message());
    const std::lock_guard<std::mutex> lock(mutex);
    if (trouble == told) return;  // a browser asks every second or two
    told = trouble;
    context.console.Note(trouble);
  };
  return farm.Explain((*tunnel)->Run(on_trouble));
}

}  // namespace

Outcome Web(const Context& context, const WebLinkOptions& options) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  const bool elsewhere = base::NeedsCertificate(target->target);
  if (options.port != 0 && !elsewhere) {
    return absl::InvalidArgumentError(
        "--port is for a farm on another machine; the page of this one has a port already: storyfarm-coordinator --web");
  }
  FarmClient farm(*target);
  farm::v1::OpenWebRequest request;
  request.set_role(RoleOf(options.role));
  const auto link = farm.Call(&Client::OpenWeb, request);
  if (!link.ok()) return link.status();
  if (elsewhere) {
    if (absl::Status ended = CarryPage(context, farm, *link, options.port); !ended.ok()) return ended;
  } else {
    Print(context, *link, link->url(), /*carried=*/false);
  }
  return ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
