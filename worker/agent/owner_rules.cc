#include "worker/agent/owner_rules.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace storyfarm::worker {

OwnerRules RulesOf(const farm::v1::WorkerLimits& limits) {
  OwnerRules rules;
  if (!limits.hours().empty()) {
    const plan::WeekSpan never{plan::kMinutesAWeek, plan::kMinutesAWeek + 1};
    rules.hours = plan::ParseHours(limits.hours()).value_or(std::vector<plan::WeekSpan>{never});
    rules.hours_text = limits.hours();
  }
  rules.mains_only = limits.mains_only();
  rules.idle_minutes = limits.idle_minutes();
  return rules;
}

namespace {

std::string WhyTheOwners(const OwnerRules& rules, const Surroundings& surroundings) {
  const auto now = [&](const plan::WeekSpan& span) { return plan::Contains(span, surroundings.minute_of_week); };
  if (!rules.hours.empty() && std::none_of(rules.hours.begin(), rules.hours.end(), now)) {
    return absl::StrCat("its owner lends it at other hours (", rules.hours_text, ")");
  }
  if (rules.mains_only && !surroundings.on_mains.has_value()) {
    return "it does not tell whether it runs on its battery, and works on mains power alone";
  }
  if (rules.mains_only && !*surroundings.on_mains) return "it runs on its battery";
  if (rules.idle_minutes > 0 && !surroundings.idle_s.has_value()) {
    return "it does not tell whether somebody uses it, and works only when nobody does";
  }
  if (rules.idle_minutes > 0 && *surroundings.idle_s < rules.idle_minutes * 60) {
    return absl::StrCat("somebody uses it, or did within ", rules.idle_minutes, " min");
  }
  return "";
}

}  // namespace

Rest RestBy(const OwnerRules& rules, const Surroundings& surroundings) {
  Rest rest{WhyTheOwners(rules, surroundings)};
  if (rest.why.empty() && rules.cool_only && surroundings.too_hot.value_or(false)) {
    rest = {"it is too hot", /*finish=*/true};
  }
  return rest;
}

}  // namespace storyfarm::worker
