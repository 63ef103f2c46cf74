// Every bound and time of the worker's session, with its reason. Tests make them smaller.
#ifndef STORYFARM_WORKER_CORE_LIMITS_H_
#define STORYFARM_WORKER_CORE_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace storyfarm::worker {

// Spoken by this build. The coordinator decides whether it serves it.
inline constexpr uint32_t kProtocolVersion = 1;

// Fine enough for heartbeats of 2 s; idle cost is nothing.
inline constexpr int64_t kTickMs = 250;

struct Limits {
  // Until Welcome says otherwise.
  int64_t heartbeat_ms = 2000;

  // One group runs and one waits with its inputs on the way, so that the device never idles for a round trip.
  size_t groups_a_device = 2;

  // One run is drawn, or only its pictures are still encoded, and the next one waits in the engine from its last step on:
  // no message must come first. A third would only be out of reach of those who would steal it.
  size_t runs_an_engine = 2;

  // Steps are shown to people at four a second; more would only load the stream.
  int64_t progress_ms = 250;

  // How long an engine may be silent. Nothing learned yet: a CPU needs minutes for one step of a write pass at
  // 1024x1024, and a cold load reads 7 GB from whatever disk there is. Then: so many times the longest silence that
  // this model ever showed in this phase, but never less than a busy machine may swap for.
  int64_t unknown_silence_ms = int64_t{30} * 60 * 1000;
  int64_t least_silence_ms = int64_t{60} * 1000;
  int64_t silence_factor = 8;

  // An upload that failed is tried again: 1 s, doubled each time, at most 30 s. Without end: the outbox is what must
  // not be lost.
  int64_t upload_first_ms = 1000;
  int64_t upload_most_ms = int64_t{30} * 1000;

  // Results sent and not answered: a heartbeat waits behind so many at most, also when hours of work are delivered after
  // the coordinator was away. Far more than a device finishes within a round trip.
  size_t unanswered_results = 16;

  // A result without an answer is sent again on the same stream, as nothing else would tell that it or its answer got
  // lost behind the stream's other end. A coordinator whose disk is slow answers well within this.
  int64_t answer_ms = int64_t{30} * 1000;

  // An engine that ended is started again: 500 ms, doubled each time, at most 60 s. After so many ends in a row without
  // a finished task its groups are given back.
  int64_t engine_first_ms = 500;
  int64_t engine_most_ms = int64_t{60} * 1000;
  uint32_t engine_ends = 3;

  // Blobs that Hello lists, as the protocol says.
  size_t cached_digests = 10'000;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_CORE_LIMITS_H_
