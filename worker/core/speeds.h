// How fast a device is with each model by what its frames took: kept over restarts of worker and coordinator, so that
// neither begins from a probe's guess again.
#ifndef STORYFARM_WORKER_CORE_SPEEDS_H_
#define STORYFARM_WORKER_CORE_SPEEDS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "farm/v1/device.pb.h"

namespace storyfarm::worker {

// Models that are remembered; the one drawn with longest ago is forgotten first.
inline constexpr size_t kMostSpeeds = 32;

class Speeds {
 public:
  Speeds() = default;
  explicit Speeds(const farm::v1::DeviceReport& report);

  // A task that was predicted to take `predicted_s` took `took_ms`. True where what is known moved so much since the
  // last true that it is worth keeping.
  bool Observe(const std::string& model_digest, double predicted_s, uint64_t took_ms);

  // The model drawn with last first.
  std::vector<farm::v1::ModelSpeed> List() const;

 private:
  struct Known {
    farm::v1::ModelSpeed speed;
    double kept = 0;  // as it was at the last true; 0: never
  };
  std::vector<Known> known_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_CORE_SPEEDS_H_
