// Whom the farm trusts, as the records tell: a part of State.
#ifndef STORYFARM_COORDINATOR_CORE_ROSTER_H_
#define STORYFARM_COORDINATOR_CORE_ROSTER_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/core/bytes.h"
#include "farm/v1/record.pb.h"
#include "farm/v1/trust.pb.h"

namespace storyfarm::coordinator {

class Roster {
 public:
  // By id.
  const std::map<std::string, farm::v1::Member>& members() const { return members_; }
  // SHA-256 of the certificate of the authority that vouches for them; empty: none was chosen yet.
  const std::string& authority_digest() const { return authority_digest_; }
  // Null where there is none. `member`: a name or an id.
  const farm::v1::Member* Find(farm::v1::MemberKind kind, const std::string& member) const;
  const farm::v1::Member* FindWorker(const std::string& node_id) const;
  // Of all certificates of workers that count.
  std::vector<std::string> WorkerSerials() const;

  // Facts of this kind only. DATA_LOSS where one can't follow those before it; then nothing changed.
  absl::Status Apply(const farm::v1::Record& record);

  void Write(ByteWriter& out) const;
  // False where the bytes are damaged.
  bool Read(ByteReader& in);

 private:
  absl::Status Add(const farm::v1::Member& member);

  std::string authority_digest_;
  std::map<std::string, farm::v1::Member> members_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_ROSTER_H_
