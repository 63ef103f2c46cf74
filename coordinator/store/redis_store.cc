#include "coordinator/store/redis_store.h"

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace storyfarm::coordinator {
namespace {

// Of the layout in store.h.
constexpr uint64_t kLayoutVersion = 1;
// Entries are fetched so many bytes at a time: a page fits the client's buffers, a log of millions loads in seconds.
constexpr size_t kPageBytes = size_t{8} << 20;
constexpr size_t kFirstPageEntries = 16;
constexpr size_t kMostPageEntries = 4096;

// The same epoch with a head at or after the batch means that an earlier, unanswered try arrived.
// KEYS epoch, head, log; ARGV epoch, sequence, bytes.
constexpr char kAppendScript[] = R"lua(
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
local head = tonumber(redis.call('GET', KEYS[2]) or '0')
local sequence = tonumber(ARGV[2])
if head >= sequence then return 'OK' end
if head + 1 ~= sequence then return 'GAP ' .. head end
redis.call('XADD', KEYS[3], ARGV[2] .. '-0', 'b', ARGV[3])
redis.call('SET', KEYS[2], ARGV[2])
return 'OK')lua";

// Forgets a snapshot that was begun and never pointed to. KEYS epoch, writing, abandoned; ARGV epoch, sequence.
constexpr char kBeginSnapshotScript[] = R"lua(
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
redis.call('UNLINK', KEYS[3])
redis.call('SET', KEYS[2], ARGV[2])
return 'OK')lua";

// KEYS epoch, pieces; ARGV epoch, number, bytes.
constexpr char kSnapshotPieceScript[] = R"lua(
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 'OK')lua";

// What frees memory comes first: a server at its limit refuses a script whose first write needs more, and lets go on
// one that has written. KEYS epoch, snapshot, writing, log, head, its pieces, pieces of the snapshot before; ARGV
// epoch, sequence, pieces, first sequence kept.
constexpr char kSwitchSnapshotScript[] = R"lua(
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
local head = tonumber(redis.call('GET', KEYS[5]) or '0')
local known = redis.call('HGET', KEYS[2], 'sequence')
local sequence = tonumber(ARGV[2])
if known and tonumber(known) >= sequence then return 'OK' end
if sequence > head and (head > 0 or known) then return 'AHEAD ' .. head end
if redis.call('HLEN', KEYS[6]) ~= tonumber(ARGV[3]) then return 'LACKS' end
redis.call('UNLINK', KEYS[3])
redis.call('XTRIM', KEYS[4], 'MINID', ARGV[4] .. '-0')
if known then redis.call('UNLINK', KEYS[7]) end
redis.call('HSET', KEYS[2], 'sequence', ARGV[2], 'pieces', ARGV[3])
if head == 0 then redis.call('SET', KEYS[5], ARGV[2]) end
return 'OK')lua";

// KEYS epoch, archive; ARGV epoch, job id, bytes.
constexpr char kArchiveScript[] = R"lua(
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 'OK')lua";

// KEYS epoch, archive; ARGV epoch, job id.
constexpr char kRemoveArchiveScript[] = R"lua(
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
redis.call('HDEL', KEYS[2], ARGV[2])
return 'OK')lua";

// A farm whose data a newer program wrote is left alone. KEYS epoch, version, leader; ARGV only after (or ''), version,
// name.
constexpr char kTakeOverScript[] = R"lua(
local version = redis.call('GET', KEYS[2])
if version and tonumber(version) > tonumber(ARGV[2]) then return 'VERSION ' .. version end
if ARGV[1] ~= '' and (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return 'FENCED' end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[3], 'name', ARGV[3], 'beats', '0')
return 'EPOCH ' .. redis.call('INCR', KEYS[1]))lua";

// KEYS epoch, leader; ARGV epoch.
constexpr char kBeatScript[] = R"lua(
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
redis.call('HINCRBY', KEYS[2], 'beats', 1)
return 'OK')lua";

// KEYS epoch, leader; ARGV epoch.
constexpr char kLetGoScript[] = R"lua(
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
redis.call('HSET', KEYS[2], 'name', '')
return 'OK')lua";

uint64_t Number(const std::string& text) {
  uint64_t number = 0;
  return absl::SimpleAtoi(text, &number) ? number : 0;
}

// "1234-0" -> 1234; 0 where it is no entry of ours.
uint64_t SequenceOf(const std::string& entry_id) {
  const size_t dash = entry_id.find('-');
  if (dash == std::string::npos || entry_id.substr(dash) != "-0") return 0;
  return Number(entry_id.substr(0, dash));
}

}  // namespace

