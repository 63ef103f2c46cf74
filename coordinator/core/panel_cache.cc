#include "coordinator/core/panel_cache.h"

#include <algorithm>

namespace storyfarm::coordinator {

const farm::v1::Panel& PanelCache::Get(const PackedSpec& spec, uint64_t ordinal, uint32_t panel) {
  const Key key{ordinal, panel / PackedSpec::kPanelsABlock};
  auto found = std::find_if(blocks_.begin(), blocks_.end(), [&key](const auto& block) { return block.first == key; });
  if (found == blocks_.end()) {
    if (blocks_.size() >= kBlocks) blocks_.pop_back();
    blocks_.emplace_front(key, spec.Block(key.second));
  } else {
    blocks_.splice(blocks_.begin(), blocks_, found);
  }
  return blocks_.front().second.panels(static_cast<int>(panel % PackedSpec::kPanelsABlock));
}

}  // namespace storyfarm::coordinator
