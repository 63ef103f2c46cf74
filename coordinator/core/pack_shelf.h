// CharacterPacks inside State: by key, by name, and how much room they take. One pack a key, and the first one stays.
#ifndef STORYFARM_COORDINATOR_CORE_PACK_SHELF_H_
#define STORYFARM_COORDINATOR_CORE_PACK_SHELF_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "coordinator/core/bytes.h"
#include "farm/v1/pack.pb.h"

namespace storyfarm::coordinator {

struct Pack {
  farm::v1::PackManifest manifest;
  std::string name;  // empty: it has none
  uint64_t last_used_unix_ms = 0;
  bool lost = false;  // blobs of it are missing: it counts as absent
};

class PackShelf {
 public:
  // By key. Find: null where there is none; Whole: also where it is lost.
  const std::map<std::string, Pack>& packs() const { return packs_; }
  const Pack* Find(const std::string& key) const;
  const Pack* Whole(const std::string& key) const;
  const Pack* Named(const std::string& name) const;
  size_t names() const { return key_of_name_.size(); }
  uint64_t size_bytes() const { return size_bytes_; }  // of those that are whole
  // Keys of packs without a name, those used longest ago first; the lost ones before them.
  const std::set<std::pair<uint64_t, std::string>>& disposable() const { return disposable_; }

  // ---- Only for State::Apply. DATA_LOSS where the record can't follow.
  absl::Status Store(const farm::v1::PackManifest& manifest);
  void Use(const std::string& key, uint64_t unix_ms);
  absl::Status Name(const std::string& key, const std::string& name);
  absl::Status Remove(const std::string& key);
  absl::Status Lose(const std::string& key);

  void Write(ByteWriter& out) const;
  // False where the bytes are damaged.
  bool Read(ByteReader& in);

 private:
  // Between these the pack may change.
  Pack& TakeDown(const std::string& key);
  void PutBack(const std::string& key, const Pack& pack);

  std::map<std::string, Pack> packs_;
  // Follow from it.
  std::map<std::string, std::string> key_of_name_;
  std::set<std::pair<uint64_t, std::string>> disposable_;
  uint64_t size_bytes_ = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_PACK_SHELF_H_
