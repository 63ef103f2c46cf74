// Text embeddings inside State that later jobs may take: a file a key, and the first one stays.
#ifndef STORYFARM_COORDINATOR_CORE_TEXT_SHELF_H_
#define STORYFARM_COORDINATOR_CORE_TEXT_SHELF_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/core/bytes.h"
#include "farm/v1/blob.pb.h"

namespace storyfarm::coordinator {

class TextShelf {
 public:
  struct Entry {
    farm::v1::BlobRef embeddings;
    uint64_t last_used_unix_ms = 0;
  };
  const std::map<std::string, Entry>& entries() const { return entries_; }  // by key
  const farm::v1::BlobRef* Find(const std::string& key) const;              // null: there is none
  // Keys whose embeddings are this blob.
  std::vector<std::string> KeysOf(const std::string& digest) const;
  uint64_t size_bytes() const { return size_bytes_; }
  // The key used longest ago; not on an empty shelf.
  const std::string& oldest() const { return by_use_.begin()->second; }

  // ---- Only for State::Apply.
  void StoreFirst(const std::string& key, const farm::v1::BlobRef& embeddings, uint64_t unix_ms);
  void Use(const std::string& key, uint64_t unix_ms);
  absl::Status Drop(const std::string& key);

  void Write(ByteWriter& out) const;
  // False where the bytes are damaged.
  bool Read(ByteReader& in);

 private:
  std::map<std::string, Entry> entries_;
  // Follow from it.
  std::set<std::pair<uint64_t, std::string>> by_use_;
  uint64_t size_bytes_ = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_TEXT_SHELF_H_
