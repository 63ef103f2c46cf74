// CharacterPacks: which identity state two jobs may share, what is kept of it, and what a job takes from it.
//
// A pack's key is SHA-256 over all that determines its bank (method.md 2.11), written down in one way: PackDefinition.
// It begins with "storyfarm pack 1" and a zero byte; then fields follow, written as definition.h says, yes and no as the
// numbers 1 and 0, names as in settings.h. In this order:
//
//   method, gate_seed     kPackMethodVersion, kPackGateSeed
//   model                 digest of the model's files
//   character             Character.key: the hash of its definition
//   steps, guidance_scale, scheduler, scheduler_config (as the story has it)
//   freeu                 where it is on: then s1, s2, b1, b2
//   gate.before, gate.after, and gate.switch_step or gate.switch_fraction, whichever the story has
//   noise, seed           the story's seed: it keys the kept tokens
//   token_rate            one field for each rate
//   width, height         of the identity frames
//   dtype, reproducible   as the settings say, see below
//   and for each identity frame in order: frame.hidden, frame.id, frame.prompt, frame.negative_prompt (where there is
//   one), frame.seed
//
// Number formats. Where a story names no dtype, that is chosen with the plan, for the device that gets the task; and
// int8, attention chunks, VAE tiles and threads always are. A key has to be known before, as a hit means that nothing
// is planned. So the key holds what the story asks for, dtype "auto" too, and the manifest says under which plan the
// pack was computed: a story that leaves its formats to the farm takes a pack in whichever the farm chose first, just
// as its frames read a bank that another kind of device computed for the same job. A story that names a dtype has packs
// of that dtype alone, and a reproducible one only packs that were computed under a reproducible plan: on machines of
// one kind it comes out byte for byte as without the pack.
//
// What is no part of a key, since no bank follows from it: the panels' numbers, the story's other panels, the names of
// story, model and character, the style once it is in the prompts, id_length beyond the frames that there are.
#ifndef STORYFARM_PIPELINE_PLAN_PACK_H_
#define STORYFARM_PIPELINE_PLAN_PACK_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/pack.pb.h"
#include "farm/v1/settings.pb.h"
#include "farm/v1/work.pb.h"
#include "pipeline/plan/job_view.h"

namespace storyfarm::plan {

// Raised with every change after which the same definition gives another bank: draws, layers, order of keys.
inline constexpr uint64_t kPackMethodVersion = 1;
// The seed of all gates, identity::kGateSeed.
inline constexpr uint64_t kPackGateSeed = 1;

// Digits of a key in hex that stand for it where people write it.
inline constexpr size_t kLeastKeyDigits = 8;
inline constexpr size_t kShownKeyDigits = 12;
inline constexpr size_t kPackNameBytes = 64;

// The canonical text behind the key of an identity task, and the key, 32 bytes. `job` has its story, settings resolved,
// and its model.
std::string PackDefinition(const farm::v1::JobSpec& job, const farm::v1::IdentityTask& task);
std::string PackKey(const farm::v1::JobSpec& job, const farm::v1::IdentityTask& task);

// The first digits of a key in hex, for people.
std::string ShortKey(absl::string_view key);
// Whether a text can only be the beginning of a key: kLeastKeyDigits hexadecimal digits or more, and nothing else.
bool ReadsAsKey(absl::string_view text);
// Whether a key begins with these digits, which ReadsAsKey.
bool KeyBegins(absl::string_view key, absl::string_view digits);
// Empty where a pack may be called so, else a sentence.
std::string WrongPackName(absl::string_view name);

// What is kept of an identity task's result. `result` has a frame for each of the task's panels. Who computed it, and
// when, is the caller's to fill in.
farm::v1::PackManifest MakePack(const JobView& job, uint32_t number, const farm::v1::IdentityResult& result);

// The result of an identity task whose key is the pack's, or which takes the pack by name. Nothing was computed for it.
// Empty where the pack has not the frames that the task needs.
std::optional<farm::v1::IdentityResult> ResultFromPack(const farm::v1::IdentityTask& task,
                                                       const farm::v1::PackManifest& pack);

// Empty where a story of these resolved settings may read the pack, else what differs, and what to do. Packs read in
// one panel agree in model, schedule and gates, as each agrees with the story.
std::string WhyPackDoesNotFit(const farm::v1::PackManifest& pack, const farm::v1::ModelManifest& model,
                              const farm::v1::RenderSettings& settings);

// How many identity frames of the story's own size and token rate hold as much as the pack, rounded up.
uint32_t CountedFrames(const farm::v1::PackManifest& pack, const farm::v1::RenderSettings& settings);

// What a story's `pack: NAME` stands for.
struct NamedPack {
  farm::v1::PackManifest manifest;
  std::string trouble;  // why it can't be used, in a sentence; empty: it can
};
// By the names that the story uses. Those that are not here are unknown.
using NamedPacks = std::map<std::string, NamedPack>;

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_PACK_H_
