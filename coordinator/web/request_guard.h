// Whether a request was made by the farm's own page or by another one that the same browser has open. A page of a
// foreign site reaches a server on loopback in two ways: its name is made to point to 127.0.0.1 (DNS rebinding), which
// the Host header gives away, or it posts there across origins, which Origin and Sec-Fetch-Site give away. Pages of
// other servers on this machine count as foreign, too: cookies heed no port, so the session's is sent from those.
#ifndef STORYFARM_COORDINATOR_WEB_REQUEST_GUARD_H_
#define STORYFARM_COORDINATOR_WEB_REQUEST_GUARD_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace storyfarm::coordinator {

// The headers that tell it; empty: not there.
struct RequestSource {
  bool changes = false;    // POST
  bool page = false;       // a page to look at: one that a link of another site may open
  std::string host;        // Host
  std::string origin;      // Origin
  std::string fetch_site;  // Sec-Fetch-Site (Fetch Metadata Request Headers, W3C)
};

// OK, or PERMISSION_DENIED with a sentence. What changes something needs the Origin of the very host and port that it
// goes to, the rest at least a Host that is loopback: at any port, which a tunnel may have chosen.
absl::Status CheckSource(const RequestSource& source);

// The value of one cookie of a Cookie header.
std::optional<std::string> CookieOf(absl::string_view header, absl::string_view name);

// What follows "Bearer " in an Authorization header; empty: something else.
std::string BearerOf(absl::string_view header);

// Whether both are the same, in a time that does not tell where they differ.
bool SameSecret(absl::string_view a, absl::string_view b);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_REQUEST_GUARD_H_
