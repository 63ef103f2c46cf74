// A session on a workbench: events go in, actions are taken apart, messages are collected.
#ifndef STORYFARM_TESTS_WORKER_CORE_BENCH_H_
#define STORYFARM_TESTS_WORKER_CORE_BENCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "worker/core/session.h"

namespace storyfarm::worker {

inline constexpr int64_t kLeaseMs = 15'000;  // of the Welcome

farm::v1::FencingToken Token(uint64_t number);
farm::v1::TaskId FrameTask(uint32_t number);
farm::v1::BlobRef Blob(const std::string& name);

// Frames `first`.. of one job; batch as the plan says.
farm::v1::CoordinatorMessage FramesGrant(uint64_t token, uint32_t device, uint32_t first, uint32_t count,
                                         uint32_t batch = 1, bool phases = false);
farm::v1::CoordinatorMessage IdentityGrant(uint64_t token, uint32_t device);
farm::v1::CoordinatorMessage PageGrant(uint64_t token, uint32_t device);
farm::v1::CoordinatorMessage TextGrant(uint64_t token, uint32_t device);  // "a cat"
farm::v1::CoordinatorMessage Verdict(uint64_t token, const farm::v1::TaskId& task, farm::v1::Verdict verdict,
                                     const std::vector<std::string>& missing = {});
farm::v1::DeviceMemory Memory(uint32_t device, uint64_t free_bytes);
farm::v1::FrameResult Frame(uint32_t panel);
FrameStored Stored(uint64_t run, uint32_t panel);

class Bench {
 public:
  explicit Bench(uint32_t devices = 1, std::vector<farm::v1::Result> outbox = {}, const Limits& limits = Limits(),
                 bool unified = false);

  Actions Do(Event event);
  Actions Hear(farm::v1::CoordinatorMessage message) { return Do(CoordinatorSaid{std::move(message)}); }
  // Connects and welcomes; all engines ready.
  void Start();
  void Welcome(const farm::v1::Welcome& welcome);
  void Wait(int64_t ms);  // ticks
  // Prepares the grant and measures ample memory; returns the run that starts.
  StartRun StartGrant(const farm::v1::CoordinatorMessage& grant);

  template <typename T>
  static std::vector<T> Of(const Actions& actions) {
    std::vector<T> found;
    for (const Action& action : actions) {
      if (const T* item = std::get_if<T>(&action)) found.push_back(*item);
    }
    return found;
  }
  static std::vector<farm::v1::WorkerMessage> Sent(const Actions& actions);
  // Messages of one kind sent so far.
  std::vector<farm::v1::WorkerMessage> All(farm::v1::WorkerMessage::KindCase kind) const;

  Session session;
  int64_t now_ms = 1000;
  Actions done;  // every action so far
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_TESTS_WORKER_CORE_BENCH_H_
