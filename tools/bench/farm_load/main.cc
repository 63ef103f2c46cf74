// farm_load: see load.h.
#include <grpcpp/client_context.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "tools/bench/farm_load/farm_process.h"
#include "tools/bench/farm_load/fleet.h"
#include "tools/bench/farm_load/load.h"
#include "tools/bench/farm_load/probes.h"
#include "tools/bench/farm_load/report.h"
#include "tools/bench/farm_load/stories.h"
#include "tools/bench/farm_load/uploader.h"

namespace storyfarm::bench {
namespace {

constexpr int kOverloadCalls = 40'000;  // four times what the coordinator lets wait
constexpr int kAfterSeconds = 3;

void Sleep(int seconds) { std::this_thread::sleep_for(std::chrono::seconds(seconds)); }

// Each worker has a connection of its own, at both ends; the coordinator inherits the limit.
absl::Status AllowConnections(int workers) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  const auto needed = static_cast<rlim_t>(workers) + 500;
  if (limit.rlim_max >= needed) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("At most ", limit.rlim_max, " files may be open and ", needed, " are needed; see ulimit -Hn."));
}

absl::StatusOr<farm::v1::BlobRef> UploadShared(const FarmProcess& farm) {
  const auto stub = farm::v1::BlobService::NewStub(farm.Connect());
  const std::string bytes = FrameBytes(0);
  const farm::v1::BlobRef blob = RefOf(bytes);
  const absl::Status status = Upload(*stub, blob, bytes, "shared");
  if (!status.ok()) return status;
  return blob;
}

absl::Status FillUp(const FarmProcess& farm, const LoadOptions& options, Measured* measured) {
  const Usage coordinator = farm.Coordinator();
  const Usage redis = farm.Redis();
  Latencies took;
  const double began = NowSeconds();
  const int later = options.frames / 2;
  if (absl::Status status = SubmitStories(farm, "first", options.frames - later, &took); !status.ok()) return status;
  const Usage halfway = farm.Coordinator();
  if (absl::Status status = SubmitStories(farm, "later", later, &took); !status.ok()) return status;
  measured->submit_frames_a_second = options.frames / (NowSeconds() - began);
  const auto a_frame = [](uint64_t before, uint64_t after, int frames) {
    return (static_cast<double>(after) - static_cast<double>(before)) / std::max(1, frames);
  };
  const uint64_t full = farm.Coordinator().resident_bytes;
  measured->coordinator_bytes_a_frame = a_frame(coordinator.resident_bytes, full, options.frames);
  measured->coordinator_bytes_a_later_frame = a_frame(halfway.resident_bytes, full, later);
  measured->redis_bytes_a_frame = a_frame(redis.resident_bytes, farm.Redis().resident_bytes, options.frames);
  return absl::OkStatus();
}

// Frames and pages a second, and who was busy, over `seconds`.
void MeasureRate(const FarmProcess& farm, Tally& tally, int seconds, Measured* measured) {
  const double began = NowSeconds();
  const int64_t frames = tally.frames;
  const int64_t pages = tally.pages;
  const Usage coordinator = farm.Coordinator();
  const Usage redis = farm.Redis();
  const Usage own = OwnUsage();
  Sleep(seconds);
  const double took = NowSeconds() - began;
  measured->frames_a_second = static_cast<double>(tally.frames - frames) / took;
  measured->pages_a_second = static_cast<double>(tally.pages - pages) / took;
  measured->coordinator_cores = (farm.Coordinator().cpu_seconds - coordinator.cpu_seconds) / took;
  measured->redis_cores = (farm.Redis().cpu_seconds - redis.cpu_seconds) / took;
  measured->load_cores = (OwnUsage().cpu_seconds - own.cpu_seconds) / took;
}

absl::StatusOr<Measured> Measure(const LoadOptions& options) {
  if (absl::Status status = AllowConnections(options.workers); !status.ok()) return status;
  auto farm = FarmProcess::Start();
  if (!farm.ok()) return farm.status();
  if (absl::Status status = AddModel(**farm); !status.ok()) return status;
  const auto shared = UploadShared(**farm);
  if (!shared.ok()) return shared.status();
  Measured measured;
  if (absl::Status status = FillUp(**farm, options, &measured); !status.ok()) return status;

  Fleet fleet(**farm, options, *shared);
  const double began = NowSeconds();
  if (absl::Status status = fleet.Connect(); !status.ok()) return status;
  measured.connect_seconds = NowSeconds() - began;
  measured.connected = fleet.tally().welcomed;
  Sleep(options.warm_up_seconds);
  fleet.tally().finished_to_cleared.Clear();
  ProbeResults probed;
  {
    const Probes probes(**farm, &probed);
    MeasureRate(**farm, fleet.tally(), options.seconds, &measured);
  }
  measured.finished_p50_ms = fleet.tally().finished_to_cleared.Percentile(50);
  measured.finished_p99_ms = fleet.tally().finished_to_cleared.Percentile(99);
  measured.heartbeat_p99_ms = probed.heartbeat.Percentile(99);
  measured.status_p99_ms = probed.status.Percentile(99);
  measured.submit_p99_ms = probed.submit.Percentile(99);
  measured.heartbeats = probed.heartbeat.count();
  measured.statuses = probed.status.count();
  measured.submits = probed.submit.count();
  measured.failed_probes = probed.failed;

  measured.overload = Overload(**farm, kOverloadCalls);
  Measured after;
  MeasureRate(**farm, fleet.tally(), kAfterSeconds, &after);
  measured.frames_a_second_after = after.frames_a_second;
  measured.stale = fleet.tally().stale;
  measured.faults = fleet.tally().faults;
  measured.failed_uploads = fleet.tally().failed_uploads;
  measured.broken_streams = fleet.tally().broken;
  measured.ran_out = fleet.tally().frames >= options.frames;
  if (!(*farm)->Runs()) return absl::InternalError(absl::StrCat("The coordinator ended:\n", (*farm)->LogEnd()));
  fleet.Stop();
  return measured;
}

int Main(int argc, char** argv) {
  LoadOptions options;
  CLI::App app("What one coordinator bears: real processes, simulated workers, engines that render nothing.");
  app.add_option("--workers", options.workers, "connected workers")->check(CLI::Range(1, 4000))->capture_default_str();
  app.add_option("--frames", options.frames, "frames pending when the workers come")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "to measure")->check(CLI::Range(1, 3600))->capture_default_str();
  app.add_option("--rate", options.rate, "frames a second that all engines finish; 0: at once")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_flag("--blobs", options.blobs, "each frame uploads 256 KiB of its own");
  app.add_option("--uploads", options.uploads, "uploads at once, with --blobs")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_flag("--json", options.json, "JSON in place of the table");
  CLI11_PARSE(app, argc, argv);
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as the coordinator; workers cost enough here
  const absl::StatusOr<Measured> measured = Measure(options);
  if (!measured.ok()) {
    fprintf(stderr, "farm_load: %s\n", std::string(measured.status().message()).c_str());
    return 1;
  }
  fputs((options.json ? Json(options, *measured) : Table(options, *measured)).c_str(), stdout);
  return 0;
}

}  // namespace
}  // namespace storyfarm::bench

int main(int argc, char** argv) { return storyfarm::bench::Main(argc, argv); }
