// Hours of the week as a machine's owner says them: "mon-fri 20:00-08:00, sat, sun".
#ifndef STORYFARM_PIPELINE_PLAN_HOURS_H_
#define STORYFARM_PIPELINE_PLAN_HOURS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace storyfarm::plan {

inline constexpr int kMinutesADay = 24 * 60;
inline constexpr int kMinutesAWeek = 7 * kMinutesADay;

// From one minute of the week (Monday 0:00 is 0) up to another, which it leaves out; over Sunday's end where it is not
// later.
struct WeekSpan {
  int first = 0;
  int end = 0;
};

bool Contains(const WeekSpan& span, int minute_of_week);

// "any", or times with commas between: days, hours or both. "19:00-07:00" is every night, "mon-fri 20:00-08:00, sat,
// sun" the nights after working days and the weekend. INVALID_ARGUMENT says what can't be read. Empty: at any hour.
absl::StatusOr<std::vector<WeekSpan>> ParseHours(const std::string& text);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_HOURS_H_
