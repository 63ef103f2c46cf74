#include "coordinator/web/metrics.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::Distribution;

struct Label {
  absl::string_view name;
  std::string value;
};
using Labels = std::vector<Label>;

std::string KindName(farm::v1::TaskKind kind) {
  return absl::AsciiStrToLower(absl::StripPrefix(farm::v1::TaskKind_Name(kind), "TASK_"));
}

std::string ResultName(farm::v1::FailureKind failure) {
  if (failure == farm::v1::FAILURE_KIND_UNSPECIFIED) return "done";
  return absl::AsciiStrToLower(farm::v1::FailureKind_Name(failure));
}

// Writes one family after the other: HELP and TYPE once, then its samples.
class Exposition {
 public:
  void Family(absl::string_view name, absl::string_view type, absl::string_view help) {
    name_ = absl::StrCat("storyfarm_", name);
    absl::StrAppend(&text_, "# HELP ", name_, " ", help, "\n# TYPE ", name_, " ", type, "\n");
  }
  template <typename Number>
  void Sample(const Labels& labels, Number value) {
    Line("", labels, value);
  }
  template <typename Number>
  void Single(absl::string_view name, absl::string_view type, absl::string_view help, Number value) {
    Family(name, type, help);
    Sample({}, value);
  }
  void Histogram(const Labels& labels, const Distribution& distribution) {
    uint64_t below = 0;
    for (int i = 0; i < distribution.counts_size(); ++i) {
      below += distribution.counts(i);
      Labels bucket = labels;
      bucket.push_back({"le", i < distribution.bounds_size() ? absl::StrCat(distribution.bounds(i)) : "+Inf"});
      Line("_bucket", bucket, below);
    }
    // One that nothing fell into yet has no bounds either.
    if (distribution.counts().empty()) {
      Labels bucket = labels;
      bucket.push_back({"le", "+Inf"});
      Line("_bucket", bucket, below);
    }
    Line("_sum", labels, distribution.sum());
    Line("_count", labels, below);
  }
  std::string Take() { return std::move(text_); }

 private:
  template <typename Number>
  void Line(absl::string_view suffix, const Labels& labels, Number value) {
    absl::StrAppend(&text_, name_, suffix);
    for (size_t i = 0; i < labels.size(); ++i) {
      const std::string escaped = absl::StrReplaceAll(labels[i].value, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}});
      absl::StrAppend(&text_, i == 0 ? "{" : ",", labels[i].name, "=\"", escaped, "\"");
    }
    absl::StrAppend(&text_, labels.empty() ? " " : "} ", value, "\n");
  }

  std::string text_;
  std::string name_;
};

void AddNow(const farm::v1::Figures& figures, Exposition& out) {
  out.Family("tasks", "gauge", "Tasks of jobs that have not ended, by kind and state; the queue is ready and blocked.");
  for (const auto& count : figures.tasks()) {
    out.Sample({{"kind", KindName(count.kind())}, {"state", plan::StateName(count.state())}}, count.tasks());
  }
  out.Family("jobs", "gauge", "Jobs that the coordinator has in memory, by state.");
  for (const auto& count : figures.jobs()) out.Sample({{"state", plan::StateName(count.state())}}, count.jobs());
  out.Single("jobs_paused", "gauge", "Jobs that a person paused.", figures.jobs_paused());
  out.Single("jobs_archived", "gauge", "Ended jobs in the archive.", figures.jobs_archived());
  out.Single("dispatch_held", "gauge", "1 while nothing is handed out, as the disk is low.",
             figures.dispatch_held().empty() ? 0 : 1);
}

void AddCounters(const farm::v1::Figures& figures, Exposition& out) {
  out.Single("leading_seconds", "gauge", "Since when this coordinator leads; the counters began at 0 then.",
             static_cast<double>(figures.leading_ms()) / 1000);
  out.Single("jobs_accepted_total", "counter", "Jobs accepted.", figures.jobs_accepted());
  out.Family("jobs_ended_total", "counter", "Jobs ended, by how.");
  for (const auto& count : figures.jobs_ended()) out.Sample({{"state", plan::StateName(count.state())}}, count.jobs());
  out.Single("tasks_granted_total", "counter", "Tasks handed to a device.", figures.tasks_granted());
  out.Family("attempts_total", "counter", "Attempts ended, by kind of task and result: done, or why not.");
  for (const auto& count : figures.attempts()) {
    out.Sample({{"kind", KindName(count.kind())}, {"result", ResultName(count.failure())}}, count.attempts());
  }
  out.Single("tasks_failed_total", "counter", "Tasks that failed for good.", figures.tasks_failed());
  out.Single("packs_hit_total", "counter", "Identities taken from a pack.", figures.packs_hit());
  out.Single("packs_stored_total", "counter", "Identities computed and kept as a pack.", figures.packs_stored());
  out.Single("packs_lost_total", "counter", "Packs of which files were missing.", figures.packs_lost());
  out.Single("records_total", "counter", "Records made durable.", figures.records());
}

