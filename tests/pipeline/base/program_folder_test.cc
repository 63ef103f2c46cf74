#include "pipeline/base/program_folder.h"

#include <gtest/gtest.h>

namespace storyfarm::base {
namespace {

TEST(ProgramFolder, IsWhereThisProgramLiesAndItsNeighboursAreFoundThere) {
  EXPECT_EQ(ProgramFolder(), STORYFARM_BIN_DIR);
  EXPECT_EQ(ProgramBeside("base_test"), STORYFARM_BIN_DIR "/base_test");
  EXPECT_EQ(ProgramBeside("no-such-program"), "");
}

}  // namespace
}  // namespace storyfarm::base
