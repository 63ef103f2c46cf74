// What of a list changed since it was last sent to somebody. For lists of messages with keys: jobs, tasks, nodes.
#ifndef STORYFARM_COORDINATOR_WEB_CHANGES_H_
#define STORYFARM_COORDINATOR_WEB_CHANGES_H_

#include <cstdint>
#include <map>
#include <string>

#include "google/protobuf/message_lite.h"

namespace storyfarm::coordinator {

template <typename Key>
class Changes {
 public:
  // Whether this differs from what was last given under the key; remembers it.
  bool Note(const Key& key, const google::protobuf::MessageLite& message) {
    std::string bytes = message.SerializeAsString();
    Entry& entry = known_[key];
    entry.round = round_;
    if (!entry.bytes.empty() && entry.bytes == bytes) return false;
    entry.bytes = std::move(bytes);
    return true;
  }
  // After all of a list was noted: whether something that was known is not in it any more, and is forgotten.
  bool EndOfList() {
    const size_t before = known_.size();
    std::erase_if(known_, [this](const auto& each) { return each.second.round != round_; });
    ++round_;
    return known_.size() != before;
  }

 private:
  struct Entry {
    std::string bytes;
    uint64_t round = 0;
  };
  std::map<Key, Entry> known_;
  uint64_t round_ = 1;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_CHANGES_H_
