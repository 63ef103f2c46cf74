// worker limit: what the farm may take of a machine, said from anywhere.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/limits.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"

namespace storyfarm::storyctl {

using Client = farm::v1::ClientService::StubInterface;

Outcome LimitNode(const Context& context, const LimitNodeOptions& options) {
  farm::v1::LimitNodeRequest request;
  request.set_node(options.node);
  request.set_none(options.none);
  if (options.memory_gb.has_value()) {
    request.set_memory_bytes(static_cast<uint64_t>(std::llround(*options.memory_gb * 1e9)));
  }
  if (options.hours.has_value()) request.set_hours(*options.hours);
  if (options.power.has_value()) request.set_mains_only(*options.power == "mains");
  if (options.idle_minutes.has_value()) request.set_idle_minutes(*options.idle_minutes);
  if (options.devices.has_value()) request.set_devices(*options.devices);
  // What is wrong with it is told before anybody is asked.
  if (const auto readable = plan::ChangeLimits({}, request); !readable.ok()) return readable.status();
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  const auto limited = farm.Call(&Client::LimitNode, request);
  if (!limited.ok()) return limited.status();
  for (const std::string& warning : limited->warnings()) context.console.Warning(warning);
  if (context.json) {
    nlohmann::json json = ToJson(limited->node());
    json["warnings"] = std::vector<std::string>(limited->warnings().begin(), limited->warnings().end());
    context.console.out() << Print(json) << std::endl;
    return ExitCode::kOk;
  }
  const std::string words = plan::LimitsInWords(limited->node().limits());
  context.console.out() << absl::StrCat(options.node, words.empty() ? " has no limits from here" : ": ", words)
                        << std::endl;
  return ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
