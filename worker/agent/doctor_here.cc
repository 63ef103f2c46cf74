// The doctor's hands: engines, the farm and this machine itself.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "farm/v1/blob.grpc.pb.h"
#include "pipeline/base/farm_channel.h"
#include "worker/agent/doctor.h"
#include "worker/agent/options.h"
#include "worker/agent/program_output.h"
#include "worker/engine/client.h"

namespace storyfarm::worker {
namespace {

// Loading libtorch from a slow disk takes tens of seconds.
constexpr int64_t kEngineWithinMs = 120'000;
constexpr auto kFarmWithin = std::chrono::seconds(5);

absl::StatusOr<std::vector<farm::v1::DeviceReport>> ProbeEngine(const std::string& program, const std::string& device,
                                                                bool all) {
  engine::EngineOptions options;
  options.program = program;
  options.device = device;
  const absl::StatusOr<std::unique_ptr<engine::EngineProcess>> engine = engine::EngineProcess::Start(options);
  if (!engine.ok()) return engine.status();
  farm::v1::EngineRequest request;
  request.mutable_probe()->set_own_only(!all);
  const absl::Status sent = (*engine)->Send(request);
  const absl::StatusOr<farm::v1::EngineEvent> event = sent.ok() ? (*engine)->NextEvent(kEngineWithinMs) : sent;
  if (absl::IsUnavailable(event.status())) return absl::UnavailableError((*engine)->Ending().message());
  if (!event.ok()) return event.status();
  if (event->has_failed()) return absl::InternalError(event->failed().failure().message());
  return std::vector<farm::v1::DeviceReport>(event->probed().devices().begin(), event->probed().devices().end());
}

// Asks which of no blobs are missing: any member may, and it costs nothing.
absl::Status CallFarm(const LinkOptions& link) {
  const auto stub =
      farm::v1::BlobService::NewStub(base::FarmChannel(link.coordinator, link.trust_folder, grpc::ChannelArguments()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kFarmWithin);
  context.set_wait_for_ready(base::NamesSeveral(link.coordinator));
  farm::v1::FindMissingResponse response;
  const grpc::Status status = stub->FindMissing(&context, farm::v1::FindMissingRequest(), &response);
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      base::IsForeignFarm(status.error_message()) ? base::ForeignFarm(link.coordinator)
                                                                  : status.error_message());
}

// The first line of what NVIDIA's module says of itself.
std::string NvidiaDriver() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

int RunDoctor(const AgentOptions& options, bool json) {
  const std::unique_ptr<Machine> machine = Machine::OfSystem();
  const std::unique_ptr<Wakefulness> wakefulness = Wakefulness::OfSystem();
  DoctorParts parts;
  parts.env = &base::Env::Real();
  parts.variables = base::ProcessVariables();
  parts.machine = machine.get();
  parts.wakefulness = wakefulness.get();
  parts.engine_program = engine::FindEngineProgram();
  parts.engine_version = [&parts] {
    return RunWithin(absl::Milliseconds(kEngineWithinMs))(*parts.engine_program, {"--version"});
  };
  parts.probe = [&parts](const std::string& device, bool all) { return ProbeEngine(*parts.engine_program, device, all); };
  parts.call_farm = [&options] { return CallFarm(options.link); };
  parts.nvidia_driver = NvidiaDriver();
  const std::vector<Finding> findings = Examine(options, parts);
  std::fputs((json ? FindingsJson(findings) : FindingsText(findings)).c_str(), stdout);
  return AnyProblem(findings) ? kExitFailure : kExitOk;
}

}  // namespace storyfarm::worker
