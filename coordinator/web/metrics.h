// What Prometheus scrapes: the farm's figures and its nodes in the text exposition format, version 0.0.4
// (prometheus.io/docs/instrumenting/exposition_formats).
#ifndef STORYFARM_COORDINATOR_WEB_METRICS_H_
#define STORYFARM_COORDINATOR_WEB_METRICS_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "farm/v1/client.pb.h"
#include "farm/v1/figures.pb.h"

namespace storyfarm::coordinator {

inline constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";

struct MetricsSource {
  std::string software_version;
  size_t open_pages = 0;
  // Errors where this coordinator does not lead: it then tells that, and its version, and nothing of the farm.
  absl::StatusOr<farm::v1::Figures> figures;
  absl::StatusOr<farm::v1::ListNodesResponse> nodes;
};

std::string MetricsText(const MetricsSource& source);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_METRICS_H_
