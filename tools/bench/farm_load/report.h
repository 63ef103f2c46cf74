// What was measured, for people and for programs.
#ifndef STORYFARM_TOOLS_BENCH_FARM_LOAD_REPORT_H_
#define STORYFARM_TOOLS_BENCH_FARM_LOAD_REPORT_H_

#include <string>

#include "tools/bench/farm_load/load.h"
#include "tools/bench/farm_load/probes.h"

namespace storyfarm::bench {

struct Measured {
  double submit_frames_a_second = 0;  // of the pending stories
  double coordinator_bytes_a_frame = 0;
  double coordinator_bytes_a_later_frame = 0;  // of the second half: what submitting itself takes is there already
  double redis_bytes_a_frame = 0;
  double connect_seconds = 0;
  int connected = 0;
  double frames_a_second = 0;
  double pages_a_second = 0;
  double coordinator_cores = 0;  // busy on average while it was measured
  double redis_cores = 0;
  double load_cores = 0;  // of this program
  double finished_p50_ms = 0;
  double finished_p99_ms = 0;
  double heartbeat_p99_ms = 0;
  double status_p99_ms = 0;
  double submit_p99_ms = 0;
  size_t heartbeats = 0;
  size_t statuses = 0;
  size_t submits = 0;
  long long stale = 0, faults = 0, failed_uploads = 0;
  int broken_streams = 0, failed_probes = 0;
  OverloadResults overload;
  bool ran_out = false;              // the frames ended before the time: the rates are too low
  double frames_a_second_after = 0;  // after the overload: it goes on
};

// Machine, versions and commit, then a row a figure with its goal.
std::string Table(const LoadOptions& options, const Measured& measured);
std::string Json(const LoadOptions& options, const Measured& measured);

}  // namespace storyfarm::bench

#endif  // STORYFARM_TOOLS_BENCH_FARM_LOAD_REPORT_H_