RedisStore::RedisStore(RedisOptions options, const std::string& farm, std::string name)
    : connection_(std::move(options)), prefix_(absl::StrCat("storyfarm:{", farm, "}:")), name_(std::move(name)) {}

std::string RedisStore::PiecesKey(uint64_t sequence) const { return Key(absl::StrCat("snapshot:", sequence)); }

absl::StatusOr<RedisReply> RedisStore::Read(const std::vector<std::string>& words) {
  absl::StatusOr<RedisReply> reply = connection_.Command(words);
  if (absl::IsDeadlineExceeded(reply.status())) reply = connection_.Command(words);
  if (!reply.ok()) {
    return absl::IsDeadlineExceeded(reply.status()) ? absl::UnavailableError(reply.status().message()) : reply.status();
  }
  if (reply->kind == RedisReply::Kind::kError) {
    return absl::UnavailableError(absl::StrCat("Redis answered: ", reply->text));
  }
  return reply;
}

absl::StatusOr<std::optional<uint64_t>> RedisStore::ReadNumber(const std::vector<std::string>& words) {
  const absl::StatusOr<RedisReply> reply = Read(words);
  if (!reply.ok()) return reply.status();
  if (reply->kind != RedisReply::Kind::kText) return std::nullopt;
  return Number(reply->text);
}

absl::StatusOr<std::string> RedisStore::Script(const char* script, const std::vector<std::string>& keys,
                                               const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {"EVAL", script, absl::StrCat(keys.size() + 1), Key("epoch")};
  words.insert(words.end(), keys.begin(), keys.end());
  words.insert(words.end(), arguments.begin(), arguments.end());
  const absl::StatusOr<RedisReply> reply = connection_.Command(words);
  if (!reply.ok()) return absl::UnavailableError(reply.status().message());
  if (reply->kind == RedisReply::Kind::kError) {
    // Out of memory, read-only, loading, disk errors: Redis refuses before the script has written anything.
    return absl::ResourceExhaustedError(absl::StrCat("Redis refuses to write: ", reply->text));
  }
  if (reply->text == "FENCED") return absl::AbortedError("another coordinator took this farm over");
  return reply->text;
}

