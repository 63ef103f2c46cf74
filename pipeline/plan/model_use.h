// Which files of a model a device needs for a work: a small device that draws pictures whose prompts are encoded
// already never brings a text encoder (1.6 GB in SDXL), and one that encodes prompts alone no UNet.
#ifndef STORYFARM_PIPELINE_PLAN_MODEL_USE_H_
#define STORYFARM_PIPELINE_PLAN_MODEL_USE_H_

#include <string>

#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"
#include "farm/v1/work.pb.h"

namespace storyfarm::plan {

enum class ModelUse {
  kText,      // prompts are encoded, nothing is drawn
  kPictures,  // drawn from embeddings
  kBoth,      // drawn, and who draws encodes the prompts
};
ModelUse UseOf(const farm::v1::Work& work);
// The same of a group that is planned.
ModelUse UseOf(const farm::v1::GroupShape& shape);

// Weights of parts that do not run are not needed. Configs, tokenizers and the lists of shards always are: they are
// small, and who opens a model reads them all.
bool Needs(ModelUse use, const farm::v1::ModelFile& file);

// The manifest's model, for works that use one; null: a page's.
const farm::v1::ModelManifest* ModelOf(const farm::v1::Work& work);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_MODEL_USE_H_
