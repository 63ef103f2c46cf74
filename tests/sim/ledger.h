// What a log of records says, folded by other code than the core's: jobs, tasks, who holds what, whose result was
// taken. The judge keeps two kinds of it: one of what the store holds, and one of what a coordinator believes.
#ifndef STORYFARM_TESTS_SIM_LEDGER_H_
#define STORYFARM_TESTS_SIM_LEDGER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/token.h"
#include "farm/v1/record.pb.h"
#include "tests/sim/rule.h"

namespace storyfarm::sim {

using coordinator::Token;

class Ledger {
 public:
  using Complain = std::function<void(Rule, const std::string&)>;

  struct Task {
    Token token;                    // of the last grant
    Token taken_under;              // of the accepted result; number 0: none
    std::array<char, 32> digest{};  // of the accepted result
    bool failed = false;
    bool ahead = false;    // granted while an identity was computed: its token is void once it comes back
    bool by_pack = false;  // done by a pack, or by embeddings of another job: no result is taken
  };
  struct Job {
    std::string key;
    std::vector<std::string> pack_keys;  // of its identities
    bool ended = false;
    bool archived = false;
    bool notice_due = false;  // somebody outside is to be told of its end, and that is not settled
    bool settled = false;
    std::array<std::vector<Task>, 5> tasks;  // by TaskKind
  };
  struct Grant {
    std::string job_id;
    farm::v1::TaskKind kind = farm::v1::TASK_KIND_UNSPECIFIED;
    std::string node_id;
    uint32_t device = 0;
    std::set<uint32_t> numbers;  // not returned, failed or finished
  };

  // Complains of whatever contradicts the records before it.
  void Take(const farm::v1::Record& record, const Complain& complain);

  uint64_t records() const { return records_; }
  const std::map<std::string, Job>& jobs() const { return jobs_; }
  const std::map<Token, Grant>& live() const { return live_; }
  bool Holds(const std::string& node_id) const { return holders_.count(node_id) > 0; }
  const Task* Find(const farm::v1::TaskId& task) const;
  // Whether a result of this task under this token would still be wanted.
  bool Open(const Token& token, const farm::v1::TaskId& task) const;
  bool Granted(const Token& token) const { return owner_.count(token) > 0; }
  // Needed over planned bytes, as learned last of a backend; 1 where nothing was.
  double NeedOf(farm::v1::Backend backend) const;

 private:
  void Accept(const farm::v1::JobSpec& spec, const Complain& complain);
  void TakePackFact(const farm::v1::Record& record, const Complain& complain);
  void TakePack(const farm::v1::PackUsed& fact, const Complain& complain);
  void TakeGrant(const farm::v1::Granted& fact, const Complain& complain);
  void Finish(const std::string& job_id, farm::v1::TaskKind kind, uint32_t number, const Token& token,
              const std::string& digest, const Complain& complain);
  void End(const std::string& job_id, bool notice_due, const Complain& complain);
  void Release(const Token& token, uint32_t number);
  void Drop(std::map<Token, Grant>::iterator grant);
  Task* FindTask(const std::string& job_id, farm::v1::TaskKind kind, uint32_t number);

  uint64_t records_ = 0;
  std::set<uint64_t> incarnations_;
  std::map<std::string, Job> jobs_;
  std::set<std::string> keys_;
  std::map<Token, std::string> owner_;  // every token ever
  std::map<Token, Grant> live_;
  std::map<std::string, uint32_t> holders_;  // node: live grants
  std::map<int, std::pair<uint64_t, uint64_t>> needs_;
  std::set<std::string> packs_;  // keys
};

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_LEDGER_H_
