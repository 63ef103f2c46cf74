#include "pipeline/base/secret_prompt.h"

#include <gtest/gtest.h>

#include <fstream>

#include "absl/status/status.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::base {
namespace {

TEST(SecretFile, ItsFirstLineIsTheSecret) {
  testing_support::TempFolder folder;
  std::ofstream(folder.File("code")) << "  abc-def \nanother line\n";
  EXPECT_EQ(ReadSecretFile(Env::Real(), folder.File("code")).value_or(""), "abc-def");
  std::ofstream(folder.File("empty")) << "\n";
  const auto empty = ReadSecretFile(Env::Real(), folder.File("empty"));
  EXPECT_TRUE(absl::IsInvalidArgument(empty.status()));
  EXPECT_NE(std::string(empty.status().message()).find(folder.File("empty")), std::string::npos) << "it says which";
  EXPECT_TRUE(absl::IsNotFound(ReadSecretFile(Env::Real(), folder.File("none")).status()));
}

}  // namespace
}  // namespace storyfarm::base
