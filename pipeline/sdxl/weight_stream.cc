#include "pipeline/sdxl/weight_stream.h"

#include <algorithm>
#include <utility>

namespace storyfarm::sdxl {
namespace {

// As torch aligns its own allocations on the CPU: kernels choose by alignment, and must choose the same.
constexpr uint64_t kAlignment = 64;

uint64_t Aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Pages that were read and that nothing views: the file has them still.
void GiveBack(const StoredTensor& stored) {
  stored.file->mapping().Advise(base::Access::kDontNeed, stored.offset_bytes, stored.tensor.nbytes());
}

// What a layer takes of a tensor of weights: NHWC for kernels where the placement says so.
at::MemoryFormat FormatOf(const at::Tensor& tensor, const Placement& placement) {
  return placement.channels_last && tensor.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

}  // namespace

at::Tensor Place(const StoredTensor& stored, const Placement& placement) {
  const c10::InferenceMode no_gradients;
  // Copied as stored and converted there: the narrower format crosses the bus.
  at::Tensor tensor = stored.tensor.to(placement.device).to(placement.dtype);
  tensor = tensor.contiguous(FormatOf(tensor, placement));
  if (!tensor.is_alias_of(stored.tensor)) GiveBack(stored);
  return tensor;
}

at::Tensor PlaceStack(const std::vector<StoredTensor>& stored, const Placement& placement) {
  if (stored.size() == 1) return Place(stored.front(), placement);
  const c10::InferenceMode no_gradients;
  std::vector<at::Tensor> placed;
  for (const StoredTensor& part : stored) placed.push_back(Place(part, placement));
  return at::cat(placed, 0);
}

WeightStream::WeightStream(const Placement& placement) : placement_(placement), lane_(placement.device) {}
WeightStream::~WeightStream() { StopLoader(); }

size_t WeightStream::AddBlock() {
  blocks_.emplace_back();
  return blocks_.size() - 1;
}

void WeightStream::Add(size_t block, std::vector<StoredTensor> stored, std::shared_ptr<Parameter::Slot> slot) {
  Block& to = blocks_.at(block);
  const uint64_t offset = to.bytes;
  const uint64_t element_bytes = c10::elementSize(placement_.dtype);
  uint64_t elements = 0;
  for (const StoredTensor& part : stored) {
    const auto own = static_cast<uint64_t>(part.tensor.numel());
    elements += own;
    to.kept += placement_.int8 ? Int8Bytes(part.tensor, placement_.dtype) : own * element_bytes;
  }
  to.bytes += Aligned(elements * element_bytes);
  to.pieces.push_back({std::move(stored), std::move(slot), offset});
}

void WeightStream::Start() {
  double all = 0;
  for (const Block& block : blocks_) all += static_cast<double>(block.kept);
  const double resident = placement_.stream ? static_cast<double>(placement_.stream->resident_bytes) : all;
  const double streamed_share = all > 0 ? std::max(0.0, 1 - resident / all) : 0;
  double debt = 0;  // bytes that should stream by now and do not yet
  uint64_t largest = 0;
  for (size_t b = 0; b < blocks_.size(); ++b) {
    Block& block = blocks_[b];
    debt += static_cast<double>(block.kept) * streamed_share;
    if (debt <= 0) {
      MakeResident(block);
      continue;
    }
    debt -= static_cast<double>(block.kept);
    block.resident = false;
    block.place = streamed_.size();
    streamed_.push_back(b);
    bytes_.streamed += block.bytes;
    largest = std::max(largest, block.bytes);
  }
  // A ring longer than a pass would hold blocks twice.
  if (!streamed_.empty()) bytes_.buffer = std::clamp(placement_.stream->buffer_bytes, largest, bytes_.streamed);
}

void WeightStream::MakeResident(Block& block) {
  for (Piece& piece : block.pieces) {
    if (placement_.int8) {
      Placement as_stored = placement_;
      as_stored.dtype = piece.stored.front().tensor.scalar_type();
      const c10::InferenceMode no_gradients;
      *piece.slot = ToInt8(PlaceStack(piece.stored, as_stored), placement_.dtype);
      for (const StoredTensor& part : piece.stored) GiveBack(part);
      bytes_.resident += piece.slot->scale.nbytes();
    } else if (lane_.stages()) {
      piece.slot->values = Fetched(piece);
    } else {
      piece.slot->values = PlaceStack(piece.stored, placement_);
    }
    bytes_.resident += piece.slot->values.nbytes();
  }
  block.pieces.clear();
}

std::vector<int64_t> WeightStream::ShapeOf(const Piece& piece) {
  std::vector<int64_t> shape = piece.stored.front().tensor.sizes().vec();
  shape[0] *= static_cast<int64_t>(piece.stored.size());
  return shape;
}

at::Tensor WeightStream::Fetched(const Piece& piece) {
  const c10::InferenceMode no_gradients;
  const at::Tensor values =
      at::empty(ShapeOf(piece), at::dtype(placement_.dtype)
                                    .device(placement_.device)
                                    .memory_format(FormatOf(piece.stored.front().tensor, placement_)));
  lane_.MarkReaders();  // of what the memory held before
  lane_.WaitForReaders();
  lane_.Run([&] { CopyAll({{&piece, values}}); });
  return values;
}

void WeightStream::CopyAll(const std::vector<std::pair<const Piece*, at::Tensor>>& places) {
  std::vector<device::CopyLane::Piece> fetched;
  std::vector<std::pair<at::Tensor, at::Tensor>> converted;  // from, to
  for (const auto& [piece, all] : places) {
    const int64_t rows = piece->stored.front().tensor.size(0);
    for (size_t part = 0; part < piece->stored.size(); ++part) {
      const StoredTensor& stored = piece->stored[part];
      const at::Tensor to = all.narrow(0, static_cast<int64_t>(part) * rows, rows);
      if (!lane_.stages()) {
        to.copy_(stored.tensor);
        GiveBack(stored);
        continue;
      }
      at::Tensor arrives;
      if (to.scalar_type() == stored.tensor.scalar_type() && to.is_contiguous()) {
        arrives = to.view({-1}).view(at::kByte);
      } else {
        // Another format or order: it arrives as stored, and is converted there.
        arrives =
            at::empty({static_cast<int64_t>(stored.tensor.nbytes())}, at::dtype(at::kByte).device(placement_.device));
        converted.emplace_back(arrives.view(stored.tensor.scalar_type()).view(stored.tensor.sizes()), to);
      }
      fetched.push_back({arrives, [&stored](uint64_t offset_bytes, std::span<std::byte> bytes) {
                           return stored.file->mapping().Read(stored.offset_bytes + offset_bytes, bytes);
                         }});
    }
  }
  if (fetched.empty()) return;
  lane_.Fetch(fetched);
  for (const auto& [from, to] : converted) to.copy_(from);
}

void WeightStream::Fill(const Block& block, uint64_t offset_bytes) {
  const c10::InferenceMode no_gradients;
  std::vector<std::pair<const Piece*, at::Tensor>> places;
  for (const Piece& piece : block.pieces) {
    const std::vector<int64_t> shape = ShapeOf(piece);
    const auto bytes = c10::multiply_integers(shape) * static_cast<int64_t>(c10::elementSize(placement_.dtype));
    at::Tensor view =
        ring_.narrow(0, static_cast<int64_t>(offset_bytes + piece.offset_bytes), bytes).view(placement_.dtype);
    if (FormatOf(piece.stored.front().tensor, placement_) == at::MemoryFormat::ChannelsLast) {
      view = view.view({shape[0], shape[2], shape[3], shape[1]}).permute({0, 3, 1, 2});
    } else {
      view = view.view(shape);
    }
    places.emplace_back(&piece, view);
  }
  CopyAll(places);
  for (const auto& [piece, view] : places) piece->slot->values = view;
}

void WeightStream::Empty(const Block& block) {
  for (const Piece& piece : block.pieces) piece.slot->values.reset();
}

// Room in the ring behind the last block, or before the first. Blocks leave in the order in which they came.
std::optional<uint64_t> WeightStream::FreeOffset(uint64_t bytes) const {
  if (loaded_.empty()) return 0;
  const uint64_t begin = loaded_.front().offset_bytes;
  const uint64_t end = loaded_.back().offset_bytes + blocks_[loaded_.back().block].bytes;
  if (end > begin) {
    if (end + bytes <= bytes_.buffer) return end;
    return bytes <= begin ? std::optional<uint64_t>(0) : std::nullopt;
  }
  return end + bytes <= begin ? std::optional<uint64_t>(end) : std::nullopt;
}

void WeightStream::PopFront() {
  Empty(blocks_[loaded_.front().block]);
  loaded_.pop_front();
}

void WeightStream::DropAll(std::unique_lock<std::mutex>& lock) {
  changed_.wait(lock, [&] { return !copying_; });
  while (!loaded_.empty()) PopFront();
}

void WeightStream::LoadAhead() {
  std::unique_lock lock(mutex_);
  while (true) {
    std::optional<uint64_t> offset;
    changed_.wait(lock, [&] {
      if (stopping_) return true;
      const bool all_there = loaded_.size() == streamed_.size();
      if (failure_ || all_there) return false;
      offset = FreeOffset(blocks_[streamed_[next_]].bytes);
      return offset.has_value();
    });
    if (stopping_) return;
    const Block& block = blocks_[streamed_[next_]];
    loaded_.push_back({streamed_[next_], *offset, false});
    next_ = (next_ + 1) % streamed_.size();
    copying_ = true;
    lock.unlock();
    std::exception_ptr failure;
    try {
      lane_.WaitForReaders();
      lane_.Run([&] { Fill(block, *offset); });
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    copying_ = false;
    failure_ = failure;
    loaded_.back().ready = !failure;
    changed_.notify_all();
  }
}

void WeightStream::StartLoader() {
  if (loader_.joinable()) return;
  const c10::InferenceMode no_gradients;
  ring_ = at::empty({static_cast<int64_t>(bytes_.buffer)}, at::dtype(at::kByte).device(placement_.device));
  lane_.MarkReaders();  // of what the memory held before
  loader_ = std::thread([this] { LoadAhead(); });
}

void WeightStream::StopLoader() {
  if (!loader_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  loader_.join();
  stopping_ = false;
}

void WeightStream::Acquire(size_t number) {
  const Block& block = blocks_.at(number);
  if (block.resident) return;
  StartLoader();
  std::unique_lock lock(mutex_);
  const auto there = [&] {
    return std::find_if(loaded_.begin(), loaded_.end(), [&](const Loaded& at) { return at.block == number; });
  };
  if (there() == loaded_.end()) {
    // Not on its way: a pass that left others out, or the first one. Start from here.
    lane_.MarkReaders();
    DropAll(lock);
    next_ = block.place;
  } else if (loaded_.front().block != number) {
    lane_.MarkReaders();
    while (loaded_.front().block != number) PopFront();
  }
  changed_.notify_all();
  changed_.wait(lock, [&] { return failure_ || (!loaded_.empty() && loaded_.front().ready); });
  if (failure_) {
    const std::exception_ptr failure = std::exchange(failure_, nullptr);
    DropAll(lock);
    next_ = block.place;
    std::rethrow_exception(failure);
  }
  ++held_;
}

void WeightStream::Release(size_t number) {
  if (blocks_.at(number).resident) return;
  const std::lock_guard lock(mutex_);
  --held_;
}

void WeightStream::Park() {
  if (!loader_.joinable()) return;
  TORCH_CHECK(held_ == 0, "a block of weights is held while the buffer is given back");
  lane_.MarkReaders();
  StopLoader();
  lane_.WaitForReaders();
  while (!loaded_.empty()) PopFront();
  next_ = 0;
  ring_.reset();
}

}  // namespace storyfarm::sdxl
