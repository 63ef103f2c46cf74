#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/device/backends.h"
#include "pipeline/device/host.h"
#include "pipeline/device/kernel_library.h"
#include "pipeline/device/pinned.h"

namespace storyfarm::device {
namespace {

// The part of the driver's interface (CUDA Driver API, cuda.h) that names devices; declared here, since no CUDA header
// is at hand where this is built.
struct Driver {
  int (*init)(unsigned) = nullptr;
  int (*count)(int*) = nullptr;
  int (*name)(char*, int, int) = nullptr;
  int (*attribute)(int*, int, int) = nullptr;
  int (*version)(int*) = nullptr;
  int (*total)(size_t*, int) = nullptr;
};

constexpr int kComputeCapabilityMajor = 75;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
constexpr int kComputeCapabilityMinor = 76;

#ifdef __APPLE__
absl::StatusOr<Driver> OpenDriver() { return absl::NotFoundError("CUDA does not exist on this system"); }
#else
absl::StatusOr<Driver> OpenDriver() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return absl::NotFoundError("no NVIDIA driver (libcuda.so.1) on this machine");
  Driver driver;
  const auto find = [&](const char* symbol, auto* function) {
    *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(dlsym(library, symbol));
    return *function != nullptr;
  };
  if (!find("cuInit", &driver.init) || !find("cuDeviceGetCount", &driver.count) ||
      !find("cuDeviceGetName", &driver.name) || !find("cuDeviceGetAttribute", &driver.attribute) ||
      !find("cuDriverGetVersion", &driver.version) || !find("cuDeviceTotalMem_v2", &driver.total)) {
    return absl::NotFoundError("the NVIDIA driver is too old: libcuda.so.1 lacks functions");
  }
  if (const int error = driver.init(0); error != 0) {
    return absl::NotFoundError(absl::StrCat("the NVIDIA driver shows no device (cuInit failed with ", error, ")"));
  }
  return driver;
}
#endif

// The folder of libtorch_cpu, in which libtorch_cuda lies too.
std::string TorchFolder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&at::detail::getCUDAHooks), &info) == 0 || info.dli_fname == nullptr) {
    return "";
  }
  const std::string path = info.dli_fname;
  return path.substr(0, path.rfind('/') + 1);
}

class Cuda final : public Device {
 public:
  Cuda(int ordinal, int threads, Driver driver, uint64_t limit_bytes)
      : ordinal_(ordinal), threads_(threads), driver_(driver), limit_bytes_(limit_bytes) {
    // fp32 is asked for where exactness counts; cuDNN's convolutions would else round it to 10 bits of mantissa.
    at::globalContext().setAllowTF32CuDNN(false);
    // Measured on an H200 at SDXL's shapes: cuDNN's 1.5 to 1.65 times as fast as the flash kernel that torch prefers.
    const auto order = {at::SDPBackend::cudnn_attention, at::SDPBackend::flash_attention,
                        at::SDPBackend::efficient_attention, at::SDPBackend::math, at::SDPBackend::overrideable};
    std::vector<int64_t> priority;
    for (const at::SDPBackend backend : order) priority.push_back(static_cast<int64_t>(backend));
    at::globalContext().setSDPPriorityOrder(priority);
  }

  c10::Device torch_device() const override { return {at::kCUDA, static_cast<c10::DeviceIndex>(ordinal_)}; }

  Report Describe(bool measure) override {
    const auto [free, total] = Allocator().getMemoryInfo(Index());
    int major = 0, minor = 0, version = 0;
    char name[256] = {};
    driver_.name(name, sizeof(name) - 1, ordinal_);
    driver_.attribute(&major, kComputeCapabilityMajor, ordinal_);
    driver_.attribute(&minor, kComputeCapabilityMinor, ordinal_);
    driver_.version(&version);
    Report report;
    report.backend = Backend::kCuda;
    report.ordinal = ordinal_;
    report.name = name;
    report.total_bytes = total;
    report.free_bytes = free;
    report.threads = threads_;
    report.dtypes = {"fp32"};
    if (major >= 7) report.dtypes.push_back("fp16");  // tensor cores from Volta on
    if (major >= 8) report.dtypes.push_back("bf16");  // from Ampere on
    const std::string driver = NvidiaDriverVersion();
    report.driver = absl::StrCat(driver.empty() ? "" : absl::StrCat("driver ", driver, ", "), "CUDA ", version / 1000,
                                 ".", version % 1000 / 10, ", compute capability ", major, ".", minor);
    if (measure) {
      report.speed_tflops = MeasureMatmul(*this, major >= 7 ? at::kHalf : at::kFloat, 4096);
      report.host_to_device_bytes_per_s = MeasureCopy(*this);
      EmptyCache();
    }
    return report;
  }

