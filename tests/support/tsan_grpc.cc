// Shows the thread sanitizer the order that gRPC keeps. Debian's gRPC is not built for it, so its locks are unseen:
// what a thread did before it started an operation seems to race with what another does after the operation ended.
// Each such report is searched for, cell by cell, before it is suppressed: an upload of a megabyte took a minute.
//
// Linked before gRPC into every program of the tsan preset, it stands in for the functions between which an operation
// is under way, and states for each: what came before its start comes before its end. Races that gRPC does not order
// are found as before.
#include <dlfcn.h>
#include <grpc/grpc.h>
#include <sanitizer/tsan_interface.h>

#include <utility>

#include "absl/status/status.h"

struct grpc_cq_completion;
using ReleaseCompletion = void (*)(void* argument, grpc_cq_completion* completion);

// gRPC's own, of src/core/lib/surface/completion_queue.h: an operation ended. Its callback runs, or its event queues.
void grpc_cq_end_op(grpc_completion_queue* queue, void* tag, absl::Status error, ReleaseCompletion release,
                    void* argument, grpc_cq_completion* storage, bool internal);

namespace {

// The function that `own`, of this file, stands in for.
template <typename Function>
Function* BehindThis(Function* own) {
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(own), &info);  // the mangled name, whatever abseil's inline namespace is called
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, info.dli_sname));
}

// Stands for every operation that ended: a server goes only after all of its own.
char ended = 0;

}  // namespace

extern "C" {

grpc_call_error grpc_call_start_batch(grpc_call* call, const grpc_op* operations, size_t count, void* tag,
                                      void* reserved) {
  static const auto real = BehindThis(&grpc_call_start_batch);
  if (tag != nullptr) __tsan_release(tag);
  return real(call, operations, count, tag, reserved);
}

grpc_event grpc_completion_queue_next(grpc_completion_queue* queue, gpr_timespec deadline, void* reserved) {
  static const auto real = BehindThis(&grpc_completion_queue_next);
  const grpc_event event = real(queue, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) __tsan_acquire(event.tag);
  return event;
}

grpc_event grpc_completion_queue_pluck(grpc_completion_queue* queue, void* tag, gpr_timespec deadline, void* reserved) {
  static const auto real = BehindThis(&grpc_completion_queue_pluck);
  const grpc_event event = real(queue, tag, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) __tsan_acquire(tag);
  return event;
}

void grpc_server_destroy(grpc_server* server) {
  static const auto real = BehindThis(&grpc_server_destroy);
  __tsan_acquire(&ended);
  real(server);
}

}  // extern "C"

void grpc_cq_end_op(grpc_completion_queue* queue, void* tag, absl::Status error, ReleaseCompletion release,
                    void* argument, grpc_cq_completion* storage, bool internal) {
  static const auto real = BehindThis(&grpc_cq_end_op);
  if (tag != nullptr) {
    __tsan_acquire(tag);
    __tsan_release(tag);
  }
  __tsan_release(&ended);
  real(queue, tag, std::move(error), release, argument, storage, internal);
}
