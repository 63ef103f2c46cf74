// Golden files and the parity table: how tests hold our numbers against a reference's.
//
//   const Golden golden("vae_tiny_sdxl");               // tests/data/golden/vae_tiny_sdxl.safetensors
//   EXPECT_TRUE(Parity({"VAE decode", "diffusers 0.42.1"}, vae.Decode(golden["latents"]), golden["decoded"], 1e-4));
//
// Each Parity prints one row: component | reference | largest difference | tolerance.
#ifndef STORYFARM_TESTS_SUPPORT_GOLDEN_H_
#define STORYFARM_TESTS_SUPPORT_GOLDEN_H_

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "pipeline/model/safetensors.h"

namespace storyfarm::testing_support {

// The tensors of a file in tests/data/golden, copied.
class Golden {
 public:
  // `name` without ".safetensors". Fails the test where the file can't be read.
  explicit Golden(const std::string& name) : name_(name) {
    const std::string path = std::string(STORYFARM_SOURCE_DIR) + "/tests/data/golden/" + name + ".safetensors";
    auto file = model::SafetensorsFile::Open(path);
    if (!file.ok()) {
      ADD_FAILURE() << file.status();
      return;
    }
    for (const model::TensorInfo& info : (*file)->tensors()) {
      auto* data = const_cast<std::byte*>((*file)->Bytes(info).data());
      at::Tensor tensor = at::empty(info.shape, at::dtype(TypeOf(info.type)));
      if (info.size_bytes > 0) std::memcpy(tensor.data_ptr(), data, info.size_bytes);
      tensors_[info.name] = tensor;
    }
    for (const auto& [key, value] : (*file)->metadata()) metadata_[key] = value;
  }

  // Fails the test and gives an empty tensor where there is none.
  at::Tensor operator[](const std::string& key) const {
    const auto found = tensors_.find(key);
    if (found != tensors_.end()) return found->second;
    ADD_FAILURE() << name_ << ".safetensors has no \"" << key << "\"";
    return at::empty({0});
  }
  bool Has(const std::string& key) const { return tensors_.count(key) > 0; }
  const std::map<std::string, at::Tensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  static at::ScalarType TypeOf(model::TensorType type) {
    switch (type) {
      case model::TensorType::kU8:
        return at::kByte;
      case model::TensorType::kI32:
        return at::kInt;
      case model::TensorType::kI64:
        return at::kLong;
      case model::TensorType::kF64:
        return at::kDouble;
      default:
        EXPECT_EQ(type, model::TensorType::kF32) << "golden files hold F32, F64, I32, I64 and U8";
        return at::kFloat;
    }
  }

  std::string name_;
  std::map<std::string, at::Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

struct ParityRow {
  std::string component;  // "UNet forward, odd grid"
  std::string reference;  // "diffusers 0.42.1"
};

enum class Measure {
  kAbsolute,           // largest |actual - expected|
  kRelativeToLargest,  // the same, divided by the largest |expected|
};

// Prints the row. Fails on another shape, a value that isn't finite, or a difference over the tolerance.
inline ::testing::AssertionResult Parity(const ParityRow& row, const at::Tensor& actual, const at::Tensor& expected,
                                         double tolerance, Measure measure = Measure::kAbsolute) {
  static const bool header_printed = [] {
    std::printf("%-46s | %-20s | %-10s | %s\n", "component", "reference", "largest", "tolerance");
    return true;
  }();
  (void)header_printed;
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure() << row.component << ": shape " << actual.sizes() << ", the reference has "
                                         << expected.sizes();
  }
  if (expected.numel() == 0) return ::testing::AssertionFailure() << row.component << ": nothing to compare";
  const at::Tensor a = actual.to(at::kCPU, at::kDouble), e = expected.to(at::kCPU, at::kDouble);
  double difference = (a - e).abs().max().item<double>();  // NaN where any is
  if (measure == Measure::kRelativeToLargest) difference /= e.abs().max().item<double>();
  std::printf("%-46s | %-20s | %-10.2e | %.0e%s\n", row.component.c_str(), row.reference.c_str(), difference, tolerance,
              measure == Measure::kAbsolute ? "" : " of the largest");
  if (!(difference <= tolerance)) {
    return ::testing::AssertionFailure() << row.component << ": " << difference << " over " << tolerance;
  }
  return ::testing::AssertionSuccess();
}

}  // namespace storyfarm::testing_support

#endif  // STORYFARM_TESTS_SUPPORT_GOLDEN_H_
