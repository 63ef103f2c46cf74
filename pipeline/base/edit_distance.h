// How far a word is from another, for "did you mean".
#ifndef STORYFARM_PIPELINE_BASE_EDIT_DISTANCE_H_
#define STORYFARM_PIPELINE_BASE_EDIT_DISTANCE_H_

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

namespace storyfarm::base {

// Levenshtein distance in characters, or `limit` where it is as much or more: most words differ from the start.
template <typename Char>
size_t EditDistance(std::basic_string_view<Char> a, std::basic_string_view<Char> b, size_t limit) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
    if (*std::min_element(row.begin(), row.end()) >= limit) return limit;  // rows never sink below it again
  }
  return std::min(row[b.size()], limit);
}

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_EDIT_DISTANCE_H_
