// Waiting for something outside of the test's own process.
#ifndef STORYFARM_TESTS_SUPPORT_EVENTUALLY_H_
#define STORYFARM_TESTS_SUPPORT_EVENTUALLY_H_

#include <chrono>
#include <thread>

namespace storyfarm::testing_support {

// True as soon as `condition()` is; false after half a minute.
template <typename Condition>
bool Eventually(Condition condition) {
  for (int i = 0; i < 3000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace storyfarm::testing_support

#endif  // STORYFARM_TESTS_SUPPORT_EVENTUALLY_H_
