// Keys for ordered containers, made of messages that have no order of their own.
#ifndef STORYFARM_WORKER_CORE_KEYS_H_
#define STORYFARM_WORKER_CORE_KEYS_H_

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include "farm/v1/job.pb.h"
#include "farm/v1/record.pb.h"

namespace storyfarm::worker {

using TokenKey = std::pair<uint64_t, uint64_t>;
inline TokenKey KeyOf(const farm::v1::FencingToken& token) { return {token.incarnation(), token.number()}; }

using TaskKey = std::tuple<std::string, int, uint32_t>;
inline TaskKey KeyOf(const farm::v1::TaskId& task) { return {task.job_id(), task.kind(), task.number()}; }

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_CORE_KEYS_H_
