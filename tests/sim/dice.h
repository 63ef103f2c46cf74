// Random numbers by seed: the same on every machine, unlike the standard library's distributions.
#ifndef STORYFARM_TESTS_SIM_DICE_H_
#define STORYFARM_TESTS_SIM_DICE_H_

#include <cstdint>

namespace storyfarm::sim {

// SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
class Dice {
 public:
  // Streams of one seed are independent of each other, so that what one part of the world draws does not move another.
  Dice(uint64_t seed, uint64_t stream) : state_(seed * 0x9e3779b97f4a7c15u ^ (stream + 1) * 0xd1342543de82ef95u) {}

  uint64_t Bits() {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // 0 to `count` - 1; count is above 0.
  uint64_t Below(uint64_t count) { return Bits() % count; }
  // `least` to `most`, both included.
  int64_t Between(int64_t least, int64_t most) {
    return least + static_cast<int64_t>(Below(static_cast<uint64_t>(most - least + 1)));
  }
  bool Chance(uint32_t percent) { return Below(100) < percent; }

 private:
  uint64_t state_;
};

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_DICE_H_