absl::Status RedisStore::CheckServer() {
  const absl::StatusOr<RedisReply> info = Read({"INFO", "server"});
  if (!info.ok()) return info.status();
  for (const absl::string_view line : absl::StrSplit(info->text, "\r\n")) {
    absl::string_view version = line;
    if (!absl::ConsumePrefix(&version, "redis_version:")) continue;
    const std::vector<std::string> parts = absl::StrSplit(version, '.');
    if (parts.size() >= 2 && Number(parts[0]) * 100 + Number(parts[1]) < 602) {
      return absl::FailedPreconditionError(absl::StrCat("Redis at ", connection_.options().address.ToString(), " is ",
                                                        std::string(version), ", at least 6.2 is needed"));
    }
  }
  const std::map<std::string, std::string> wanted = {
      {"appendonly", "yes"}, {"appendfsync", "always"}, {"maxmemory-policy", "noeviction"}};
  for (const auto& [name, value] : wanted) {
    const absl::StatusOr<RedisReply> reply = connection_.Command({"CONFIG", "GET", name});
    // Servers run by others may forbid CONFIG; then their owner answers for it.
    if (!reply.ok() || reply->kind != RedisReply::Kind::kList || reply->list.size() < 2) continue;
    if (reply->list[1].text == value) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("Redis at ", connection_.options().address.ToString(), " has ", name, " ", reply->list[1].text,
                     ", with which it could lose what it acknowledged: set ", name, " ", value, " in its redis.conf"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Leadership> RedisStore::Watch() {
  Leadership seen;
  const absl::StatusOr<RedisReply> numbers = Read({"MGET", Key("epoch"), Key("head")});
  if (!numbers.ok()) return numbers.status();
  const absl::StatusOr<RedisReply> leader = Read({"HMGET", Key("leader"), "name", "beats"});
  if (!leader.ok()) return leader.status();
  if (numbers->list.size() != 2 || leader->list.size() != 2) {
    return absl::InternalError("Redis answered MGET with something else than a list");
  }
  seen.epoch = Number(numbers->list[0].text);
  seen.head = Number(numbers->list[1].text);
  seen.leader = leader->list[0].text;
  seen.beats = Number(leader->list[1].text);
  return seen;
}

absl::StatusOr<uint64_t> RedisStore::TakeOver(std::optional<uint64_t> only_after) {
  if (absl::Status status = CheckServer(); !status.ok()) return status;
  const absl::StatusOr<std::string> answer =
      Script(kTakeOverScript, {Key("version"), Key("leader")},
             {only_after.has_value() ? absl::StrCat(*only_after) : "", absl::StrCat(kLayoutVersion), name_});
  if (!answer.ok()) {
    return absl::IsAborted(answer.status()) ? answer.status() : absl::UnavailableError(answer.status().message());
  }
  absl::string_view rest(*answer);
  if (absl::ConsumePrefix(&rest, "VERSION ")) {
    return absl::FailedPreconditionError(absl::StrCat("the farm's data in Redis has version ", std::string(rest),
                                                      ", this coordinator knows versions up to ", kLayoutVersion,
                                                      ": install the newer storyfarm that wrote it"));
  }
  if (!absl::ConsumePrefix(&rest, "EPOCH ")) {
    return absl::InternalError(absl::StrCat("Redis answered a take-over with: ", *answer));
  }
  epoch_ = std::string(rest);
  return Number(epoch_);
}

absl::Status RedisStore::Beat() { return Script(kBeatScript, {Key("leader")}, {epoch_}).status(); }
absl::Status RedisStore::LetGo() { return Script(kLetGoScript, {Key("leader")}, {epoch_}).status(); }

absl::StatusOr<std::optional<Snapshot>> RedisStore::LoadSnapshot() {
  absl::StatusOr<RedisReply> pointer = Read({"HMGET", Key("snapshot"), "sequence", "pieces"});
  if (!pointer.ok()) return pointer.status();
  if (pointer->list.size() != 2 || pointer->list[0].kind != RedisReply::Kind::kText) return std::nullopt;
  Snapshot snapshot;
  snapshot.sequence = Number(pointer->list[0].text);
  const uint64_t pieces = Number(pointer->list[1].text);
  const std::string key = PiecesKey(snapshot.sequence);
  for (uint64_t i = 0; i < pieces; ++i) {
    absl::StatusOr<RedisReply> piece = Read({"HGET", key, absl::StrCat(i)});
    if (!piece.ok()) return piece.status();
    if (piece->kind != RedisReply::Kind::kText) {
      return absl::DataLossError(
          absl::StrCat("the farm's snapshot lacks piece ", i, " of ", pieces, " (key ", key, ")"));
    }
    snapshot.pieces.push_back(std::move(piece->text));
  }
  return snapshot;
}

absl::StatusOr<LogEnd> RedisStore::Load(const std::function<absl::Status(const Snapshot&)>& on_snapshot,
                                        const std::function<absl::Status(const farm::v1::RecordBatch&)>& on_batch) {
  absl::StatusOr<std::optional<Snapshot>> snapshot = LoadSnapshot();
  if (!snapshot.ok()) return snapshot.status();
  LogEnd end;
  if (snapshot->has_value()) {
    end.sequence = (*snapshot)->sequence;
    if (const absl::Status status = on_snapshot(**snapshot); !status.ok()) return status;
    snapshot->reset();
  }
  size_t count = kFirstPageEntries;
  for (;;) {
    const absl::StatusOr<RedisReply> page =
        Read({"XRANGE", Key("log"), absl::StrCat(end.sequence + 1, "-0"), "+", "COUNT", absl::StrCat(count)});
    if (!page.ok()) return page.status();
    size_t bytes = 0;
    for (const RedisReply& entry : page->list) {
      if (entry.list.size() != 2 || entry.list[1].list.size() != 2 || entry.list[1].list[0].text != "b") {
        return absl::DataLossError(
            absl::StrCat("the log in Redis holds an entry that is none of ours (key ", Key("log"), ")"));
      }
      const std::string& body = entry.list[1].list[1].text;
      const uint64_t sequence = SequenceOf(entry.list[0].text);
      farm::v1::RecordBatch batch;
      if (sequence != end.sequence + 1) {
        return absl::DataLossError(absl::StrCat("the log in Redis goes from batch ", end.sequence, " to entry ",
                                                entry.list[0].text, ": entries are missing"));
      }
      if (!batch.ParseFromString(body) || batch.sequence() != sequence) {
        return absl::DataLossError(absl::StrCat("entry ", entry.list[0].text, " of the log in Redis is damaged"));
      }
      bytes += body.size();
      end.sequence = sequence;
      if (const absl::Status status = on_batch(batch); !status.ok()) return status;
    }
    if (page->list.size() < count) break;
    count = std::clamp(kPageBytes / std::max<size_t>(1, bytes / page->list.size()), size_t{1}, kMostPageEntries);
  }
  const absl::StatusOr<std::optional<uint64_t>> head = ReadNumber({"GET", Key("head")});
  if (!head.ok()) return head.status();
  if (head->value_or(0) != end.sequence) {
    return absl::DataLossError(absl::StrCat("the log in Redis ends with batch ", end.sequence, ", but batch ",
                                            head->value_or(0), " was acknowledged"));
  }
  return end;
}

AppendResult RedisStore::Append(const farm::v1::RecordBatch& batch) {
  const absl::StatusOr<std::string> answer = Script(
      kAppendScript, {Key("head"), Key("log")}, {epoch_, absl::StrCat(batch.sequence()), batch.SerializeAsString()});
  if (answer.ok()) {
    if (*answer == "OK") return {AppendOutcome::kAppended, ""};
    absl::string_view head(*answer);
    absl::ConsumePrefix(&head, "GAP ");
    return {AppendOutcome::kGap, absl::StrCat("batch ", batch.sequence(),
                                              " is to be written, but the log ends with batch ", std::string(head))};
  }
  const std::string message(answer.status().message());
  if (absl::IsAborted(answer.status())) return {AppendOutcome::kFenced, message};
  if (absl::IsResourceExhausted(answer.status())) return {AppendOutcome::kRefused, message};
  return {AppendOutcome::kUnknown, message};
}

absl::Status RedisStore::BeginSnapshot(uint64_t sequence) {
  const absl::StatusOr<std::optional<uint64_t>> known = ReadNumber({"HGET", Key("snapshot"), "sequence"});
  if (!known.ok()) return known.status();
  if (known->value_or(0) >= sequence && known->has_value()) {
    return absl::AlreadyExistsError("a snapshot as new is in place");
  }
  const absl::StatusOr<std::optional<uint64_t>> abandoned = ReadNumber({"GET", Key("writing")});
  if (!abandoned.ok()) return abandoned.status();
  return Script(kBeginSnapshotScript, {Key("writing"), PiecesKey(abandoned->value_or(sequence))},
                {epoch_, absl::StrCat(sequence)})
      .status();
}

absl::Status RedisStore::PutSnapshotPiece(uint64_t sequence, size_t number, const std::string& bytes) {
  return Script(kSnapshotPieceScript, {PiecesKey(sequence)}, {epoch_, absl::StrCat(number), bytes}).status();
}

absl::Status RedisStore::SwitchSnapshot(uint64_t sequence, size_t pieces) {
  const absl::StatusOr<std::optional<uint64_t>> before = ReadNumber({"HGET", Key("snapshot"), "sequence"});
  if (!before.ok()) return before.status();
  const absl::StatusOr<std::string> answer =
      Script(kSwitchSnapshotScript,
             {Key("snapshot"), Key("writing"), Key("log"), Key("head"), PiecesKey(sequence),
              PiecesKey(before->value_or(sequence))},
             {epoch_, absl::StrCat(sequence), absl::StrCat(pieces), absl::StrCat(sequence + 1)});
  if (!answer.ok()) return answer.status();
  if (*answer == "OK") return absl::OkStatus();
  if (*answer == "LACKS") return absl::InvalidArgumentError("the snapshot was not written");
  return absl::InvalidArgumentError(
      absl::StrCat("a snapshot of batch ", sequence, ", which the log does not hold: ", *answer));
}

absl::Status RedisStore::PutArchive(const std::string& job_id, const farm::v1::JobArchive& body) {
  return Script(kArchiveScript, {Key("archive")}, {epoch_, job_id, body.SerializeAsString()}).status();
}

absl::Status RedisStore::RemoveArchive(const std::string& job_id) {
  return Script(kRemoveArchiveScript, {Key("archive")}, {epoch_, job_id}).status();
}

absl::StatusOr<farm::v1::JobArchive> RedisStore::GetArchive(const std::string& job_id) {
  const absl::StatusOr<RedisReply> reply = Read({"HGET", Key("archive"), job_id});
  if (!reply.ok()) return reply.status();
  if (reply->kind != RedisReply::Kind::kText) {
    return absl::NotFoundError(absl::StrCat("job ", job_id, " is not archived"));
  }
  farm::v1::JobArchive body;
  if (!body.ParseFromString(reply->text))
    return absl::DataLossError(absl::StrCat("archived job ", job_id, " is damaged"));
  return body;
}

}  // namespace storyfarm::coordinator
