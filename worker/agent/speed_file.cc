#include "worker/agent/speed_file.h"

#include <utility>

#include "farm/v1/engine.pb.h"

namespace storyfarm::worker {
namespace {

// A few models of a few devices.
constexpr uint64_t kMostBytes = uint64_t{1} << 20;

bool Same(const farm::v1::DeviceReport& a, const farm::v1::DeviceReport& b) {
  return a.backend() == b.backend() && a.ordinal() == b.ordinal() && a.name() == b.name();
}

}  // namespace

SpeedFile::SpeedFile(base::Env* env, base::Log* log, std::string path) : env_(env), log_(log), path_(std::move(path)) {}

void SpeedFile::Recall(std::vector<farm::v1::DeviceReport>& devices) const {
  const absl::StatusOr<std::string> bytes = env_->ReadFile(path_, kMostBytes);
  if (absl::IsNotFound(bytes.status())) return;
  farm::v1::Probed kept;  // the devices as they were
  if (!bytes.ok() || !kept.ParseFromString(*bytes)) {
    log_->Warning("what is known of the devices' speeds can't be read: they are learned anew",
                  {{"file", path_}, {"why", bytes.ok() ? "it is damaged" : std::string(bytes.status().message())}});
    return;
  }
  for (farm::v1::DeviceReport& device : devices) {
    for (const farm::v1::DeviceReport& before : kept.devices()) {
      if (Same(device, before)) *device.mutable_speeds() = before.speeds();
    }
  }
}

absl::Status SpeedFile::Keep(const std::vector<farm::v1::DeviceReport>& devices) const {
  farm::v1::Probed kept;
  for (const farm::v1::DeviceReport& device : devices) {
    farm::v1::DeviceReport& entry = *kept.add_devices();
    entry.set_backend(device.backend());
    entry.set_ordinal(device.ordinal());
    entry.set_name(device.name());
    *entry.mutable_speeds() = device.speeds();
  }
  return env_->WriteFileDurably(path_, kept.SerializeAsString());
}

}  // namespace storyfarm::worker
