#include "tools/storyctl/device_spec.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tools/storyctl/console.h"

namespace storyfarm::storyctl {
namespace {

constexpr char kExample[] = "such as --device \"mps,16GiB\" or --device \"cuda,24GB,free=20GB,speed=80tflops\"";

// No device has more; a number beyond it is a slip of the unit.
constexpr double kMostBytes = 1e15;
constexpr double kLeastBytes = 1e6;
constexpr double kMostTflops = 1e6;
constexpr uint32_t kMostThreads = 1024;

// What Metal recommends (recommendedMaxWorkingSetSize), as Macs report it: 11.45 GB of 16 GiB and 22.9 of 32, 51.5 of
// 64 GiB.
constexpr uint64_t kSmallMacBytes = uint64_t{32} << 30;
constexpr uint64_t MetalRecommends(uint64_t total_bytes) {
  return total_bytes <= kSmallMacBytes ? total_bytes / 3 * 2 : total_bytes / 4 * 3;
}

// Held by a CUDA context with torch's kernels before anything is allocated; free memory is reported without it.
constexpr uint64_t kCudaContextBytes = 600'000'000;

// Speeds where none is given: what a plain machine of the kind reaches in a large matrix product.
struct PlainMachine {
  double tflops;
  const char* name;
  uint32_t threads;  // that reach it together; 0: it is a GPU
};
PlainMachine PlainMachineOf(farm::v1::Backend backend) {
  switch (backend) {
    case farm::v1::CUDA:
      return {25, "a GeForce RTX 3060's in fp16", 0};  // NVIDIA: 25.5 dense, fp32 accumulation
    case farm::v1::MPS:
      return {2.6, "an Apple M1's", 0};  // Apple: 8 GPU cores, 2.6 TFLOP/s
    default:
      return {0.15, "two cores'", 2};  // 0.13 to 0.17 measured in fp32
  }
}

absl::Status Wrong(const std::string& spec, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("--device \"", spec, "\": ", what, "; ", kExample));
}

// The number that `text` begins with, and in `unit` the rest in lower case. False where there is none.
bool SplitNumber(absl::string_view text, double* number, std::string* unit) {
  const size_t end = text.find_first_not_of("0123456789.");
  const absl::string_view digits = text.substr(0, end);
  *unit = end == absl::string_view::npos ? std::string()
                                         : absl::AsciiStrToLower(absl::StripAsciiWhitespace(text.substr(end)));
  return absl::SimpleAtod(digits, number) && std::isfinite(*number);
}

bool ParseSize(absl::string_view text, uint64_t* bytes) {
  constexpr std::pair<const char*, double> kUnits[] = {
      {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"mib", 1024.0 * 1024}, {"gib", 1073741824.0}, {"tib", 1099511627776.0}};
  double number = 0;
  std::string unit;
  if (!SplitNumber(text, &number, &unit)) return false;
  const auto* known =
      std::find_if(std::begin(kUnits), std::end(kUnits), [&](const auto& u) { return unit == u.first; });
  if (known == std::end(kUnits)) return false;
  const double value = number * known->second;
  if (!(value >= kLeastBytes && value <= kMostBytes)) return false;
  *bytes = static_cast<uint64_t>(value);
  return true;
}

// What was written; zeros and empty where it was not.
struct Written {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
  uint64_t recommended_bytes = 0;
  double tflops = 0;
  uint32_t threads = 0;
  bool unified = false;
  std::string name;
};

// Takes one part. Empty where it is right, else what is wrong with it. `key` becomes what may not come twice.
std::string TakePart(const std::string& part, Written* written, std::string* key) {
  const auto bad_size = [&] {
    return absl::StrCat("'", part, "' is no size: write a number and MB, GB, TB, MiB, GiB or TiB, 1 MB to 1000 TB");
  };
  const std::pair<std::string, std::string> halves = absl::StrSplit(part, absl::MaxSplits('=', 1));
  *key = absl::StrContains(part, '=') ? halves.first : absl::ascii_isdigit(part[0]) ? "its memory" : part;
  const std::string& value = halves.second;
  if (part == "unified") {
    written->unified = true;
  } else if (*key == "its memory") {
    if (!ParseSize(part, &written->total_bytes)) return bad_size();
  } else if (*key == "free") {
    if (!ParseSize(value, &written->free_bytes)) return bad_size();
  } else if (*key == "recommended") {
    if (!ParseSize(value, &written->recommended_bytes)) return bad_size();
  } else if (*key == "speed") {
    std::string unit;
    const bool number = SplitNumber(value, &written->tflops, &unit) && (unit.empty() || unit == "tflops");
    if (!number || !(written->tflops > 0 && written->tflops <= kMostTflops)) {
      return absl::StrCat("'", part, "' is no speed: write TFLOP/s, such as speed=3.6tflops");
    }
  } else if (*key == "threads") {
    if (!absl::SimpleAtoi(value, &written->threads) || written->threads < 1 || written->threads > kMostThreads) {
      return absl::StrCat("'", part, "' is no number of threads from 1 to ", kMostThreads);
    }
  } else if (*key == "name" && !value.empty()) {
    written->name = value;
  } else {
    return absl::StrCat("'", part, "' is not understood: after the backend come a size, unified, free=SIZE, ",
                        "recommended=SIZE, speed=NUMBERtflops, threads=NUMBER, name=TEXT");
  }
  return "";
}

bool ParseBackend(const std::string& part, farm::v1::Backend* backend) {
  if (part == "cuda") *backend = farm::v1::CUDA;
  if (part == "mps") *backend = farm::v1::MPS;
  if (part == "cpu") *backend = farm::v1::CPU;
  return *backend != farm::v1::BACKEND_UNSPECIFIED;
}

// Fills in what such a machine would report and `written` does not say.
void Complete(const Written& written, DeviceSpec* spec) {
  farm::v1::DeviceReport& report = spec->report;
  const farm::v1::Backend backend = report.backend();
  report.set_name(written.name.empty() ? spec->text : written.name);
  report.set_total_bytes(written.total_bytes > 0 ? written.total_bytes : written.free_bytes);
  report.set_unified(written.unified || backend != farm::v1::CUDA);
  report.set_recommended_max_bytes(written.recommended_bytes);
  report.add_dtypes("fp32");
  if (backend != farm::v1::CPU) report.add_dtypes("fp16");
  if (backend == farm::v1::CUDA) report.add_dtypes("bf16");
  report.set_threads(written.threads);
  report.set_speed_tflops(written.tflops);

  uint64_t most_free = report.total_bytes();
  if (backend == farm::v1::MPS && written.recommended_bytes == 0) {
    report.set_recommended_max_bytes(MetalRecommends(report.total_bytes()));
    spec->assumed.push_back(absl::StrCat("Metal recommends ", FormatBytes(report.recommended_max_bytes()),
                                         " of it to one program, as it does on Macs of this size; else say ",
                                         "recommended=SIZE"));
  }
  if (report.recommended_max_bytes() > 0) most_free = std::min(most_free, report.recommended_max_bytes());
  if (backend == farm::v1::CUDA) most_free -= std::min(most_free, kCudaContextBytes);
  report.set_free_bytes(written.free_bytes > 0 ? written.free_bytes : most_free);
  if (written.free_bytes == 0) {
    spec->assumed.push_back(absl::StrCat("nothing else uses it: ", FormatBytes(most_free), " are free",
                                         backend == farm::v1::CUDA ? " beside CUDA itself" : "",
                                         "; else say free=SIZE"));
  }
  if (written.tflops == 0) {
    const PlainMachine plain = PlainMachineOf(backend);
    report.set_speed_tflops(plain.tflops);
    if (written.threads == 0) report.set_threads(plain.threads);
    spec->speed_assumed = true;
    spec->assumed.push_back(absl::StrFormat("%g TFLOP/s, %s: all seconds rest on it; else say speed=NUMBERtflops",
                                            plain.tflops, plain.name));
  }
}

}  // namespace

