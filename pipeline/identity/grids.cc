#include <algorithm>

#include "pipeline/identity/identity.h"

namespace storyfarm::identity {

std::vector<Grid> GridsOf(const std::vector<sdxl::SelfAttentionLayer>& layers, int64_t latent_height,
                          int64_t latent_width) {
  std::vector<Grid> grids;
  for (const sdxl::SelfAttentionLayer& layer : layers) {
    const int64_t by = layer.downsampling;
    grids.push_back({(latent_height + by - 1) / by, (latent_width + by - 1) / by});
  }
  return grids;
}

std::vector<Grid> DistinctGrids(const std::vector<Grid>& grids) {
  std::vector<Grid> distinct = grids;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  return distinct;
}

}  // namespace storyfarm::identity
