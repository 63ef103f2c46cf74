#include "coordinator/web/request_guard.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace storyfarm::coordinator {
namespace {

// "name:port", "[v6]:port" or either without a port.
bool IsLoopbackHost(absl::string_view host) {
  const size_t end = absl::StartsWith(host, "[") ? host.find(']') : host.find(':');
  if (absl::StartsWith(host, "[") && end == absl::string_view::npos) return false;
  const size_t name_bytes = absl::StartsWith(host, "[") ? end + 1 : std::min(end, host.size());
  const std::string name = absl::AsciiStrToLower(host.substr(0, name_bytes));
  absl::string_view port = host.substr(name_bytes);
  uint32_t number = 0;
  if (!port.empty() && (!absl::ConsumePrefix(&port, ":") || !absl::SimpleAtoi(port, &number))) return false;
  return name == "127.0.0.1" || name == "localhost" || name == "[::1]";
}

}  // namespace

absl::Status CheckSource(const RequestSource& source) {
  if (!IsLoopbackHost(source.host)) {
    return absl::PermissionDeniedError(absl::StrCat(
        "The farm's page answers under 127.0.0.1, localhost and [::1] only, and was asked for \"", source.host,
        "\". Open the link that storyctl web prints."));
  }
  const bool own_page = source.fetch_site.empty() || source.fetch_site == "same-origin" || source.fetch_site == "none";
  if (!own_page && !source.page) {
    return absl::PermissionDeniedError(
        "Another site's page asked for this; only the farm's own page may. Open the link that storyctl web prints.");
  }
  if (!source.changes) return absl::OkStatus();
  if (source.origin.empty()) {
    return absl::PermissionDeniedError(
        "What changes something needs an Origin header, which every browser sends. From a script use storyctl.");
  }
  if (!absl::EqualsIgnoreCase(source.origin, absl::StrCat("http://", source.host))) {
    return absl::PermissionDeniedError(absl::StrCat("A page of ", source.origin,
                                                    " asked to change something; only the farm's own page may."));
  }
  return absl::OkStatus();
}

std::optional<std::string> CookieOf(absl::string_view header, absl::string_view name) {
  for (absl::string_view cookie : absl::StrSplit(header, ';')) {
    cookie = absl::StripAsciiWhitespace(cookie);
    if (absl::ConsumePrefix(&cookie, name) && absl::ConsumePrefix(&cookie, "=")) return std::string(cookie);
  }
  return std::nullopt;
}

std::string BearerOf(absl::string_view header) {
  constexpr absl::string_view kScheme = "Bearer ";
  if (!absl::StartsWithIgnoreCase(header, kScheme)) return "";
  return std::string(absl::StripAsciiWhitespace(header.substr(kScheme.size())));
}

bool SameSecret(absl::string_view a, absl::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace storyfarm::coordinator
