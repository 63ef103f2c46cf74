#include "pipeline/identity/philox.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <string>
#include <utility>

#include "pipeline/base/digest.h"

namespace storyfarm::identity {
namespace {

constexpr std::string_view kDomain = "storyfarm draws 1";
constexpr double kTwoToMinus32 = 1.0 / 4294967296.0;
constexpr double kTwoToMinus53 = 1.0 / 9007199254740992.0;

uint64_t Join(uint32_t high, uint32_t low) { return uint64_t{high} << 32 | low; }

}  // namespace

PhiloxCounter Philox4x32(PhiloxCounter counter, PhiloxKey key) {
  constexpr int kRounds = 10;
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0], product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

PhiloxKey StreamKey(std::string_view purpose, uint64_t seed, std::string_view subject) {
  std::string named(kDomain);
  named.push_back('\0');
  named.append(purpose);
  named.push_back('\0');
  for (int byte = 0; byte < 8; ++byte) named.push_back(static_cast<char>(seed >> (8 * byte) & 0xFF));
  named.append(subject);
  const base::Digest digest = base::Digest::Of(named);
  const auto word = [&](size_t at) {
    uint32_t value = 0;
    for (size_t byte = 0; byte < 4; ++byte) {
      value |= uint32_t{static_cast<uint8_t>(digest.view()[at + byte])} << (8 * byte);
    }
    return value;
  };
  return {word(0), word(4)};
}

double UniformOf(const PhiloxCounter& block) {
  return static_cast<double>(Join(block[0], block[1]) >> 11) * kTwoToMinus53;
}

std::vector<float> Normals(PhiloxKey key, PhiloxCounter counter, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t first = 0; first < count; first += 4) {
    counter[0] = static_cast<uint32_t>(first / 4);
    const PhiloxCounter words = Philox4x32(counter, key);
    for (int64_t pair = 0; pair < 2; ++pair) {
      const double radius = std::sqrt(-2 * std::log((words[2 * pair] + 1.0) * kTwoToMinus32));
      const double angle = 2 * std::numbers::pi * (words[2 * pair + 1] * kTwoToMinus32);
      const int64_t at = first + 2 * pair;
      if (at < count) values[at] = static_cast<float>(radius * std::cos(angle));
      if (at + 1 < count) values[at + 1] = static_cast<float>(radius * std::sin(angle));
    }
  }
  return values;
}

std::vector<int32_t> DistinctTokens(PhiloxKey key, PhiloxCounter counter, int64_t count, int64_t keep) {
  std::vector<std::pair<uint64_t, int32_t>> ranked;
  ranked.reserve(static_cast<size_t>(count));
  for (int64_t token = 0; token < count; token += 2) {
    counter[0] = static_cast<uint32_t>(token / 2);
    const PhiloxCounter words = Philox4x32(counter, key);
    ranked.emplace_back(Join(words[0], words[1]), static_cast<int32_t>(token));
    if (token + 1 < count) ranked.emplace_back(Join(words[2], words[3]), static_cast<int32_t>(token + 1));
  }
  std::nth_element(ranked.begin(), ranked.begin() + keep, ranked.end());
  std::vector<int32_t> kept;
  for (int64_t i = 0; i < keep; ++i) kept.push_back(ranked[i].second);
  std::sort(kept.begin(), kept.end());
  return kept;
}

}  // namespace storyfarm::identity
