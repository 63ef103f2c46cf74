// What the UNet's weights cost, kept whole, rounded or streamed: the arithmetic of sdxl/weight_stream.h. Internal to
// this folder.
#ifndef STORYFARM_PIPELINE_PLAN_WEIGHT_COST_H_
#define STORYFARM_PIPELINE_PLAN_WEIGHT_COST_H_

#include <cstdint>

#include "farm/v1/device.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"

namespace storyfarm::plan {

// All blocks, as the plan keeps those that stay: in its dtype, or in int8 with scales.
uint64_t BlockBytes(const farm::v1::ModelProfile& model, const farm::v1::MemoryPlan& plan);
// The ring through which blocks stream: one computes while the next arrives.
uint64_t WeightBufferBytes(const farm::v1::ModelProfile& model, const farm::v1::MemoryPlan& plan);

// The UNet's weights on the device from its first call to the group's end, without the ring; and the largest one that
// int8 unpacks beside them.
uint64_t UNetWeightBytes(const farm::v1::ModelProfile& model, const farm::v1::MemoryPlan& plan);
uint64_t UnpackedBytes(const farm::v1::ModelProfile& model, const farm::v1::MemoryPlan& plan);

// What rounded weights add to one UNet call, in TFLOP's worth of it.
double UnpackTflop(const farm::v1::ModelProfile& model, const farm::v1::MemoryPlan& plan);

// What streaming adds to a sweep over the network that computes for `sweep_seconds`. Above 0 wherever a block streams,
// and less the more of them stay: so no streamed plan is as fast as the resident one.
double StreamSeconds(const farm::v1::ModelProfile& model, const farm::v1::DeviceReport& device,
                     const farm::v1::MemoryPlan& plan, double sweep_seconds);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_WEIGHT_COST_H_
