// What --json prints: the messages' own field names, digests as hex, enums as the words that people see.
#ifndef STORYFARM_TOOLS_STORYCTL_JSON_H_
#define STORYFARM_TOOLS_STORYCTL_JSON_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "farm/v1/client.pb.h"
#include "farm/v1/problem.pb.h"

namespace storyfarm::storyctl {

nlohmann::json ToJson(const farm::v1::JobStatus& status);
nlohmann::json ToJson(const farm::v1::WorkerLimits& limits);
nlohmann::json ToJson(const farm::v1::NodeStatus& node);
nlohmann::json ToJson(const farm::v1::LogLine& line);
nlohmann::json ToJson(const farm::v1::PackUse& pack);
// In full: with settings, plan, and the digests of steps and frames.
nlohmann::json ToJson(const farm::v1::PackStatus& pack, bool in_full);
nlohmann::json ToJson(const farm::v1::ModelManifest& model);
nlohmann::json ToJson(const farm::v1::RenderSettings& settings);
nlohmann::json ToJson(const farm::v1::MemoryPlan& plan);
nlohmann::json ToJson(const std::vector<farm::v1::Problem>& problems);

// The text of a document, ready to print: two spaces a level, or one line. Bytes that are not UTF-8 are replaced.
std::string Print(const nlohmann::json& document, bool one_line = false);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_JSON_H_
