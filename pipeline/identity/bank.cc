#include "pipeline/identity/bank.h"

#include "pipeline/device/fused.h"

namespace storyfarm::identity {
namespace {

at::ScalarType TorchType(BankElement element) {
  switch (element) {
    case BankElement::kFp32:
      return at::kFloat;
    case BankElement::kFp16:
      return at::kHalf;
    case BankElement::kBf16:
      return at::kBFloat16;
    case BankElement::kInt8:
      return at::kChar;
  }
  return at::kFloat;
}

// The elements of `halves` parts as [halves, tokens, C].
at::Tensor Elements(const at::Tensor& bytes, const PartShape& shape, int64_t halves) {
  const auto element = static_cast<int64_t>(shape.ElementBytes());
  return bytes.view(TorchType(shape.element))
      .as_strided({halves, shape.tokens, shape.channels},
                  {static_cast<int64_t>(shape.Bytes()) / element, shape.channels, 1},
                  bytes.storage_offset() / element + static_cast<int64_t>(shape.DataOffset()) / element);
}

// Their scales as [halves, tokens, 1].
at::Tensor Scales(const at::Tensor& bytes, const PartShape& shape, int64_t halves) {
  constexpr int64_t kScaleBytes = 2;
  return bytes.view(at::kHalf).as_strided({halves, shape.tokens, 1},
                                          {static_cast<int64_t>(shape.Bytes()) / kScaleBytes, 1, 1},
                                          bytes.storage_offset() / kScaleBytes);
}

}  // namespace

BankElement ElementOf(at::ScalarType computed) {
  if (computed == at::kHalf) return BankElement::kFp16;
  return computed == at::kBFloat16 ? BankElement::kBf16 : BankElement::kFp32;
}

PackedPart PackPart(const std::vector<at::Tensor>& tokens, BankElement element) {
  PackedPart part;
  part.shape = {.tokens = 0, .channels = tokens.front().size(1), .element = element};
  for (const at::Tensor& of_frame : tokens) part.shape.tokens += of_frame.size(0);
  // Zeros: padding is part of what files and their digests hold.
  part.bytes = at::zeros({static_cast<int64_t>(part.shape.Bytes())}, tokens.front().options().dtype(at::kByte));
  const at::Tensor elements = Elements(part.bytes, part.shape, 1).squeeze(0);
  int64_t first = 0;
  for (const at::Tensor& of_frame : tokens) {
    const int64_t count = of_frame.size(0);
    const at::Tensor to = elements.narrow(0, first, count);
    if (element == BankElement::kInt8 && count > 0) {
      device::Pack(of_frame, to, Scales(part.bytes, part.shape, 1).squeeze(0).narrow(0, first, count));
    } else {
      to.copy_(of_frame);
    }
    first += count;
  }
  return part;
}

at::Tensor UnpackParts(const at::Tensor& bytes, const PartShape& shape, int64_t halves, at::ScalarType dtype) {
  const at::Tensor elements = Elements(bytes, shape, halves);
  if (shape.element != BankElement::kInt8) return elements.to(dtype);
  const at::Tensor scales = Scales(bytes, shape, halves).to(dtype);
  at::Tensor tokens = at::empty(elements.sizes(), scales.options());
  for (int64_t h = 0; h < halves; ++h) device::UnpackTo(tokens[h], elements[h], scales[h]);
  return tokens;
}

}  // namespace storyfarm::identity
