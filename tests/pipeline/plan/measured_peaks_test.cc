// The planner's peaks beside what a card took: a change of a constant that breaks the promise is found without the
// card.
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "pipeline/plan/cost.h"
#include "tests/pipeline/plan/shapes.h"

namespace storyfarm::plan {
namespace {

using farm::v1::GroupShape;
using farm::v1::MemoryPlan;
using Row = std::map<std::string, uint64_t>;

std::vector<Row> ReadPeaks(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> names;
  std::vector<Row> rows;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const std::vector<std::string> fields = absl::StrSplit(line, ',');
    if (names.empty()) {
      names = fields;
      continue;
    }
    Row& row = rows.emplace_back();
    for (size_t i = 0; i < names.size(); ++i) {
      EXPECT_TRUE(i < fields.size() && absl::SimpleAtoi(fields[i], &row[names[i]])) << line;
    }
  }
  return rows;
}

GroupShape ShapeOf(const Row& row) {
  GroupShape shape = Group(static_cast<uint32_t>(row.at("edge_pixels")), static_cast<uint32_t>(row.at("frames")),
                           static_cast<uint32_t>(row.at("identity_frames")), /*steps=*/2);
  shape.set_identity_pass(row.at("writes") != 0);
  return shape;
}

MemoryPlan PlanOf(const Row& row) {
  MemoryPlan plan;
  plan.set_backend(farm::v1::CUDA);
  plan.set_dtype(farm::v1::FP16);
  plan.set_vae_dtype(farm::v1::BF16);
  plan.set_bank(farm::v1::BANK_STREAMED);
  plan.set_bank_dtype(farm::v1::BANK_INT8);
  plan.set_batch(static_cast<uint32_t>(row.at("batch")));
  plan.set_guidance_batched(row.at("guidance_batched") != 0);
  plan.set_lock_step(row.at("lock_step") != 0);
  plan.set_graphs(row.at("graphs") != 0);
  plan.set_vae_tile(static_cast<uint32_t>(row.at("vae_tile")));
  plan.set_text_encoders_in_phases(row.at("text_in_phases") != 0);
  plan.set_int8_weights(row.at("int8_weights") != 0);
  plan.set_weights(row.at("streamed") != 0 ? farm::v1::STREAMED : farm::v1::RESIDENT);
  plan.set_resident_weight_bytes(row.at("resident_weight_bytes"));
  plan.set_weight_buffer_bytes(row.at("weight_buffer_bytes"));
  plan.set_ring_layers(static_cast<uint32_t>(row.at("ring_layers")));
  return plan;
}

TEST(MeasuredPeaks, AreNeverAboveThePredictedOnesAndAtMostATenthBelow) {
  const std::vector<Row> rows = ReadPeaks(std::string(STORYFARM_SOURCE_DIR) + "/tests/data/h200_peaks.csv");
  ASSERT_GE(rows.size(), 60u);
  for (size_t i = 0; i < rows.size(); ++i) {
    const double measured = static_cast<double>(rows[i].at("measured_bytes"));
    const double predicted = static_cast<double>(PeakBytes(SdxlProfile(), ShapeOf(rows[i]), PlanOf(rows[i])));
    EXPECT_GE(predicted, measured) << "line " << i;
    EXPECT_LE(predicted, 1.1 * measured) << "line " << i;
  }
}

}  // namespace
}  // namespace storyfarm::plan
