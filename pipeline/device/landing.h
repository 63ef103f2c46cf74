// Bytes on their way from a device to host memory while it computes on.
#ifndef STORYFARM_PIPELINE_DEVICE_LANDING_H_
#define STORYFARM_PIPELINE_DEVICE_LANDING_H_

#include <cstddef>
#include <memory>
#include <span>

namespace at {
class Tensor;
}

namespace storyfarm::device {

class Landing {
 public:
  virtual ~Landing() = default;
  // The bytes, once they are there; valid as long as this lives. Any thread, one at a time. May throw c10::Error.
  virtual std::span<const std::byte> Wait() = 0;
};

// Of one computing thread. Host memory of landings that are gone is used again; landings may outlive this.
class Landings {
 public:
  virtual ~Landings() = default;
  // `bytes`: uint8 [n] that the computing stream has been told to fill. May throw c10::Error.
  virtual std::shared_ptr<Landing> Begin(const at::Tensor& bytes) = 0;
};

// Copied at once: for devices that compute in host memory, or have no stream of copies.
std::unique_ptr<Landings> NewCopiedLandings();

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_LANDING_H_
