// A file descriptor with one owner.
#ifndef STORYFARM_PIPELINE_BASE_UNIQUE_FD_H_
#define STORYFARM_PIPELINE_BASE_UNIQUE_FD_H_

#include <utility>

namespace storyfarm::base {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      Reset();
      fd_ = other.Release();
    }
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset();

 private:
  int fd_ = -1;
};

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_UNIQUE_FD_H_
