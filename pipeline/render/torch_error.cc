#include "pipeline/render/torch_error.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <new>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/render/request.h"

namespace storyfarm::render {
namespace {

// "Tried to allocate 2.50 GiB" (CUDA, MPS), "you tried to allocate 123 bytes" (CPU).
uint64_t AskedBytes(const std::string& message) {
  static constexpr char kAsked[] = "ried to allocate ";
  const size_t at = message.find(kAsked);
  if (at == std::string::npos) return 0;
  double amount = 0;
  char unit[8] = {};
  if (std::sscanf(message.c_str() + at + sizeof(kAsked) - 1, "%lf %7[A-Za-z]", &amount, unit) != 2) return 0;
  constexpr double kKib = 1024;  // torch says MB on MPS and means MiB
  const std::map<std::string, double> scale = {
      {"bytes", 1}, {"KiB", kKib},       {"MiB", kKib * kKib},      {"GiB", kKib * kKib * kKib},
      {"KB", kKib}, {"MB", kKib * kKib}, {"GB", kKib * kKib * kKib}};
  const auto found = scale.find(unit);
  return found == scale.end() || amount < 0 ? 0 : static_cast<uint64_t>(amount * found->second);
}

bool SaysOutOfMemory(const std::string& message) {
  // oneDNN says no more than the last where its own allocation fails; the shapes were checked when the weights came.
  for (const char* words :
       {"out of memory", "not enough memory", "can't allocate memory", "could not create a primitive"}) {
    if (message.find(words) != std::string::npos) return true;
  }
  return false;
}

std::string Gigabytes(uint64_t bytes) { return absl::StrFormat("%.2f GB", static_cast<double>(bytes) * 1e-9); }

}  // namespace

TorchError ReadTorchError(const std::exception& thrown) {
  TorchError error;
  const auto* from_torch = dynamic_cast<const c10::Error*>(&thrown);
  const std::string whole = from_torch != nullptr ? from_torch->what_without_backtrace() : thrown.what();
  error.message = whole.substr(0, whole.find('\n'));
  error.asked_bytes = AskedBytes(whole);
  error.out_of_memory = dynamic_cast<const c10::OutOfMemoryError*>(&thrown) != nullptr ||
                        dynamic_cast<const std::bad_alloc*>(&thrown) != nullptr || SaysOutOfMemory(whole);
  return error;
}

absl::Status OutOfMemory(const TorchError& error, const std::string& device, const device::Memory& now) {
  const std::string asked =
      error.asked_bytes > 0 ? absl::StrCat(" and asked for ", Gigabytes(error.asked_bytes), " more") : "";
  const uint64_t needed = error.asked_bytes > 0 ? std::max(now.peak_bytes, now.reserved_bytes + error.asked_bytes) : 0;
  return Fail(FailureKind::kOutOfMemory,
              absl::StrCat("out of memory on ", device, ": this engine held ", Gigabytes(now.reserved_bytes), " of ",
                           Gigabytes(now.total_bytes), asked, ". ", error.message),
              needed);
}

}  // namespace storyfarm::render
