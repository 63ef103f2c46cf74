#include "pipeline/sdxl/unet_graphs.h"

#include <utility>

namespace storyfarm::sdxl {

std::unique_ptr<UNetGraphs> UNetGraphs::Create(UNet::Network& net) {
  if (net.placement.stream || device::NewGraphRecorder(net.placement.device) == nullptr) return nullptr;
  return std::unique_ptr<UNetGraphs>(new UNetGraphs(net));
}

bool UNetGraphs::Fits(const Recording& recording, const ForwardStart& start, bool hooked) {
  return recording.hooked == hooked && recording.start.latents.sizes() == start.latents.sizes() &&
         recording.start.context.sizes() == start.context.sizes();
}

void UNetGraphs::Forget() {
  // The graphs first: they read what the tensors hold.
  if (recording_) {
    recording_->text_part.reset();
    recording_->parts.clear();
  }
  recording_.reset();
  recorder_.reset();
}

void UNetGraphs::Record(const ForwardStart& start, bool hooked) {
  recorder_ = device::NewGraphRecorder(net_.placement.device);
  Recording& recording = *recording_;
  recording.start = {start.latents.clone(), start.time.clone(), start.context.clone()};
  recording.text_part = recorder_->Record([&] {
    for (const ForwardUnit& unit : net_.units) {
      if (unit.reads_text != nullptr) recording.text.push_back(unit.reads_text->ProjectText(recording.start.context));
    }
  });
  std::unique_ptr<UNet::Walk> walk;
  while (walk == nullptr || !walk->done()) {
    recording.parts.push_back(recorder_->Record([&] {
      if (walk == nullptr) {
        walk = std::make_unique<UNet::Walk>(net_, recording.start, &recording.text);
      } else {
        walk->Attended(recording.sites.back().y);
      }
      walk->RunToNextSite(hooked);
      if (walk->done()) recording.prediction = walk->TakePrediction();
    }));
    if (!walk->done()) recording.sites.push_back({*walk->site(), walk->x(), at::empty_like(walk->x())});
  }
}

std::optional<at::Tensor> UNetGraphs::Forward(const ForwardStart& start, SelfAttentionHook* hook) {
  const bool hooked = hook != nullptr;
  if (!recording_ || !Fits(*recording_, start, hooked)) {
    Forget();
    recording_.emplace();
    // Its sizes alone.
    recording_->start = {start.latents, start.time, start.context};
    recording_->hooked = hooked;
    return std::nullopt;
  }
  if (recording_->parts.empty()) Record(start, hooked);
  Recording& recording = *recording_;
  recording.start.latents.copy_(start.latents);
  recording.start.time.copy_(start.time);
  if (!recording.context.defined() || recording.context.data_ptr() != start.context.data_ptr()) {
    recording.context = start.context;
    recording.start.context.copy_(start.context);
    recording.text_part->Replay();
  }
  for (size_t i = 0; i < recording.parts.size(); ++i) {
    recording.parts[i]->Replay();
    if (i < recording.sites.size()) {
      Site& site = recording.sites[i];
      site.y.copy_(hook->Attend(site.site, site.x));
    }
  }
  return recording.prediction.clone();
}

}  // namespace storyfarm::sdxl
