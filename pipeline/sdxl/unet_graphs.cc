#include "pipeline/sdxl/unet_graphs.h"

#include <algorithm>
#include <utility>

namespace storyfarm::sdxl {
namespace {

// Of the largest value, what a replay may be off by: libraries may choose other kernels while they are recorded, whose
// sums round otherwise. Memory that was overwritten too early shows at the size of the values themselves.
constexpr double kMostOff = 0.05;

at::Tensor NotOwning(const at::Tensor& x) {
  return at::for_blob(x.data_ptr(), x.sizes())
      .strides(x.strides())
      .options(x.options())
      .target_device(x.device())
      .make_tensor();
}

}  // namespace

std::unique_ptr<UNetGraphs> UNetGraphs::Create(UNet::Network& net) {
  if (net.placement.stream) return nullptr;
  std::unique_ptr<device::GraphRecorder> recorder = device::NewGraphRecorder(net.placement.device);
  return recorder != nullptr ? std::unique_ptr<UNetGraphs>(new UNetGraphs(net, std::move(recorder))) : nullptr;
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
  recorder_->Reset();
}

void UNetGraphs::Record(const ForwardStart& start, bool hooked) {
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
    if (walk->done()) break;
    const at::Tensor& x = walk->x();
    const auto same = std::find_if(recording.sites.begin(), recording.sites.end(),
                                   [&](const Site& site) { return site.y.sizes() == x.sizes(); });
    const at::Tensor y = same != recording.sites.end() ? same->y : at::empty(x.sizes(), x.options());
    recording.sites.push_back({*walk->site(), NotOwning(x), y});
  }
}

template <typename Attend>
at::Tensor UNetGraphs::Replay(const ForwardStart& start, const Attend& attend) {
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
      const Site& site = recording.sites[i];
      site.y.copy_(attend(site.site, site.x));
    }
  }
  return recording.prediction.clone();
}

bool UNetGraphs::ReplaysWhatItShould(const ForwardStart& start) {
  const at::Tensor replayed = Replay(start, [](const SelfAttentionSite& site, const at::Tensor& x) {
                                return site.attention(x);
                              }).to(at::kFloat);
  UNet::Walk walk(net_, start);
  walk.RunToNextSite(/*hooked=*/false);
  const at::Tensor expected = walk.TakePrediction().to(at::kFloat);
  const at::Tensor off = (replayed - expected).abs().max(), largest = expected.abs().max();
  // Not finite at all: not the graphs' fault, and found elsewhere.
  return !largest.isfinite().item<bool>() || off.item<double>() <= kMostOff * largest.item<double>();
}

std::optional<at::Tensor> UNetGraphs::Forward(const ForwardStart& start, SelfAttentionHook* hook) {
  if (broken_) return std::nullopt;
  const bool hooked = hook != nullptr;
  if (!recording_ || !Fits(*recording_, start, hooked)) {
    Forget();
    recording_.emplace();
    // Its sizes alone.
    recording_->start = {start.latents, start.time, start.context};
    recording_->hooked = hooked;
    return std::nullopt;
  }
  if (recording_->parts.empty()) {
    try {
      Record(start, hooked);
      broken_ = !checked_[hooked] && !ReplaysWhatItShould(start);
      checked_[hooked] = true;
      if (broken_) TORCH_WARN("recorded UNet calls replay something else: this model goes on without them");
    } catch (const c10::Error& error) {
      TORCH_WARN("UNet calls can't be recorded, this model goes on without: ", error.what_without_backtrace());
      broken_ = true;
    }
    if (broken_) {
      Forget();
      return std::nullopt;
    }
  }
  return Replay(start, [&](const SelfAttentionSite& site, const at::Tensor& x) { return hook->Attend(site, x); });
}

}  // namespace storyfarm::sdxl