  Memory MemoryNow() override {
    const c10::CachingDeviceAllocator::DeviceStats stats = Allocator().getDeviceStats(Index());
    constexpr size_t kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    // Buffers of the host through which banks and weights travel count as the device's: plans know no other memory.
    const uint64_t pinned = PinnedBytes();
    const auto [free, total] = Allocator().getMemoryInfo(Index());
    return {.allocated_bytes = static_cast<uint64_t>(stats.allocated_bytes[kAll].current),
            .reserved_bytes = static_cast<uint64_t>(stats.reserved_bytes[kAll].current) + pinned,
            .peak_bytes = static_cast<uint64_t>(stats.reserved_bytes[kAll].peak) + pinned,
            .free_bytes = free,
            .total_bytes = total};
  }

  void ResetPeak() override { Allocator().resetPeakStats(Index()); }
  void EmptyCache() override { Allocator().emptyCache(); }
  void Synchronize() override { at::detail::getCUDAHooks().deviceSynchronize(Index()); }

  absl::Status Cap(uint64_t bytes) override {
    const auto [free, total] = Allocator().getMemoryInfo(Index());
    if (LoadedKernels() == nullptr) {
      return absl::UnimplementedError("libstoryfarm_cuda.so, which caps torch's allocator, is not beside the engine");
    }
    if (limit_bytes_ > 0) bytes = std::min(bytes, limit_bytes_);
    LoadedKernels()->cap_memory(std::min(1.0, static_cast<double>(bytes) / static_cast<double>(total)), ordinal_);
    return absl::OkStatus();
  }

  std::unique_ptr<TransferSlot> NewTransferSlot() override { return NewCudaSlot(torch_device(), Stream(copies_)); }
  std::unique_ptr<Landings> NewLandings() override { return NewCudaLandings(Stream(landings_)); }

 private:
  c10::DeviceIndex Index() const { return static_cast<c10::DeviceIndex>(ordinal_); }
  c10::Stream Stream(std::optional<c10::Stream>& stream) const {
    if (!stream) stream = c10::impl::VirtualGuardImpl(at::kCUDA).getStreamFromGlobalPool(torch_device());
    return *stream;
  }
  static c10::DeviceAllocator& Allocator() { return *c10::getDeviceAllocator(at::kCUDA); }

  int ordinal_;
  int threads_;
  Driver driver_;
  uint64_t limit_bytes_;                 // of the owner's; 0: none
  std::optional<c10::Stream> copies_;    // of all transfer slots
  std::optional<c10::Stream> landings_;  // of all landings
};

}  // namespace

absl::Status LoadCuda() {
  if (const absl::StatusOr<Driver> driver = OpenDriver(); !driver.ok()) return driver.status();
  const std::string path = TorchFolder() + "libtorch_cuda.so";
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    return absl::NotFoundError(absl::StrCat("this machine has an NVIDIA driver, but libtorch can't use it: ", dlerror(),
                                            ". Run tools/setup there, which installs torch with its CUDA libraries"));
  }
  LoadKernels();
  return absl::OkStatus();
}

int CountCuda() {
  if (!LoadCuda().ok()) return 0;
  const absl::StatusOr<Driver> driver = OpenDriver();
  int count = 0;
  if (!driver.ok() || driver->count(&count) != 0 || !at::detail::getCUDAHooks().hasCUDA()) return 0;
  return count;
}

absl::StatusOr<std::unique_ptr<Device>> OpenCuda(int ordinal, int threads, uint64_t memory_limit_bytes) {
  if (const absl::Status status = LoadCuda(); !status.ok()) return status;
  const absl::StatusOr<Driver> driver = OpenDriver();
  if (!driver.ok()) return driver.status();
  int count = 0;
  if (driver->count(&count) != 0 || ordinal >= count) {
    return absl::NotFoundError(absl::StrCat("no cuda:", ordinal, ": this machine has ", count, " CUDA devices"));
  }
  if (!at::detail::getCUDAHooks().hasCUDA()) {
    return absl::NotFoundError("libtorch finds no usable CUDA device: its driver may be older than the one it needs");
  }
  // What is reserved then follows what is allocated: blocks that lie apart no longer keep memory between them.
  std::string settings = "expandable_segments:True";
  if (size_t total = 0; memory_limit_bytes > 0 && driver->total(&total, ordinal) == 0 && memory_limit_bytes < total) {
    absl::StrAppendFormat(&settings, ",per_process_memory_fraction:%.6f",
                          static_cast<double>(memory_limit_bytes) / static_cast<double>(total));
  }
  // The allocator reads this when it begins; Cap is for later.
  c10::CachingAllocator::setAllocatorSettings(settings);
  at::globalContext().lazyInitDevice(at::kCUDA);
  return std::make_unique<Cuda>(ordinal, threads, *driver, memory_limit_bytes);
}

}  // namespace storyfarm::device
