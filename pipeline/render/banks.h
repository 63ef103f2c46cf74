// Identity banks as requests name them: what ties one to a run, and what a broken one is to a scheduler.
#ifndef STORYFARM_PIPELINE_RENDER_BANKS_H_
#define STORYFARM_PIPELINE_RENDER_BANKS_H_

#include <string>

#include "absl/status/status.h"
#include "pipeline/identity/bank_file.h"
#include "pipeline/render/request.h"

namespace storyfarm::render {

// Of settings, what writer and readers of a bank must share: the number of steps and their schedule, guidance, gates
// and FreeU. Not seeds, token rates and noise, which only its writer used.
std::string SharedSettings(const Settings& settings);

identity::BankOrigin OriginOf(const Settings& settings, const std::string& model_name, const CharacterKey& key,
                              int identity_frames);

// A bank's error as a failure of the run: missing and damaged files are BLOB_UNAVAILABLE (another copy may be whole), a
// full disk DISK_FULL, everything else what it was.
absl::Status BankFailure(const absl::Status& status);

}  // namespace storyfarm::render

#endif  // STORYFARM_PIPELINE_RENDER_BANKS_H_
