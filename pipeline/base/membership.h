// What a program keeps of the farm that it joined: a folder with its key, its certificate, the farm's authority and its
// address. Where the programs find it: "trust" in their data folder.
//
//   authority.crt   who vouches for the farm's coordinators           own.key   0600, never leaves the machine
//   farm            the address, as CheckCoordinatorTarget takes it   own.crt   renewed by itself
//   authority.key   of a coordinator only, 0600
#ifndef STORYFARM_PIPELINE_BASE_MEMBERSHIP_H_
#define STORYFARM_PIPELINE_BASE_MEMBERSHIP_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/certificates.h"
#include "pipeline/base/env.h"

namespace storyfarm::base {

struct Membership {
  std::string farm;  // empty for a coordinator, which is the farm
  std::string authority_pem;
  std::string key_pem;
  std::string certificate_pem;
};

std::string TrustFolder(std::string_view data_folder);
// In a trust folder.
std::string AuthorityFile(std::string_view folder);
std::string AuthorityKeyFile(std::string_view folder);
std::string OwnKeyFile(std::string_view folder);
std::string OwnCertificateFile(std::string_view folder);

// NOT_FOUND: it never joined. FAILED_PRECONDITION: what lies there does not belong together.
absl::StatusOr<Membership> LoadMembership(Env& env, const std::string& folder);
// In place of an earlier one. Crashed midway, LoadMembership says so.
absl::Status SaveMembership(Env& env, const std::string& folder, const Membership& membership);
// A certificate for the same key.
absl::Status SaveRenewed(Env& env, const std::string& folder, const std::string& certificate_pem);

// Of the farm that it joined; empty: none.
std::string JoinedFarm(Env& env, const std::string& folder);

// OK where a program may talk to `farm` (CheckCoordinatorTarget) from here: it is on this machine, or it was joined and
// the certificate is good by this machine's clock. FAILED_PRECONDITION with a sentence that says what to do.
// `join_command`: what to run here to join, such as "storyctl join".
absl::Status CheckFarmAccess(Env& env, const std::string& farm, const std::string& trust_folder,
                             std::string_view join_command);

// "2026-11-28 04:35 UTC".
std::string FormatUnixMs(int64_t unix_ms);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_MEMBERSHIP_H_
