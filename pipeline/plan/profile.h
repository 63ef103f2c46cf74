// The door between pipeline/model's plain struct and the message that travels.
#ifndef STORYFARM_PIPELINE_PLAN_PROFILE_H_
#define STORYFARM_PIPELINE_PLAN_PROFILE_H_

#include "farm/v1/model.pb.h"

namespace storyfarm::model {
struct ModelProfile;
}

namespace storyfarm::plan {

farm::v1::ModelProfile ToMessage(const model::ModelProfile& profile);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_PROFILE_H_
