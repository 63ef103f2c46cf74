// Every bound, time and number of tries of the core, with its reason. Tests make them smaller.
#ifndef STORYFARM_COORDINATOR_CORE_LIMITS_H_
#define STORYFARM_COORDINATOR_CORE_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace storyfarm::coordinator {

// Sessions of workers with a version from the minimum to the current one are served.
inline constexpr uint32_t kProtocolVersion = 1;
inline constexpr uint32_t kMinimumProtocolVersion = 1;

// Fine enough that a lease ends within 2 % of its length; idle cost is nothing.
inline constexpr int64_t kTickMs = 250;

// A piece fits a Redis value and a client buffer with room to spare, and writing one never blocks the server for long.
inline constexpr size_t kSnapshotPieceBytes = size_t{8} << 20;

// Jobs of a higher priority go first; those of one priority share the farm.
inline constexpr uint32_t kUsualPriority = 50;
inline constexpr uint32_t kMostPriority = 100;

struct Limits {
  // A lease is many heartbeats long, so that one lost packet or one slow fsync costs nothing.
  int64_t heartbeat_ms = 2000;
  int64_t lease_ms = 15000;

  // Hot state: a live job holds its story (at most 4 MiB) and at most 128 bytes a pending frame.
  size_t live_jobs = 1000;
  size_t frames_a_job = 20000;
  size_t spec_bytes = size_t{32} << 20;  // a full story with its prompts spelled out; one record must fit one log entry

  size_t models = 1000;
  size_t nodes = 4096;  // known by name in State; a farm is people's machines, not a data centre
  size_t members = 8192;  // as many people and coordinators as nodes; some 200 bytes of the state each
  size_t devices_a_node = 64;
  size_t held_a_hello = 4096;     // more than groups_a_device groups of frames_a_group on devices_a_node can hold
  size_t cached_digests = 10000;  // as the protocol says

  // Grants. One group runs and one waits, so that a device never idles for a round trip, yet little is stuck behind a
  // slow one.
  size_t groups_a_device = 2;
  size_t frames_a_group = 64;     // bounds what a dying device takes back with it, and a grant's message size
  int64_t prefetch_seconds = 10;  // the waiting group comes this long before the running one ends: time to fetch blobs
  int64_t group_seconds = 60;     // a group is cut to about this long: lost work is bounded by time, too
  int64_t turn_seconds = 15;      // and to this where several jobs are live, so that a small one gets its turn soon
  size_t grants_a_step = 256;     // bounds the time of one Step; the next Tick goes on

  // Tries. A frame's own faults: three, as a transient fault rarely repeats thrice. Faults of machines do not count,
  // but those that a task may cause in some unseen way end it, too; between them devices wait ever longer.
  uint32_t own_tries = 3;
  uint32_t machine_faults_a_task = 10;
  uint32_t poison_nodes = 3;

  // A device that failed waits: 1 s, doubled each time, at most 5 min. After so many in a row it is set aside.
  int64_t backoff_first_ms = 1000;
  int64_t backoff_most_ms = 300000;
  uint32_t faults_to_set_aside = 5;
  int64_t set_aside_ms = 600000;  // then it gets one more chance

  // A device whose owner took it back is left alone for so long, and asked again: it did nothing wrong.
  int64_t preempted_ms = 30000;

  // Finished jobs stay in hot state for reads that follow at once; then they leave for the archive.
  size_t finished_jobs_hot = 50;
  // Index entries of archived jobs: about 150 bytes each, so 15 MB. Beyond them the oldest job is forgotten with its
  // key and its archive.
  size_t archived_jobs = 100000;
  // Finished jobs are kept so long, and so many of them; 0: for ever, all. Their owner decides.
  uint64_t keep_finished_ms = 0;
  size_t keep_finished_jobs = 0;
  // Packs that no name keeps go, those used longest ago first, when all packs take more than this: a dozen characters
  // of SDXL with the usual one identity frame (5.5 GB each), and a part of any disk that holds the model besides.
  uint64_t pack_budget_bytes = uint64_t{64} << 30;
  size_t packs = 2000;  // a manifest takes some 4 KB of the state
  // Embeddings kept for later jobs, likewise: the prompts of some thousand panels of SDXL in fp16. A long story read again
  // costs a minute of one device.
  uint64_t text_budget_bytes = uint64_t{1} << 30;
  size_t texts = 10'000;       // an entry takes some 150 bytes of the state
  size_t forgets_a_tick = 16;  // bounds the time of one Step

  // Whether somebody outside is told of each job's end, and for how many ends that may be outstanding: about 100 bytes
  // each. Beyond them the oldest is given up.
  bool notices = false;
  size_t notices_due = 10'000;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_LIMITS_H_
