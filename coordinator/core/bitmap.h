// A set of small numbers, one bit each, with a bit for every word that has one: the next member of 20,000 is found in
// at most a few words however far it is.
#ifndef STORYFARM_COORDINATOR_CORE_BITMAP_H_
#define STORYFARM_COORDINATOR_CORE_BITMAP_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace storyfarm::coordinator {

class Bitmap {
 public:
  Bitmap() = default;
  // Of the numbers below `size`; none is in it.
  explicit Bitmap(size_t size) : size_(size), words_((size + 63) / 64, 0), some_((words_.size() + 63) / 64, 0) {}

  void Insert(size_t number) {
    words_[number / 64] |= uint64_t{1} << (number % 64);
    some_[number / 4096] |= uint64_t{1} << (number / 64 % 64);
  }
  void Erase(size_t number) {
    words_[number / 64] &= ~(uint64_t{1} << (number % 64));
    if (words_[number / 64] == 0) some_[number / 4096] &= ~(uint64_t{1} << (number / 64 % 64));
  }
  // The least member that is `from` or more; the size where there is none.
  size_t Next(size_t from) const {
    if (from >= size_) return size_;
    if (const uint64_t rest = words_[from / 64] >> (from % 64); rest != 0) return from + Lowest(rest);
    const size_t word = from / 64 + 1;
    for (size_t group = word / 64; group < some_.size(); ++group) {
      uint64_t rest = some_[group];
      if (group == word / 64) rest &= ~uint64_t{0} << (word % 64);
      if (rest == 0) continue;
      const size_t found = group * 64 + Lowest(rest);
      return found * 64 + Lowest(words_[found]);
    }
    return size_;
  }

 private:
  static size_t Lowest(uint64_t word) { return static_cast<size_t>(std::countr_zero(word)); }

  size_t size_ = 0;
  std::vector<uint64_t> words_;
  std::vector<uint64_t> some_;  // bit w: word w is not 0
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_BITMAP_H_
