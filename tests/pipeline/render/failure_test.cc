// Failures of the renderer: what torch's exceptions become, and how a kind travels with a status.
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <string>

#include "pipeline/render/request.h"
#include "pipeline/render/torch_error.h"

namespace storyfarm::render {
namespace {

TEST(TorchErrors, SayWhetherMemoryWasShortAndHowMuchWasAskedFor) {
  struct Case {
    const char* message;
    bool out_of_memory;
    uint64_t asked_bytes;
  };
  for (const Case& one :
       {Case{"CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity", true, 2684354560},
        Case{"MPS backend out of memory (MPS allocated: 7 GB). Tried to allocate 256.00 MB on private pool.", true,
             268435456},
        Case{"[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
             "allocate 123 bytes. Error code 12",
             true, 123},
        Case{"could not create a primitive", true, 0},
        Case{"The size of tensor a (3) must match the size of tensor b (4)\nat frame 7", false, 0}}) {
    const TorchError error = ReadTorchError(std::runtime_error(one.message));
    EXPECT_EQ(error.out_of_memory, one.out_of_memory) << one.message;
    EXPECT_EQ(error.asked_bytes, one.asked_bytes) << one.message;
    EXPECT_EQ(error.message.find('\n'), std::string::npos);
  }
  EXPECT_TRUE(ReadTorchError(std::bad_alloc()).out_of_memory);
  const absl::Status failure = OutOfMemory({"x", true, 50}, "cuda:0", {.reserved_bytes = 100, .peak_bytes = 120});
  EXPECT_EQ(NeededBytes(failure), 150u);
  EXPECT_EQ(KindOf(failure), FailureKind::kOutOfMemory);
}

TEST(FailureKind, TravelsWithAStatusAndCodesOfOthersHaveOne) {
  const absl::Status full = Fail(FailureKind::kOutOfMemory, "too much", 123);
  EXPECT_EQ(KindOf(full), FailureKind::kOutOfMemory);
  EXPECT_EQ(NeededBytes(full), 123u);
  EXPECT_EQ(KindOf(Fail(FailureKind::kDiskFull, "full")), FailureKind::kDiskFull);
  EXPECT_EQ(KindOf(absl::InvalidArgumentError("x")), FailureKind::kBadInput);
  EXPECT_EQ(KindOf(absl::ResourceExhaustedError("x")), FailureKind::kOutOfMemory);
  EXPECT_EQ(KindOf(absl::InternalError("x")), FailureKind::kInternal);
  EXPECT_EQ(NeededBytes(absl::InternalError("x")), 0u);
}

}  // namespace
}  // namespace storyfarm::render
