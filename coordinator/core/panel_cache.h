// Panels as work is made of them: the blocks that were unpacked last, of all jobs of one farm. Frames are granted in
// order and a block is larger than a group, so few blocks are wanted at a time.
#ifndef STORYFARM_COORDINATOR_CORE_PANEL_CACHE_H_
#define STORYFARM_COORDINATOR_CORE_PANEL_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <utility>

#include "coordinator/core/packed_spec.h"
#include "farm/v1/story.pb.h"
#include "pipeline/plan/job_view.h"

namespace storyfarm::coordinator {

class PanelCache {
 public:
  // About 50 KB each. Where more jobs than that take turns, each turn of one unpacks a block.
  static constexpr size_t kBlocks = 64;

  // Valid until the next call. `ordinal`: the job's.
  const farm::v1::Panel& Get(const PackedSpec& spec, uint64_t ordinal, uint32_t panel);

 private:
  using Key = std::pair<uint64_t, uint32_t>;  // job and block
  std::list<std::pair<Key, farm::v1::Chapter>> blocks_;  // those used last first
};

// Of one job.
class JobPanels : public plan::PanelSource {
 public:
  JobPanels(std::shared_ptr<const PackedSpec> spec, uint64_t ordinal, PanelCache* cache)
      : spec_(std::move(spec)), ordinal_(ordinal), cache_(cache) {}
  const farm::v1::Panel& Get(uint32_t number) const override { return cache_->Get(*spec_, ordinal_, number); }
  plan::PanelSize SizeOf(uint32_t number) const override { return spec_->SizeOf(number); }

  const PackedSpec& spec() const { return *spec_; }
  const std::shared_ptr<const PackedSpec>& shared_spec() const { return spec_; }
  uint64_t ordinal() const { return ordinal_; }

 private:
  std::shared_ptr<const PackedSpec> spec_;
  uint64_t ordinal_;
  PanelCache* cache_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_PANEL_CACHE_H_
