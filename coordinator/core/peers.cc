// Which other workers a device may fetch what it lacks from: the coordinator knows digests and places, and what was
// fetched by one device already goes on from there.
#include <algorithm>

#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {
namespace {

// Peers named in a grant: another one hardly adds anything where these have what is wanted.
constexpr int kMostPeers = 4;
// Nodes looked at for that, beside those that have banks of the job: bounds the time of a grant.
constexpr int kMostLookedAt = 64;

}  // namespace

void Farm::Parts::AddPeers(const Job& job, const Node& to, const std::vector<const farm::v1::Bank*>& banks,
                           const std::vector<const farm::v1::BlobRef*>& texts, farm::v1::Grant* grant) const {
  if (to.elsewhere || fleet.serving.empty() || (fleet.serving.size() == 1 && fleet.serving.count(to.id) > 0)) return;
  std::vector<const std::string*> wanted;
  const auto want = [&](const farm::v1::BlobRef& blob) {
    if (blob.size_bytes() > 0 && to.cached.count(blob.digest()) == 0) wanted.push_back(&blob.digest());
  };
  for (const farm::v1::Bank* bank : banks) {
    for (const farm::v1::BlobRef& step : bank->steps()) want(step);
  }
  for (const farm::v1::BlobRef* text : texts) want(*text);
  for (const farm::v1::ModelFile& file : job.head().model().files()) want(file.blob());
  if (wanted.empty()) return;
  std::set<std::string> named;
  const auto add = [&](const std::string& id) {
    const auto found = fleet.nodes.find(id);
    if (id == to.id || found == fleet.nodes.end() || fleet.serving.count(id) == 0 || !named.insert(id).second) return;
    farm::v1::Peer peer;
    for (const std::string* digest : wanted) {
      if (found->second.cached.count(*digest) > 0) peer.add_digests(*digest);
    }
    if (peer.digests().empty()) return;
    peer.set_node_id(id);
    peer.set_address(found->second.blob_address);
    *grant->add_peers() = std::move(peer);
  };
  if (const auto holders = fleet.bank_nodes.find(job.ordinal()); holders != fleet.bank_nodes.end()) {
    for (const std::string& id : holders->second) {
      if (grant->peers_size() < kMostPeers) add(id);
    }
  }
  // From the next one on, around: each node begins with others, so that no one serves them all.
  auto at = fleet.serving.upper_bound(to.id);
  for (int looked = 0; looked < kMostLookedAt && grant->peers_size() < kMostPeers; ++looked, ++at) {
    if (at == fleet.serving.end()) at = fleet.serving.begin();
    if (looked > 0 && *at == to.id) break;
    add(*at);
  }
}

}  // namespace storyfarm::coordinator
