#include "worker/agent/owner_rules.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace storyfarm::worker {
namespace {

constexpr std::array<absl::string_view, 7> kDays{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

absl::Status Unreadable(absl::string_view part) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", part, "\" is no time: write hours as in \"19:00-07:00\", days as in \"mon-fri 20:00-08:00, "
                   "sat, sun\", or \"any\"."));
}

std::optional<int> ReadDay(absl::string_view text) {
  const auto day = std::find(kDays.begin(), kDays.end(), text);
  return day == kDays.end() ? std::nullopt : std::optional<int>(static_cast<int>(day - kDays.begin()));
}

// "7:30" or "24:00" as minutes of the day.
std::optional<int> ReadMinute(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  int hour = 0, minute = 0;
  if (parts.size() != 2 || parts[1].size() != 2 || !absl::SimpleAtoi(parts[0], &hour) ||
      !absl::SimpleAtoi(parts[1], &minute)) {
    return std::nullopt;
  }
  const int minutes = hour * 60 + minute;
  if (hour < 0 || minute < 0 || minute > 59 || minutes > kMinutesADay) return std::nullopt;
  return minutes;
}

// "mon-fri 20:00-08:00", "sat", "1:00-5:00": one span for each day.
absl::Status ReadPart(absl::string_view part, std::vector<WeekSpan>& spans) {
  const std::vector<absl::string_view> words = absl::StrSplit(part, ' ', absl::SkipEmpty());
  int first_day = 0, last_day = 6, first = 0, end = kMinutesADay;
  bool days_said = false, hours_said = false;
  for (const absl::string_view word : words) {
    const std::vector<absl::string_view> ends = absl::StrSplit(word, '-');
    if (ends.size() > 2) return Unreadable(part);
    const absl::string_view last_word = ends.back();
    if (const auto day = ReadDay(ends.front()); day.has_value() && !days_said && !hours_said) {
      const auto last = ReadDay(last_word);
      if (!last.has_value()) return Unreadable(part);
      first_day = *day;
      last_day = *last;
      days_said = true;
      continue;
    }
    const auto from = ReadMinute(ends.front());
    const auto until = ReadMinute(last_word);
    if (hours_said || ends.size() != 2 || !from.has_value() || !until.has_value() || *from == *until) {
      return Unreadable(part);
    }
    first = *from;
    end = *until;
    hours_said = true;
  }
  if (!days_said && !hours_said) return Unreadable(part);
  for (int day = first_day;; day = (day + 1) % 7) {
    // Hours that end before they begin end on the next day.
    const int length = end > first ? end - first : end + kMinutesADay - first;
    const int from = day * kMinutesADay + first;
    spans.push_back({from % kMinutesAWeek, (from + length) % kMinutesAWeek});
    if (day == last_day) return absl::OkStatus();
  }
}

bool Contains(const WeekSpan& span, int minute) {
  if (span.first < span.end) return minute >= span.first && minute < span.end;
  return minute >= span.first || minute < span.end;
}

}  // namespace

absl::StatusOr<std::vector<WeekSpan>> ParseHours(const std::string& text) {
  std::vector<WeekSpan> spans;
  const std::string lower = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text));
  if (lower == "any") return spans;
  for (const absl::string_view part : absl::StrSplit(lower, ',')) {
    if (absl::Status status = ReadPart(absl::StripAsciiWhitespace(part), spans); !status.ok()) return status;
  }
  return spans;
}

namespace {

std::string WhyTheOwners(const OwnerRules& rules, const Surroundings& surroundings) {
  const auto now = [&](const WeekSpan& span) { return Contains(span, surroundings.minute_of_week); };
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