absl::StatusOr<DeviceSpec> ParseDeviceSpec(const std::string& text) {
  DeviceSpec spec;
  spec.text = text;
  std::vector<std::string> parts;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    parts.emplace_back(absl::StripAsciiWhitespace(part));
    if (parts.back().empty()) return Wrong(text, "a part between commas is empty");
  }
  farm::v1::Backend backend = farm::v1::BACKEND_UNSPECIFIED;
  if (!ParseBackend(parts[0], &backend)) {
    return Wrong(text, absl::StrCat("'", parts[0], "' is no backend: begin with cuda, mps or cpu"));
  }
  spec.report.set_backend(backend);
  Written written;
  std::set<std::string> seen;
  for (size_t i = 1; i < parts.size(); ++i) {
    std::string key;
    if (const std::string wrong = TakePart(parts[i], &written, &key); !wrong.empty()) return Wrong(text, wrong);
    if (!seen.insert(key).second) return Wrong(text, absl::StrCat("'", parts[i], "' says ", key, " a second time"));
  }
  if (written.total_bytes == 0 && written.free_bytes == 0) {
    return Wrong(text, "it does not say how much memory there is: add a size, such as 16GiB");
  }
  if (written.recommended_bytes > 0 && backend != farm::v1::MPS) {
    return Wrong(text, absl::StrCat("recommended= is what Metal says, and ", parts[0], " has no Metal: say free="));
  }
  if (written.total_bytes > 0 && written.free_bytes > written.total_bytes) {
    return Wrong(text, absl::StrCat("free=", FormatBytes(written.free_bytes), " is more than the ",
                                    FormatBytes(written.total_bytes), " that it has"));
  }
  Complete(written, &spec);
  return spec;
}

}  // namespace storyfarm::storyctl
