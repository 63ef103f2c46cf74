#include "pipeline/device/kernel_library.h"

#include <dlfcn.h>

#include <atomic>
#include <filesystem>
#include <system_error>

namespace storyfarm::device {
namespace {

constexpr char kFile[] = "libstoryfarm_cuda.so";

// A loaded library belongs to the process, as its symbols do.
std::atomic<const KernelLibrary*> loaded = nullptr;

template <typename Function>
bool Find(void* library, const char* symbol, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, symbol));
  return *function != nullptr;
}

const KernelLibrary* Open(const std::filesystem::path& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  static KernelLibrary found;
  const bool complete =
      Find(library, "StoryfarmGroupNormScratch", &found.group_norm_scratch) &&
      Find(library, "StoryfarmGroupNormRun", &found.group_norm) &&
      Find(library, "StoryfarmLayerNorm", &found.layer_norm) && Find(library, "StoryfarmGeglu", &found.geglu) &&
      Find(library, "StoryfarmHasGatedProduct", &found.has_gated_product) &&
      Find(library, "StoryfarmGatedProduct", &found.gated_product) &&
      Find(library, "StoryfarmAddProductRun", &found.add_product) &&
      Find(library, "StoryfarmJoinRows", &found.join_rows) &&
      Find(library, "StoryfarmGatherRows", &found.gather_rows) && Find(library, "StoryfarmUpsample", &found.upsample) &&
      Find(library, "StoryfarmAddBias", &found.add_bias) && Find(library, "StoryfarmUnpack", &found.unpack) &&
      Find(library, "StoryfarmPack", &found.pack) && Find(library, "StoryfarmGraphBegin", &found.graph_begin) &&
      Find(library, "StoryfarmGraphEnd", &found.graph_end) &&
      Find(library, "StoryfarmGraphReplay", &found.graph_replay) &&
      Find(library, "StoryfarmGraphDelete", &found.graph_delete) &&
      Find(library, "StoryfarmCapMemory", &found.cap_memory);
  return complete ? &found : nullptr;
}

}  // namespace

void LoadKernels() {
  if (loaded != nullptr) return;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return;
  const std::filesystem::path path = program.parent_path() / kFile;
  if (std::filesystem::exists(path, error)) loaded = Open(path);
}

const KernelLibrary* LoadedKernels() { return loaded.load(std::memory_order_acquire); }

}  // namespace storyfarm::device
