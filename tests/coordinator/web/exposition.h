// Prometheus's text format, read as strictly as it is written down: a family's HELP and TYPE once and before its samples,
// its samples together, each once. For tests.
#ifndef STORYFARM_TESTS_COORDINATOR_WEB_EXPOSITION_H_
#define STORYFARM_TESTS_COORDINATOR_WEB_EXPOSITION_H_

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace storyfarm::coordinator {

class Exposition {
 public:
  static Exposition Parse(const std::string& text) {
    Exposition read;
    EXPECT_TRUE(text.empty() || absl::EndsWith(text, "\n"));
    std::string family, type, helped;
    const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
    for (const std::string& line : lines) {
      const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 3));
      if (absl::StartsWith(line, "# HELP ")) {
        helped = words[2];
      } else if (absl::StartsWith(line, "# TYPE ")) {
        EXPECT_EQ(words[2], helped) << "TYPE follows the HELP of its family";
        family = words[2];
        type = words[3];
        EXPECT_TRUE(read.families_.insert(family).second) << family << " stands twice";
        EXPECT_EQ(type == "counter", absl::EndsWith(family, "_total")) << family;
      } else {
        const size_t space = line.rfind(' ');
        const std::string sample = line.substr(0, space);
        const std::string name = sample.substr(0, sample.find('{'));
        const bool part = type == "histogram" && (name == family + "_bucket" || name == family + "_sum" || name == family + "_count");
        EXPECT_TRUE(name == family || part) << line << " is not of " << family;
        double value = 0;
        EXPECT_TRUE(absl::SimpleAtod(line.substr(space + 1), &value)) << line;
        EXPECT_TRUE(read.samples_.emplace(sample, value).second) << sample << " stands twice";
      }
    }
    return read;
  }

  // Of a sample by its name with its labels; a test failure where it is not there.
  double Value(const std::string& sample) const {
    const auto found = samples_.find(sample);
    if (found != samples_.end()) return found->second;
    ADD_FAILURE() << "there is no sample " << sample;
    return -1;
  }
  bool Has(const std::string& sample) const { return samples_.count(sample) > 0; }
  const std::set<std::string>& families() const { return families_; }

 private:
  std::set<std::string> families_;
  std::map<std::string, double> samples_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_TESTS_COORDINATOR_WEB_EXPOSITION_H_
