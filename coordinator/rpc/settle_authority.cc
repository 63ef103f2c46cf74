#include "coordinator/rpc/settle_authority.h"

#include <future>

#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {
namespace {

struct Trusted {
  std::string digest;  // of the farm's authority; empty: none
  size_t members = 0;  // who trust it
};

absl::StatusOr<Trusted> LookUp(Loop& loop) {
  Trusted trusted;
  std::promise<absl::Status> looked;
  loop.Look(
      [&trusted](const Farm& farm, const Time&) {
        trusted.digest = farm.AuthorityDigest();
        trusted.members = farm.ListMembers().size();
      },
      [&looked](const absl::Status& status) { looked.set_value(status); });
  const absl::Status status = looked.get_future().get();
  if (!status.ok()) return status;
  return trusted;
}

absl::Status Choose(Loop& loop, const std::string& digest) {
  std::promise<absl::Status> chosen;
  loop.Ask(
      [&digest](uint64_t number) {
        return Input(ChooseAuthority{number, digest});
      },
      [&chosen](const Reply& reply) { chosen.set_value(reply.status); });
  return chosen.get_future().get();
}

absl::Status KeyIsElsewhere(const Trusted& trusted, const std::string& trust_folder, const std::string& held) {
  return absl::UnauthenticatedError(absl::StrCat(
      "Other machines can't be served: ", trusted.members, " members trust the farm's authority ",
      base::Digest::FromBytes(trusted.digest).value_or(base::Digest()).ShortHex(), ", and ", trust_folder, " holds ",
      held,
      ". Let this coordinator join (storyctl coordinator add where the farm runs, storyfarm-coordinator --join here), "
      "or copy authority.key and authority.crt from the trust folder of the coordinator that had them. Where that is "
      "lost, start without --network, remove every member (storyctl worker remove, storyctl user remove) and let them "
      "join again."));
}

}  // namespace

absl::StatusOr<FarmAuthority> SettleAuthority(Loop& loop, base::Env& env, const std::string& trust_folder) {
  const absl::StatusOr<Trusted> trusted = LookUp(loop);
  if (!trusted.ok()) return trusted.status();
  absl::StatusOr<FarmAuthority> authority = FarmAuthority::Open(env, trust_folder);
  if (absl::IsNotFound(authority.status())) {
    if (trusted->members > 0) return KeyIsElsewhere(*trusted, trust_folder, "none");
    authority = FarmAuthority::Create(env, trust_folder);
  }
  if (!authority.ok()) return authority.status();
  if (trusted->members > 0 && trusted->digest != authority->digest().Bytes()) {
    return KeyIsElsewhere(*trusted, trust_folder, absl::StrCat("authority ", authority->digest().ShortHex()));
  }
  if (absl::Status chosen = Choose(loop, authority->digest().Bytes()); !chosen.ok()) return chosen;
  if (const absl::StatusOr<bool> renewed = authority->RenewOwn(env); !renewed.ok()) return renewed.status();
  return authority;
}

}  // namespace storyfarm::coordinator
