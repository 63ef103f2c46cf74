// Pictures in another size.
#ifndef STORYFARM_PIPELINE_PAGE_RESAMPLE_H_
#define STORYFARM_PIPELINE_PAGE_RESAMPLE_H_

#include <cstdint>

#include "pipeline/page/png.h"

namespace storyfarm::page {

// `picture` as width x height pixels, both at least 1: Catmull-Rom (Keys 1981, a = -1/2), widened when it shrinks, so
// that nothing aliases. Weights are integers and so is the sum: the same bytes everywhere, where Cairo's scaling
// depends on the processor. Edges repeat.
Picture Resample(const Picture& picture, uint32_t width, uint32_t height);

}  // namespace storyfarm::page

#endif  // STORYFARM_PIPELINE_PAGE_RESAMPLE_H_
