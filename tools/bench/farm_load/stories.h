// Stories to submit, and the model that they ask for.
#ifndef STORYFARM_TOOLS_BENCH_FARM_LOAD_STORIES_H_
#define STORYFARM_TOOLS_BENCH_FARM_LOAD_STORIES_H_

#include <string>

#include "absl/status/status.h"
#include "farm/v1/client.grpc.pb.h"
#include "tools/bench/farm_load/farm_process.h"
#include "tools/bench/farm_load/load.h"

namespace storyfarm::bench {

inline constexpr int kMostPanels = 20'000;  // of one job, as the farm takes them

// A story of so many panels; the same key and number of panels make the same request.
farm::v1::SubmitRequest StoryOf(const std::string& key, int panels);

// Registers the tests' tiny model, which the stories name.
absl::Status AddModel(const FarmProcess& farm);

// Jobs with `frames` frames in all, under keys that begin with `key`; `took` gets how long each Submit took.
absl::Status SubmitStories(const FarmProcess& farm, const std::string& key, int frames, Latencies* took);

}  // namespace storyfarm::bench

#endif  // STORYFARM_TOOLS_BENCH_FARM_LOAD_STORIES_H_
