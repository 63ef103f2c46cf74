#include "coordinator/core/pack_shelf.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/pack.h"

namespace storyfarm::coordinator {
namespace {

// A lost pack is worth nothing to keep.
uint64_t WorthOf(const Pack& pack) { return pack.lost ? 0 : pack.last_used_unix_ms; }

absl::Status Unknown(const std::string& what, const std::string& key) {
  return absl::DataLossError(absl::StrCat("pack ", plan::ShortKey(key), " ", what, ", but is not known"));
}

}  // namespace

const Pack* PackShelf::Find(const std::string& key) const {
  const auto pack = packs_.find(key);
  return pack == packs_.end() ? nullptr : &pack->second;
}

const Pack* PackShelf::Whole(const std::string& key) const {
  const Pack* pack = Find(key);
  return pack == nullptr || pack->lost ? nullptr : pack;
}

const Pack* PackShelf::Named(const std::string& name) const {
  const auto key = key_of_name_.find(name);
  return key == key_of_name_.end() ? nullptr : Find(key->second);
}

Pack& PackShelf::TakeDown(const std::string& key) {
  Pack& pack = packs_.at(key);
  if (!pack.lost) size_bytes_ -= pack.manifest.size_bytes();
  if (pack.name.empty()) {
    disposable_.erase({WorthOf(pack), key});
  } else {
    key_of_name_.erase(pack.name);
  }
  return pack;
}

void PackShelf::PutBack(const std::string& key, const Pack& pack) {
  if (!pack.lost) size_bytes_ += pack.manifest.size_bytes();
  if (pack.name.empty()) {
    disposable_.emplace(WorthOf(pack), key);
  } else {
    key_of_name_[pack.name] = key;
  }
}

absl::Status PackShelf::Store(const farm::v1::PackManifest& manifest) {
  const std::string& key = manifest.key();
  if (key.size() != 32) return absl::DataLossError("a pack whose key is no SHA-256");
  const Pack* known = Find(key);
  if (known != nullptr && !known->lost) {
    return absl::DataLossError(absl::StrCat("a second pack of the key ", plan::ShortKey(key)));
  }
  Pack& pack = known != nullptr ? TakeDown(key) : packs_[key];
  pack.manifest = manifest;
  pack.lost = false;
  pack.last_used_unix_ms = std::max(pack.last_used_unix_ms, manifest.created_unix_ms());
  PutBack(key, pack);
  return absl::OkStatus();
}

void PackShelf::Use(const std::string& key, uint64_t unix_ms) {
  Pack& pack = TakeDown(key);
  pack.last_used_unix_ms = std::max(pack.last_used_unix_ms, unix_ms);
  PutBack(key, pack);
}

absl::Status PackShelf::Name(const std::string& key, const std::string& name) {
  if (Find(key) == nullptr) return Unknown("got a name", key);
  if (const Pack* other = Named(name); other != nullptr && other->manifest.key() != key) {
    return absl::DataLossError(absl::StrCat("two packs have the name ", name));
  }
  Pack& pack = TakeDown(key);
  pack.name = name;
  PutBack(key, pack);
  return absl::OkStatus();
}

absl::Status PackShelf::Remove(const std::string& key) {
  if (Find(key) == nullptr) return Unknown("was removed", key);
  TakeDown(key);
  packs_.erase(key);
  return absl::OkStatus();
}

absl::Status PackShelf::Lose(const std::string& key) {
  if (Whole(key) == nullptr) return Unknown("was lost", key);
  Pack& pack = TakeDown(key);
  pack.lost = true;
  PutBack(key, pack);
  return absl::OkStatus();
}

void PackShelf::Write(ByteWriter& out) const {
  out.Number(packs_.size());
  for (const auto& [key, pack] : packs_) {
    out.String(pack.manifest.SerializeAsString());
    out.String(pack.name);
    out.Number(pack.last_used_unix_ms);
    out.Number(pack.lost ? 1 : 0);
  }
}

bool PackShelf::Read(ByteReader& in) {
  for (uint64_t left = in.Count(); left > 0; --left) {
    Pack pack;
    if (!pack.manifest.ParseFromString(in.String())) return false;
    pack.name = in.String();
    pack.last_used_unix_ms = in.Number();
    pack.lost = in.Number() != 0;
    const std::string key = pack.manifest.key();
    if (key.size() != 32 || Find(key) != nullptr || (!pack.name.empty() && Named(pack.name) != nullptr)) return false;
    PutBack(key, packs_[key] = std::move(pack));
  }
  return in.ok();
}

}  // namespace storyfarm::coordinator
