// Small bank files for tests of what reads them.
#ifndef STORYFARM_TESTS_PIPELINE_IDENTITY_BANK_FIXTURE_H_
#define STORYFARM_TESTS_PIPELINE_IDENTITY_BANK_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/identity/bank_file.h"

namespace storyfarm::identity {

inline BankOrigin TestOrigin() {
  BankOrigin origin{.identity_frames = 2, .model = "abc", .settings = "steps 4"};
  origin.character_key[3] = 0xAB;
  return origin;
}

// Bytes that tell their place.
inline std::vector<std::byte> PartBytes(const PartShape& shape, int step, int64_t layer, int64_t half) {
  std::vector<std::byte> bytes(shape.Bytes());
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i * 7 + static_cast<size_t>(step * 101 + layer * 13 + half * 5));
  }
  return bytes;
}

inline PartShape TestShape(int64_t layer) {
  return {.tokens = 3 + layer, .channels = 8, .element = BankElement::kFp16};
}

// A file of these layers and two halves.
inline void WriteTestStep(base::Env& env, const std::string& path, int step, const std::vector<int64_t>& layers,
                          int64_t halves = 2, const BankOrigin& origin = TestOrigin()) {
  auto writer = BankStepWriter::Create(env, path, origin, step, halves, BankElement::kFp16);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const int64_t layer : layers) {
    for (int64_t half = 0; half < halves; ++half) {
      const PartShape shape = TestShape(layer);
      ASSERT_TRUE((*writer)->Append(layer, half, shape, PartBytes(shape, step, layer, half)).ok());
    }
  }
  ASSERT_TRUE((*writer)->Finish().ok());
}

}  // namespace storyfarm::identity

#endif  // STORYFARM_TESTS_PIPELINE_IDENTITY_BANK_FIXTURE_H_
