#include "pipeline/plan/job_view.h"

#include "pipeline/plan/expand.h"

namespace storyfarm::plan {

const farm::v1::Panel& JobView::PanelAt(uint32_t number) const {
  return panels_ != nullptr ? panels_->Get(number) : *FindPanel(job_.story(), number);
}

PanelSize JobView::SizeOf(uint32_t number) const {
  if (panels_ != nullptr) return panels_->SizeOf(number);
  const farm::v1::Panel& panel = PanelAt(number);
  return {panel.width(), panel.height()};
}

}  // namespace storyfarm::plan