void AddDistributions(const farm::v1::Figures& figures, Exposition& out) {
  out.Family("work_seconds", "histogram", "Rendering a frame or an identity, composing a page, as the device says.");
  for (const auto& each : figures.work_seconds()) out.Histogram({{"kind", KindName(each.kind())}}, each.distribution());
  out.Family("attempt_seconds", "histogram", "From a task's grant to its result taken.");
  for (const auto& each : figures.attempt_seconds()) {
    out.Histogram({{"kind", KindName(each.kind())}}, each.distribution());
  }
  out.Family("job_wait_seconds", "histogram", "From a job's acceptance to its first grant.");
  out.Histogram({}, figures.job_wait_seconds());
  out.Family("job_seconds", "histogram", "From a job's acceptance to its end.");
  out.Histogram({}, figures.job_seconds());
  out.Family("commit_seconds", "histogram", "One group commit of the farm's log.");
  out.Histogram({}, figures.commit_seconds());
  out.Family("peak_over_plan", "histogram", "Measured peak of memory over the planned one; above 1 the plan was too low.");
  out.Histogram({}, figures.peak_over_plan());
}

Labels DeviceLabels(const farm::v1::NodeStatus& node, const farm::v1::DeviceStatus& device) {
  return {{"node", node.name()},
          {"node_id", node.node_id()},
          {"device", absl::StrCat(device.report().index())},
          {"backend", plan::BackendName(device.report().backend())}};
}

// One sample of each device of the nodes that are connected.
template <typename ValueOf>
void AddDevices(const farm::v1::ListNodesResponse& nodes, ValueOf value_of, Exposition& out) {
  for (const auto& node : nodes.nodes()) {
    if (!node.connected()) continue;
    for (const auto& device : node.devices()) out.Sample(DeviceLabels(node, device), value_of(device));
  }
}

void AddNodes(const farm::v1::ListNodesResponse& nodes, Exposition& out) {
  using farm::v1::DeviceStatus;
  out.Family("node_connected", "gauge", "1 for a machine that is connected, 0 for one that was.");
  for (const auto& node : nodes.nodes()) {
    out.Sample({{"node", node.name()}, {"node_id", node.node_id()}}, node.connected() ? 1 : 0);
  }
  out.Family("node_drained", "gauge", "1 for a machine that a person took out of the farm.");
  for (const auto& node : nodes.nodes()) {
    out.Sample({{"node", node.name()}, {"node_id", node.node_id()}}, node.drained() ? 1 : 0);
  }
  out.Family("device_memory_bytes", "gauge", "Memory of a device, by who has it: farm, others, or nobody (free).");
  for (const auto& node : nodes.nodes()) {
    if (!node.connected()) continue;
    for (const auto& device : node.devices()) {
      const farm::v1::DeviceMemory& memory = device.memory();
      for (const auto& [use, bytes] : {std::pair("farm", memory.farm_bytes()), std::pair("others", memory.others_bytes()),
                                       std::pair("free", memory.free_bytes())}) {
        Labels labels = DeviceLabels(node, device);
        labels.push_back({"use", use});
        out.Sample(labels, bytes);
      }
    }
  }
  out.Family("device_memory_total_bytes", "gauge", "Memory of a device in all.");
  AddDevices(nodes, [](const DeviceStatus& device) { return device.report().total_bytes(); }, out);
  out.Family("device_planned_bytes", "gauge", "Peak that the plan of what runs on a device predicts; 0: nothing runs.");
  AddDevices(nodes, [](const DeviceStatus& device) { return device.planned_bytes(); }, out);
  out.Family("device_busy", "gauge", "1 while a device works.");
  AddDevices(nodes, [](const DeviceStatus& device) { return device.task().empty() ? 0 : 1; }, out);
  out.Family("device_queued_tasks", "gauge", "Tasks granted to a device and not begun.");
  AddDevices(nodes, [](const DeviceStatus& device) { return device.queued(); }, out);
  out.Family("device_frames_total", "counter", "Frames that a device finished since this coordinator leads.");
  AddDevices(nodes, [](const DeviceStatus& device) { return device.frames_done(); }, out);
}

}  // namespace

std::string MetricsText(const MetricsSource& source) {
  Exposition out;
  out.Family("build_info", "gauge", "Version of this coordinator.");
  out.Sample({{"version", source.software_version}}, 1);
  out.Single("leads", "gauge", "1 where this coordinator leads the farm, 0 where it stands by.",
             source.figures.ok() ? 1 : 0);
  out.Single("web_pages_open", "gauge", "Browser windows that show the farm.", source.open_pages);
  if (source.figures.ok()) {
    AddNow(*source.figures, out);
    AddCounters(*source.figures, out);
    AddDistributions(*source.figures, out);
  }
  if (source.nodes.ok()) AddNodes(*source.nodes, out);
  return out.Take();
}

}  // namespace storyfarm::coordinator
