// How a foresight reads: for people and for programs.
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "pipeline/plan/names.h"
#include "pipeline/plan/settings.h"
#include "tools/storyctl/console.h"
#include "tools/storyctl/foresight.h"
#include "tools/storyctl/json.h"

namespace storyfarm::storyctl {
namespace {

// Panels named one by one; more of them are counted.
constexpr size_t kMostPanelsNamed = 12;

std::string Counted(uint64_t count, const char* what) { return absl::StrCat(count, " ", what, count == 1 ? "" : "s"); }

std::string AndList(const std::vector<std::string>& names) {
  if (names.size() < 2) return absl::StrJoin(names, "");
  return absl::StrCat(absl::StrJoin(names.begin(), names.end() - 1, ", "), " and ", names.back());
}

std::string Row(const char* subject, const std::string& text) { return absl::StrFormat("    %-12s%s", subject, text); }

// Seconds below a minute keep a digit: a small model's group takes less than one.
std::string Duration(double seconds) {
  return seconds < 60 ? absl::StrFormat("%.1f s", seconds) : FormatSeconds(seconds);
}

std::string Weights(const farm::v1::MemoryPlan& plan) {
  const char* format = plan.int8_weights() ? " in int8" : "";
  std::string kept = absl::StrCat("kept in the device's memory", *format ? ", the UNet's" : "", format);
  if (plan.weights() == farm::v1::STREAMED) {
    kept = absl::StrCat(FormatBytes(plan.resident_weight_bytes()), " of the UNet's", format,
                        " in the device's memory, the rest read from the model's file as it is used");
  }
  return absl::StrCat(kept, plan.text_encoders_in_phases() ? "; text encoders loaded for the prompts, then released"
                                                           : "; text encoders stay beside the UNet");
}

std::string UNet(const farm::v1::MemoryPlan& plan, const farm::v1::GroupShape& shape) {
  std::string text = absl::StrCat(Counted(plan.batch(), "frame"), plan.lock_step() ? " in lock step" : " in a call");
  if (shape.guidance()) {
    absl::StrAppend(&text, plan.guidance_batched() ? ", both halves of the guidance together"
                                                   : ", the halves of the guidance in turn");
  }
  absl::StrAppend(&text, plan.attention_chunk() == 0
                             ? std::string("; attention whole")
                             : absl::StrCat("; attention for ", plan.attention_chunk(), " queries at a time"));
  if (plan.threads() > 0) absl::StrAppend(&text, "; ", Counted(plan.threads(), "thread"));
  return text;
}

std::string Vae(const farm::v1::MemoryPlan& plan) {
  const std::string dtype = plan::DtypeName(plan.vae_dtype());
  if (plan.vae_tile() == 0) return absl::StrCat("whole pictures in ", dtype);
  return absl::StrCat("tiles of ", plan.vae_tile(), " x ", plan.vae_tile(), " latents in ", dtype);
}

std::string MemoryOf(const Foresight& foresight) {
  const farm::v1::DeviceReport& report = foresight.device.report;
  return absl::StrCat(FormatBytes(report.total_bytes()), report.unified() ? " shared with the host" : "", ", ",
                      FormatBytes(foresight.budget_bytes), " for a group");
}

std::string Smallest(const Foresight& foresight) {
  if (foresight.needed_free_bytes == 0) return "no amount of memory would do";
  // Rounded up: what is said must do.
  const double gigabytes = static_cast<double>((foresight.needed_free_bytes + 99'999'999) / 100'000'000) / 10;
  const farm::v1::DeviceReport& report = foresight.device.report;
  const bool advised =
      report.recommended_max_bytes() > 0 && report.recommended_max_bytes() < foresight.needed_free_bytes;
  return absl::StrFormat("with %.1f GB free%s it would draw the whole story", gigabytes,
                         advised ? " and recommended by Metal" : "");
}

std::string Bank(const farm::v1::MemoryPlan& plan, const farm::v1::GroupShape& shape) {
  if (shape.identity_pass()) {
    return absl::StrCat("written to files as ",
                        plan.bank_dtype() == farm::v1::BANK_INT8 ? "int8" : plan::DtypeName(plan.dtype()));
  }
  if (plan.bank() == farm::v1::BANK_DEVICE) return "whole in the device's memory";
  return absl::StrCat("read from files through a ring of ", plan.ring_layers(), " layers");
}

}  // namespace

std::string InWords(const DrawnGroup& group) {
  std::string text;
  if (group.kind == farm::v1::TASK_IDENTITY) {
    text = absl::StrCat("identity of ", AndList(group.characters), ": ", Counted(group.shape.frames(), "frame"),
                        group.shape.frames() > 1 ? " drawn together" : "");
    const uint64_t hidden = group.shape.frames() - group.panels.size();
    if (hidden > 0)
      absl::StrAppend(&text, ", ", hidden == group.shape.frames() ? "" : absl::StrCat(hidden, " of them "),
                      "not on a page");
  } else {
    const std::string reads = group.characters.empty()
                                  ? std::string("panels that read no identity")
                                  : absl::StrCat("panels that read ", AndList(group.characters), " (",
                                                 Counted(group.shape.identity_frames(), "identity frame"), ")");
    text = absl::StrCat(reads, ": ", group.times > 1 ? absl::StrCat(group.times, " times ") : "",
                        Counted(group.shape.frames(), "frame"));
  }
  if (group.panels.empty()) return text;
  if (group.panels.size() > kMostPanelsNamed) {
    return absl::StrCat(text, ", ", group.panels.size(), " panels from ", group.panels.front(), " to ",
                        group.panels.back());
  }
  std::vector<std::string> numbers;
  for (const uint32_t panel : group.panels) numbers.push_back(absl::StrCat(panel));
  return absl::StrCat(text, numbers.size() == 1 ? ", panel " : ", panels ", AndList(numbers));
}

std::string InShort(const farm::v1::MemoryPlan& plan) {
  std::vector<std::string> parts = {plan::DtypeName(plan.dtype())};
  const char* int8 = plan.int8_weights() ? " int8" : "";
  if (plan.weights() == farm::v1::STREAMED) {
    parts.push_back(absl::StrCat(FormatBytes(plan.resident_weight_bytes()), " of the UNet's", int8, " weights stay"));
  } else {
    parts.push_back(absl::StrCat("all", int8, " weights stay"));
  }
  if (plan.lock_step()) {
    parts.emplace_back("in lock step");
  } else if (plan.batch() > 1) {
    parts.push_back(absl::StrCat(plan.batch(), " in a call"));
  }
  if (!plan.guidance_batched()) parts.emplace_back("guidance in turn");
  if (plan.attention_chunk() > 0) parts.push_back(absl::StrCat("attention in ", plan.attention_chunk(), "s"));
  if (plan.vae_tile() > 0) parts.push_back(absl::StrCat("VAE in tiles of ", plan.vae_tile()));
  if (plan.text_encoders_in_phases()) parts.emplace_back("text encoders come and go");
  if (plan.bank() == farm::v1::BANK_DEVICE) parts.emplace_back("identity in memory");
  return absl::StrJoin(parts, ", ");
}

std::vector<std::string> InWords(const farm::v1::MemoryPlan& plan, const farm::v1::GroupShape& shape) {
  std::vector<std::string> rows = {Row("numbers", plan::DtypeName(plan.dtype())), Row("weights", Weights(plan)),
                                   Row("UNet", UNet(plan, shape))};
  if (shape.decode()) rows.push_back(Row("VAE", Vae(plan)));
  if (plan.bank() == farm::v1::BANK_DEVICE || plan.bank() == farm::v1::BANK_STREAMED) {
    rows.push_back(Row("bank", Bank(plan, shape)));
  }
  return rows;
}

std::string InWords(const Foresight& foresight, const std::vector<DrawnGroup>& groups) {
  const std::string rests = foresight.device.speed_assumed ? " at the assumed speed" : "";
  std::string text = absl::StrCat(foresight.device.text, ": ", MemoryOf(foresight), "\n");
  for (const std::string& assumed : foresight.device.assumed) absl::StrAppend(&text, "  assumed: ", assumed, "\n");
  std::vector<std::string> before;
  for (size_t i = 0; i < groups.size(); ++i) {
    absl::StrAppend(&text, "  ", InWords(groups[i]), "\n");
    if (const auto* refusal = std::get_if<farm::v1::Refusal>(&foresight.answers[i])) {
      const std::vector<std::string> rows = {refusal->reason()};
      absl::StrAppend(&text, Row("refused", rows == before ? "as the group above" : refusal->reason()), "\n");
      before = rows;
      continue;
    }
    const auto& plan = std::get<farm::v1::MemoryPlan>(foresight.answers[i]);
    const std::string time = absl::StrCat(Duration(groups[i].times * plan.predicted_seconds()), rests);
    absl::StrAppend(
        &text, Row("predicted", absl::StrCat(FormatBytes(plan.predicted_peak_bytes()), " at the peak, ", time)), "\n");
    const std::vector<std::string> rows = InWords(plan, groups[i].shape);
    absl::StrAppend(&text, rows == before ? Row("drawn", "as the group above") : absl::StrJoin(rows, "\n"), "\n");
    before = rows;
  }
  if (foresight.refused) return absl::StrCat(text, "  in all: refused; ", Smallest(foresight), "\n");
  return absl::StrCat(text, "  in all: predicted ", FormatBytes(foresight.peak_bytes), " at the peak, ",
                      Duration(foresight.seconds), rests,
                      "; loading the model, moving files and setting pages not counted\n");
}

nlohmann::json ToJson(const Foresight& foresight, const std::vector<DrawnGroup>& groups) {
  using nlohmann::json;
  json list = json::array();
  for (size_t i = 0; i < groups.size(); ++i) {
    const DrawnGroup& group = groups[i];
    json entry = {{"kind", group.kind == farm::v1::TASK_IDENTITY ? "identity" : "frames"},
                  {"characters", group.characters},
                  {"panels", group.panels},
                  {"frames", group.shape.frames()},
                  {"identity_frames", group.shape.identity_frames()},
                  {"times", group.times},
                  {"width", group.shape.width()},
                  {"height", group.shape.height()},
                  {"steps", group.shape.steps()}};
    if (const auto* refusal = std::get_if<farm::v1::Refusal>(&foresight.answers[i])) {
      entry["refusal"] = {{"reason", refusal->reason()},
                          {"needed_bytes", refusal->needed_bytes()},
                          {"offered_bytes", refusal->offered_bytes()}};
    } else {
      entry["plan"] = ToJson(std::get<farm::v1::MemoryPlan>(foresight.answers[i]));
    }
    list.push_back(std::move(entry));
  }
  const farm::v1::DeviceReport& report = foresight.device.report;
  json document = {{"device", foresight.device.text},
                   {"backend", plan::BackendName(report.backend())},
                   {"name", report.name()},
                   {"unified", report.unified()},
                   {"total_bytes", report.total_bytes()},
                   {"free_bytes", report.free_bytes()},
                   {"recommended_max_bytes", report.recommended_max_bytes()},
                   {"speed_tflops", report.speed_tflops()},
                   {"speed_assumed", foresight.device.speed_assumed},
                   {"assumed", foresight.device.assumed},
                   {"budget_bytes", foresight.budget_bytes},
                   {"groups", list},
                   {"refused", foresight.refused}};
  if (foresight.refused) {
    document["needed_free_bytes"] = foresight.needed_free_bytes > 0 ? json(foresight.needed_free_bytes) : json(nullptr);
  } else {
    document["predicted_peak_bytes"] = foresight.peak_bytes;
    document["predicted_seconds"] = foresight.seconds;
  }
  return document;
}

}  // namespace storyfarm::storyctl
