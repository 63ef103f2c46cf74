#include <algorithm>
#include <exception>
#include <utility>

#include "pipeline/device/transfer.h"
#include "pipeline/identity/bank.h"

namespace storyfarm::identity {
namespace {

// Reading and checking 10 to 16 GB/s, what a large GPU takes of an fp16 bank, needs several cores; a CPU that computes
// needs its own.
constexpr int kThreadsForGpu = 4;
constexpr int kThreadsForCpu = 1;

}  // namespace

// A slot of the ring on a device. What torch throws on a reading thread is thrown again on the computing one, which
// knows what running out of memory means.
class BankReader::Slot final : public LoadSlot {
 public:
  explicit Slot(std::unique_ptr<device::TransferSlot> transfer) : transfer_(std::move(transfer)) {}

  absl::StatusOr<std::span<std::byte>> Prepare(uint64_t size_bytes) override {
    std::span<std::byte> bytes;
    if (absl::Status status = Caught([&] { bytes = transfer_->Prepare(size_bytes); }); !status.ok()) return status;
    return bytes;
  }
  absl::Status Send(uint64_t size_bytes) override {
    return Caught([&] { transfer_->Send(size_bytes); });
  }

  device::TransferSlot& transfer() { return *transfer_; }
  void RethrowWhatWasThrown() const {
    if (thrown_) std::rethrow_exception(thrown_);
  }

 private:
  template <typename Call>
  absl::Status Caught(const Call& call) {
    try {
      call();
      return absl::OkStatus();
    } catch (const std::exception& error) {
      thrown_ = std::current_exception();
      return absl::InternalError(error.what());
    }
  }

  std::unique_ptr<device::TransferSlot> transfer_;
  std::exception_ptr thrown_;  // read after the ring told of the failure
};

BankReader::BankReader(base::Env& env, device::Device& device, Options options)
    : env_(env),
      options_(std::move(options)),
      threads_(device.torch_device().is_cpu() ? kThreadsForCpu : kThreadsForGpu) {
  for (int i = 0; i < std::max(1, options_.ring_layers); ++i) {
    slots_.push_back(std::make_unique<Slot>(device.NewTransferSlot()));
  }
}

BankReader::~BankReader() = default;

void BankReader::BeginPass(std::vector<BankLoad> loads) {
  Done();
  ring_.reset();
  std::erase_if(loads, [&](const BankLoad& load) { return kept_.contains(PlaceOf(load)); });
  if (loads.empty()) return;
  std::vector<LoadSlot*> slots;
  for (const std::unique_ptr<Slot>& slot : slots_) slots.push_back(slot.get());
  ring_ = std::make_unique<BankRing>(env_,
                                     BankRing::Options{.origin = options_.origin,
                                                       .halves = options_.halves,
                                                       .path_of = options_.path_of,
                                                       .loads = std::move(loads),
                                                       .layer_names = options_.layer_names,
                                                       .threads = threads_},
                                     std::move(slots));
}

absl::StatusOr<at::Tensor> BankReader::Tokens(const BankLoad& load) {
  Done();
  if (const auto kept = kept_.find(PlaceOf(load)); kept != kept_.end()) {
    return UnpackParts(kept->second.bytes, kept->second.shape, load.halves, options_.dtype);
  }
  if (ring_ == nullptr) return absl::InternalError("identity bank: asked for what the pass did not name");
  const absl::StatusOr<BankRing::Loaded> loaded = ring_->Next(load);
  if (!loaded.ok()) {
    for (const std::unique_ptr<Slot>& slot : slots_) slot->RethrowWhatWasThrown();
    return loaded.status();
  }
  current_ = slots_[loaded->slot].get();
  at::Tensor bytes = current_->transfer().Receive();
  if (options_.resident) kept_[PlaceOf(load)] = {loaded->shape, bytes.clone()};
  return UnpackParts(bytes, loaded->shape, load.halves, options_.dtype);
}

void BankReader::Done() {
  if (current_ == nullptr) return;
  std::exchange(current_, nullptr)->transfer().Release();
  ring_->Release();
}

}  // namespace storyfarm::identity
