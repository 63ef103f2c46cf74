#include <set>
#include <utility>

#include "pipeline/plan/model_use.h"
#include "worker/core/session.h"

namespace storyfarm::worker {
namespace {

using farm::v1::BlobRef;

// Collects blobs in order, each digest once; those without a digest stand for nothing.
class BlobList {
 public:
  void Add(const BlobRef& blob) {
    if (!blob.digest().empty() && seen_.insert(blob.digest()).second) blobs_.push_back(blob);
  }
  void Add(const farm::v1::Bank& bank) {
    for (const BlobRef& step : bank.steps()) Add(step);
  }
  void Add(const farm::v1::ModelManifest& model, plan::ModelUse use) {
    for (const farm::v1::ModelFile& file : model.files()) {
      if (plan::Needs(use, file)) Add(file.blob());
    }
  }
  void Add(const farm::v1::FrameResult& frame) {
    Add(frame.image());
    Add(frame.latents());
  }
  std::vector<BlobRef> Take() { return std::move(blobs_); }

 private:
  std::set<std::string> seen_;
  std::vector<BlobRef> blobs_;
};

}  // namespace

std::vector<BlobRef> BlobsOf(const farm::v1::Result& result) {
  BlobList blobs;
  if (result.has_frame()) blobs.Add(result.frame());
  if (result.has_identity()) {
    blobs.Add(result.identity().bank());
    for (const auto& frame : result.identity().frames()) blobs.Add(frame);
  }
  if (result.has_text()) blobs.Add(result.text().embeddings());
  if (result.has_page()) {
    blobs.Add(result.page().png());
    blobs.Add(result.page().pdf());
    blobs.Add(result.page().cbz());
  }
  return blobs.Take();
}

std::vector<BlobRef> InputsOf(const farm::v1::Work& work) {
  BlobList blobs;
  if (const farm::v1::ModelManifest* model = plan::ModelOf(work)) blobs.Add(*model, plan::UseOf(work));
  if (work.has_identity()) {
    for (const BlobRef& file : work.identity().text().files()) blobs.Add(file);
  }
  if (work.has_frames()) {
    for (const BlobRef& file : work.frames().text().files()) blobs.Add(file);
    for (const auto& bank : work.frames().banks()) blobs.Add(bank);
  }
  if (work.has_page()) {
    for (const auto& page : work.page().pages()) {
      for (const auto& panel : page.panels()) blobs.Add(panel.image());
    }
    for (const auto& font : work.page().fonts()) blobs.Add(font.blob());
  }
  return blobs.Take();
}

}  // namespace storyfarm::worker
