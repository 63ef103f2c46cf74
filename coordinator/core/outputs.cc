#include <algorithm>

#include "absl/strings/str_format.h"
#include "coordinator/core/farm.h"

namespace storyfarm::coordinator {
namespace {

void Add(std::vector<farm::v1::Output>& outputs, std::string path, const farm::v1::BlobRef& blob) {
  if (blob.digest().empty()) return;
  farm::v1::Output& output = outputs.emplace_back();
  output.set_path(std::move(path));
  *output.mutable_blob() = blob;
}

}  // namespace

std::vector<farm::v1::Output> OutputsOf(const farm::v1::JobStatus& status) {
  std::vector<farm::v1::Output> outputs;
  for (const auto& task : status.tasks()) {
    const uint32_t number = task.task().number();
    if (task.has_frame()) {
      Add(outputs, absl::StrFormat("panels/%03d.png", number), task.frame().image());
      Add(outputs, absl::StrFormat("latents/%03d.safetensors", number), task.frame().latents());
    }
    if (task.has_page()) {
      Add(outputs, absl::StrFormat("pages/%02d.png", number), task.page().png());
      Add(outputs, "story.pdf", task.page().pdf());
      Add(outputs, "story.cbz", task.page().cbz());
    }
  }
  std::sort(outputs.begin(), outputs.end(),
            [](const farm::v1::Output& a, const farm::v1::Output& b) { return a.path() < b.path(); });
  return outputs;
}

}  // namespace storyfarm::coordinator
