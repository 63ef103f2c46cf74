// Which other workers a device may fetch what it lacks from: the coordinator knows digests and places, and what was
// fetched by one device already goes on from there. Workers of the farm's machine read from each other over sockets, those
// that joined by code over mutual TLS, and neither from the others: here there are no certificates, there no sockets.
#include <algorithm>

#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {
namespace {

// Peers named in a grant: another one hardly adds anything where these have what is wanted.
constexpr int kMostPeers = 4;
// Nodes looked at for that, beside those that have banks of the job: bounds the time of a grant.
constexpr int kMostLookedAt = 64;

}  // namespace

void Farm::Parts::AddPeers(const Job& job, const Node& to, plan::ModelUse use,
                           const std::vector<const farm::v1::Bank*>& banks,
                           const std::vector<const farm::v1::BlobRef*>& texts, farm::v1::Grant* grant) const {
  const std::set<std::string>& serving = fleet.ServingBeside(to);
  if (serving.empty() || (serving.size() == 1 && serving.count(to.id) > 0)) return;
  std::vector<const std::string*> wanted;
  const auto want = [&](const farm::v1::BlobRef& blob) {
    if (blob.size_bytes() > 0 && to.cached.count(blob.digest()) == 0) wanted.push_back(&blob.digest());
  };
  for (const farm::v1::Bank* bank : banks) {
    for (const farm::v1::BlobRef& step : bank->steps()) want(step);
  }
  for (const farm::v1::BlobRef* text : texts) want(*text);
  for (const farm::v1::ModelFile& file : job.head().model().files()) {
    if (plan::Needs(use, file)) want(file.blob());
  }
  if (wanted.empty()) return;
  std::set<std::string> named;
  const auto add = [&](const std::string& id) {
    const auto found = fleet.nodes.find(id);
    if (id == to.id || found == fleet.nodes.end() || serving.count(id) == 0 || !named.insert(id).second) return;
    farm::v1::Peer peer;
    for (const std::string* digest : wanted) {
      if (found->second.cached.count(*digest) > 0) peer.add_digests(*digest);
    }
    if (peer.digests().empty()) return;
    peer.set_node_id(id);
    peer.set_address(found->second.blob_address);
    peer.set_certificate_host(found->second.certificate_host);
    *grant->add_peers() = std::move(peer);
  };
  if (const auto holders = fleet.bank_nodes.find(job.ordinal()); holders != fleet.bank_nodes.end()) {
    for (const std::string& id : holders->second) {
      if (grant->peers_size() < kMostPeers) add(id);
    }
  }
  // From the next one on, around: each node begins with others, so that no one serves them all.
  auto at = serving.upper_bound(to.id);
  for (int looked = 0; looked < kMostLookedAt && grant->peers_size() < kMostPeers; ++looked, ++at) {
    if (at == serving.end()) at = serving.begin();
    if (looked > 0 && *at == to.id) break;
    add(*at);
  }
}

}  // namespace storyfarm::coordinator
