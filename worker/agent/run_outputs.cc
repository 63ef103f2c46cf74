#include "worker/agent/run_outputs.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/transfer.h"

namespace storyfarm::worker {
namespace {

class Taker {
 public:
  Taker(const RunPlace& place, base::FileStore& cache, Pins& pins) : place_(place), cache_(cache), pins_(pins) {}

  // Moves a file into the cache; an empty path gives an empty ref.
  farm::v1::BlobRef Take(const std::string& path) {
    if (path.empty() || !status_.ok()) return {};
    const std::string whole = path.front() == '/' ? path : base::JoinPath(place_.folder, path);
    if (base::FolderOf(whole) != place_.folder) {
      status_ = absl::InvalidArgumentError(absl::StrCat("the engine names an output outside of its folder: ", path));
      return {};
    }
    absl::StatusOr<base::StoredFile> stored = cache_.AdoptFile(whole);
    if (!stored.ok()) {
      status_ = stored.status();
      return {};
    }
    absl::StatusOr<base::FilePin> pin = cache_.PinFile(stored->digest);
    if (!pin.ok()) {
      status_ = pin.status();
      return {};
    }
    pins_.Add(place_.owner, *std::move(pin));
    return base::MakeBlobRef(*stored);
  }

  const absl::Status& status() const { return status_; }

 private:
  const RunPlace& place_;
  base::FileStore& cache_;
  Pins& pins_;
  absl::Status status_;
};

// Refs only for files that there are.
void Set(farm::v1::BlobRef blob, farm::v1::BlobRef* (farm::v1::FrameResult::*mutable_field)(),
         farm::v1::FrameResult* result) {
  if (!blob.digest().empty()) *(result->*mutable_field)() = std::move(blob);
}

}  // namespace

absl::StatusOr<std::optional<Event>> TakeOutputs(farm::v1::EngineEvent event, const RunPlace& place,
                                                 base::FileStore& cache, Pins& pins) {
  Taker taker(place, cache, pins);
  std::optional<Event> out;
  switch (event.kind_case()) {
    case farm::v1::EngineEvent::kStep: {
      const farm::v1::StepDone& step = event.step();
      out = StepReached{place.run, {step.panels().begin(), step.panels().end()}, step.step(), step.steps()};
      break;
    }
    case farm::v1::EngineEvent::kFrame: {
      farm::v1::FrameDone& frame = *event.mutable_frame();
      FrameStored stored;
      stored.run = place.run;
      stored.hidden = frame.hidden();
      stored.result.set_panel(frame.panel());
      if (!frame.hidden()) {  // a hidden frame's latents serve nobody
        Set(taker.Take(frame.image_path()), &farm::v1::FrameResult::mutable_image, &stored.result);
        Set(taker.Take(frame.latents_path()), &farm::v1::FrameResult::mutable_latents, &stored.result);
      }
      stored.result.set_render_ms(frame.render_ms());
      stored.result.set_peak_bytes(frame.peak_bytes());
      stored.result.set_predicted_peak_bytes(frame.predicted_peak_bytes());
      stored.result.mutable_warnings()->Swap(frame.mutable_warnings());
      stored.result.set_finished_unix_ms(static_cast<uint64_t>(cache.env().NowUnixMs()));
      out = std::move(stored);
      break;
    }
    case farm::v1::EngineEvent::kBankStep:
      out = BankStepStored{place.run, event.bank_step().step(), taker.Take(event.bank_step().path())};
      break;
    case farm::v1::EngineEvent::kText:
      out = TextStored{place.run, taker.Take(event.text().path())};
      break;
    case farm::v1::EngineEvent::kPages: {
      PagesStored stored;
      stored.run = place.run;
      if (farm::v1::BlobRef png = taker.Take(event.pages().png_path()); !png.digest().empty())
        *stored.result.mutable_png() = std::move(png);
      if (farm::v1::BlobRef pdf = taker.Take(event.pages().pdf_path()); !pdf.digest().empty())
        *stored.result.mutable_pdf() = std::move(pdf);
      if (farm::v1::BlobRef cbz = taker.Take(event.pages().cbz_path()); !cbz.digest().empty())
        *stored.result.mutable_cbz() = std::move(cbz);
      stored.result.set_compose_ms(event.pages().compose_ms());
      out = std::move(stored);
      break;
    }
    case farm::v1::EngineEvent::kRun:
      out = RunEnded{place.run, event.run().render_ms(), event.run().peak_bytes()};
      break;
    case farm::v1::EngineEvent::kFailed:
      out = RunFailed{place.run, std::move(*event.mutable_failed()->mutable_failure())};
      break;
    default:
      break;
  }
  if (!taker.status().ok()) return taker.status();
  return out;
}

}  // namespace storyfarm::worker
