#include "coordinator/core/text_shelf.h"

#include <algorithm>

namespace storyfarm::coordinator {

const farm::v1::BlobRef* TextShelf::Find(const std::string& key) const {
  const auto entry = entries_.find(key);
  return entry == entries_.end() ? nullptr : &entry->second.embeddings;
}

std::vector<std::string> TextShelf::KeysOf(const std::string& digest) const {
  std::vector<std::string> keys;
  for (const auto& [key, entry] : entries_) {
    if (entry.embeddings.digest() == digest) keys.push_back(key);
  }
  return keys;
}

void TextShelf::StoreFirst(const std::string& key, const farm::v1::BlobRef& embeddings, uint64_t unix_ms) {
  if (!entries_.emplace(key, Entry{embeddings, unix_ms}).second) return;
  by_use_.emplace(unix_ms, key);
  size_bytes_ += embeddings.size_bytes();
}

void TextShelf::Use(const std::string& key, uint64_t unix_ms) {
  Entry& entry = entries_.at(key);
  by_use_.erase({entry.last_used_unix_ms, key});
  entry.last_used_unix_ms = std::max(entry.last_used_unix_ms, unix_ms);
  by_use_.emplace(entry.last_used_unix_ms, key);
}

absl::Status TextShelf::Drop(const std::string& key) {
  const auto entry = entries_.find(key);
  if (entry == entries_.end()) return absl::DataLossError("embeddings were dropped that are not known");
  by_use_.erase({entry->second.last_used_unix_ms, key});
  size_bytes_ -= entry->second.embeddings.size_bytes();
  entries_.erase(entry);
  return absl::OkStatus();
}

void TextShelf::Write(ByteWriter& out) const {
  out.Number(entries_.size());
  for (const auto& [key, entry] : entries_) {
    out.String(key);
    out.String(entry.embeddings.SerializeAsString());
    out.Number(entry.last_used_unix_ms);
  }
}

bool TextShelf::Read(ByteReader& in) {
  for (uint64_t left = in.Count(); left > 0; --left) {
    const std::string key = in.String();
    farm::v1::BlobRef embeddings;
    if (key.size() != 32 || Find(key) != nullptr || !embeddings.ParseFromString(in.String())) return false;
    StoreFirst(key, embeddings, in.Number());
  }
  return in.ok();
}

}  // namespace storyfarm::coordinator
