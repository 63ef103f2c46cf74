// The door between pipeline/model's plain struct and the message that travels.
#ifndef STORYFARM_PIPELINE_PLAN_PROFILE_H_
#define STORYFARM_PIPELINE_PLAN_PROFILE_H_

#include "farm/v1/model.pb.h"
#include "pipeline/model/profile.h"

namespace storyfarm::plan {

// Field by field. Where the files hold something other than fp32, fp16 or bf16, stored_dtype stays unspecified.
farm::v1::ModelProfile ToMessage(const model::ModelProfile& profile);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_PROFILE_H_
