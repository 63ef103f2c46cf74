#include "tools/bench/farm_load/report.h"

#include <google/protobuf/stubs/common.h>
#include <grpcpp/grpcpp.h>
#include <stdio.h>
#include <stdlib.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace storyfarm::bench {
namespace {

// The first line that a command prints; "unknown" where there is none.
std::string FirstLine(const std::string& command) {
  std::string line;
  if (FILE* const pipe = popen(command.c_str(), "r"); pipe != nullptr) {
    char buffer[256];
    if (fgets(buffer, sizeof(buffer), pipe) != nullptr) line = buffer;
    pclose(pipe);
  }
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line.empty() ? "unknown" : line;
}

std::string Processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

double LoadAverage() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : 0;
}

nlohmann::json Where() {
  const int protobuf = GOOGLE_PROTOBUF_VERSION;
  return {{"processor", Processor()},
          {"cores", std::thread::hardware_concurrency()},
          {"load_average_1m", LoadAverage()},
          {"redis", FirstLine("redis-server --version")},
          {"grpc", grpc::Version()},
          {"protobuf", absl::StrFormat("%d.%d.%d", protobuf / 1000000, protobuf / 1000 % 1000, protobuf % 1000)},
          {"compiler", __VERSION__},
          {"built", STORYFARM_BUILD},
          {"commit", FirstLine("git -C '" STORYFARM_SOURCE_DIR "' describe --always --dirty 2>/dev/null")}};
}

std::string Row(const std::string& what, const std::string& figure, const std::string& goal) {
  return absl::StrFormat("  %-46s %14s   %s\n", what, figure, goal);
}
std::string Number(double value) { return absl::StrFormat("%.0f", value); }
std::string Ms(double value) { return absl::StrFormat("%.1f ms", value); }

// Says what a frame costs where other programs share the machine: rates and latencies then do not.
double CoordinatorMicroseconds(const Measured& measured) {
  return measured.frames_a_second > 0 ? measured.coordinator_cores / measured.frames_a_second * 1e6 : 0;
}

}  // namespace

std::string Table(const LoadOptions& options, const Measured& measured) {
  const nlohmann::json where = Where();
  const auto text = [&](const char* key) { return where[key].get<std::string>(); };
  std::string table =
      absl::StrFormat("%s, %d cores, load average %.1f; %s; gRPC %s, protobuf %s, compiler %s, built %s; commit %s\n",
                      text("processor"), where["cores"].get<int>(), where["load_average_1m"].get<double>(),
                      text("redis"), text("grpc"), text("protobuf"), text("compiler"), text("built"), text("commit"));
  absl::StrAppendFormat(
      &table, "%d workers, %d frames pending, %d s, %s, %s; appendfsync always; all on this machine\n", options.workers,
      options.frames, options.seconds, options.blobs ? "a blob of 256 KiB a frame" : "digests only",
      options.rate == 0 ? "engines that finish at once"
                        : absl::StrCat("engines that finish ", options.rate, " frames a second"));
  table += Row("frames accepted and cleared a second", Number(measured.frames_a_second),
               options.blobs ? "goal 300" : "goal 5000");
  table += Row("  finished to cleared, p50 / p99",
               absl::StrCat(Number(measured.finished_p50_ms), " / ", Ms(measured.finished_p99_ms)), "");
  table += Row("  pages beside them a second", Number(measured.pages_a_second), "");
  table += Row(
      "  busy cores: coordinator / Redis / load",
      absl::StrFormat("%.2f / %.2f / %.2f", measured.coordinator_cores, measured.redis_cores, measured.load_cores), "");
  table += Row("  coordinator's processor a frame", absl::StrFormat("%.0f us", CoordinatorMicroseconds(measured)), "");
  table += Row("workers connected", absl::StrFormat("%d in %.1f s", measured.connected, measured.connect_seconds),
               "goal 1000");
  table += Row("coordinator's resident bytes a pending frame", Number(measured.coordinator_bytes_a_frame),
               "goal 128; with the story's text");
  table += Row("  of the second half of them", Number(measured.coordinator_bytes_a_later_frame), "");
  table += Row("  Redis's", Number(measured.redis_bytes_a_frame), "");
  table += Row("frames submitted a second", Number(measured.submit_frames_a_second), "");
  table +=
      Row(absl::StrCat("heartbeat heard, p99 of ", measured.heartbeats), Ms(measured.heartbeat_p99_ms), "goal 100 ms");
  table += Row(absl::StrCat("status, p99 of ", measured.statuses), Ms(measured.status_p99_ms), "goal 250 ms");
  table +=
      Row(absl::StrCat("submit of 12 panels, p99 of ", measured.submits), Ms(measured.submit_p99_ms), "goal 250 ms");
  const OverloadResults& overload = measured.overload;
  table +=
      Row(absl::StrCat("overload: ", overload.calls, " calls at once"), absl::StrFormat("%.1f s", overload.seconds),
          absl::StrCat(overload.served, " served, ", overload.refused, " RESOURCE_EXHAUSTED with a time, ",
                       overload.unexplained, " other"));
  table += Row("  frames a second after it", Number(measured.frames_a_second_after), "it goes on");
  table += Row("broken streams / failed probes / faults",
               absl::StrCat(measured.broken_streams, " / ", measured.failed_probes, " / ", measured.faults), "none");
  table += Row("stale results / failed uploads", absl::StrCat(measured.stale, " / ", measured.failed_uploads), "none");
  if (measured.ran_out) table += "  THE FRAMES RAN OUT: the rates above are too low. Give more of --frames.\n";
  return table;
}

std::string Json(const LoadOptions& options, const Measured& measured) {
  const OverloadResults& overload = measured.overload;
  const nlohmann::json json = {
      {"where", Where()},
      {"options",
       {{"workers", options.workers},
        {"frames", options.frames},
        {"seconds", options.seconds},
        {"rate", options.rate},
        {"blobs", options.blobs}}},
      {"frames_a_second", measured.frames_a_second},
      {"pages_a_second", measured.pages_a_second},
      {"finished_to_cleared_ms", {{"p50", measured.finished_p50_ms}, {"p99", measured.finished_p99_ms}}},
      {"busy_cores",
       {{"coordinator", measured.coordinator_cores}, {"redis", measured.redis_cores}, {"load", measured.load_cores}}},
      {"coordinator_us_a_frame", CoordinatorMicroseconds(measured)},
      {"connected", measured.connected},
      {"connect_seconds", measured.connect_seconds},
      {"coordinator_bytes_a_frame", measured.coordinator_bytes_a_frame},
      {"coordinator_bytes_a_later_frame", measured.coordinator_bytes_a_later_frame},
      {"redis_bytes_a_frame", measured.redis_bytes_a_frame},
      {"submit_frames_a_second", measured.submit_frames_a_second},
      {"p99_ms",
       {{"heartbeat", measured.heartbeat_p99_ms},
        {"status", measured.status_p99_ms},
        {"submit", measured.submit_p99_ms}}},
      {"overload",
       {{"calls", overload.calls},
        {"served", overload.served},
        {"refused", overload.refused},
        {"unexplained", overload.unexplained},
        {"seconds", overload.seconds},
        {"frames_a_second_after", measured.frames_a_second_after}}},
      {"broken_streams", measured.broken_streams},
      {"failed_probes", measured.failed_probes},
      {"faults", measured.faults},
      {"ran_out", measured.ran_out},
      {"stale", measured.stale},
      {"failed_uploads", measured.failed_uploads}};
  return json.dump(2) + "\n";
}

}  // namespace storyfarm::bench
