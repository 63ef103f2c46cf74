// The threads of the HTTP server: one a connection, made when it is needed and gone when it is idle for a while, since
// most of the time nobody looks. An event stream keeps its thread for as long as its page is open.
#ifndef STORYFARM_COORDINATOR_WEB_ELASTIC_POOL_H_
#define STORYFARM_COORDINATOR_WEB_ELASTIC_POOL_H_

#include <httplib.h>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <utility>

namespace storyfarm::coordinator {

class ElasticPool : public httplib::TaskQueue {
 public:
  // Nothing, or, from httplib 0.15 on, whether it was taken.
  using Taken = decltype(std::declval<httplib::TaskQueue&>().enqueue(std::function<void()>()));

  explicit ElasticPool(size_t most_threads) : most_threads_(most_threads) {}
  ~ElasticPool() override { shutdown(); }

  // Runs it on a thread of its own where all are busy, up to the limit; beyond that it waits.
  Taken enqueue(std::function<void()> task) override;
  // Waits for what runs and what was given.
  void shutdown() override;

 private:
  void Main(std::list<std::thread>::iterator self);
  void JoinEnded();  // holds mutex_

  const size_t most_threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  size_t idle_ = 0;
  std::deque<std::function<void()>> tasks_;
  std::list<std::thread> threads_;
  std::list<std::thread> ended_;  // to be joined
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_ELASTIC_POOL_H_
