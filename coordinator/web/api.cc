#include "coordinator/web/api.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "coordinator/web/metrics.h"
#include "coordinator/web/page_files.h"
#include "coordinator/web/request_guard.h"

namespace storyfarm::coordinator {
namespace {

constexpr char kNoSession[] =
    "This browser is not logged in to the farm. Run: storyctl web, and open the link that it prints.";

// Nothing from elsewhere, nothing inline, nobody's frame.
constexpr char kContentPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'";

int HttpStatus(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return 503;
    default:
      return 500;
  }
}

std::string RoleName(farm::v1::Role role) {
  return absl::AsciiStrToLower(absl::StripPrefix(farm::v1::Role_Name(role), "ROLE_"));
}

bool Matches(const Route& route, const std::string& method, const std::vector<std::string>& segments,
             std::vector<std::string>* names) {
  if (method != route.method && !(method == "HEAD" && std::string(route.method) == "GET")) return false;
  const std::vector<std::string> pattern = absl::StrSplit(route.pattern, '/');
  if (pattern.size() != segments.size()) return false;
  names->clear();
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == "{}") {
      names->push_back(segments[i]);
    } else if (pattern[i] != segments[i]) {
      return false;
    }
  }
  return true;
}

farm::v1::Role LeastRole(Need need) {
  switch (need) {
    case Need::kAdmin:
      return farm::v1::ROLE_ADMIN;
    case Need::kSubmitter:
      return farm::v1::ROLE_SUBMITTER;
    default:
      return farm::v1::ROLE_VIEWER;
  }
}

// Browsers keep cookies by host and not by port: farms of one machine, and those that reach it through tunnels, differ in
// the port by which the browser knows them.
std::string CookieName(const httplib::Request& request) {
  const std::string host = request.get_header_value("Host");
  const size_t colon = host.rfind(':');
  const bool said = colon != std::string::npos && host.find(']', colon) == std::string::npos;
  return absl::StrCat("storyfarm-", said ? host.substr(colon + 1) : "80");
}

void AnswerFile(const EmbeddedFile& file, httplib::Response& response) {
  response.set_content(file.bytes.data(), file.bytes.size(), PageFileType(file.name));
}

}  // namespace

void AnswerJson(const std::string& json, httplib::Response& response) {
  response.set_content(json, "application/json");
}

void AnswerError(const absl::Status& status, httplib::Response& response) {
  response.status = HttpStatus(status.code());
  const nlohmann::json body = {{"error", std::string(status.message())}};
  AnswerJson(body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), response);
}

const std::vector<Route>& Routes() {
  static const std::vector<Route> kRoutes = {
      {"GET", "/", Need::kNothing, &Api::Page},
      {"GET", "/login", Need::kNothing, &Api::LoginPage},
      {"GET", "/page/{}", Need::kNothing, &Api::PageFile},
      {"GET", "/healthz", Need::kNothing, &Api::Health},
      {"GET", "/readyz", Need::kNothing, &Api::Ready},
      {"GET", "/metrics", Need::kMetrics, &Api::Metrics},
      {"POST", "/api/login", Need::kNothing, &Api::Login},
      {"POST", "/api/logout", Need::kViewer, &Api::Logout},
      {"GET", "/api/me", Need::kViewer, &Api::Me},
      {"GET", "/api/events", Need::kViewer, &Api::Events},
      {"GET", "/api/jobs", Need::kViewer, &Api::ListJobs},
      {"GET", "/api/jobs/{}", Need::kViewer, &Api::GetJob},
      {"GET", "/api/jobs/{}/outputs", Need::kViewer, &Api::Outputs},
      {"GET", "/api/jobs/{}/{}/{}/explain", Need::kViewer, &Api::Explain},
      {"GET", "/api/jobs/{}/{}/{}/log", Need::kViewer, &Api::Log},
      {"GET", "/api/nodes/{}/memory", Need::kViewer, &Api::Memory},
      {"GET", "/api/blobs/{}", Need::kViewer, &Api::Blob},
      {"POST", "/api/jobs/{}/pause", Need::kSubmitter, &Api::Pause},
      {"POST", "/api/jobs/{}/resume", Need::kSubmitter, &Api::Resume},
      {"POST", "/api/jobs/{}/priority", Need::kSubmitter, &Api::Priority},
      {"POST", "/api/jobs/{}/cancel", Need::kSubmitter, &Api::Cancel},
      {"POST", "/api/jobs/{}/retry", Need::kSubmitter, &Api::Retry},
      {"POST", "/api/jobs/{}/{}/{}/retry", Need::kSubmitter, &Api::RetryTask},
      {"POST", "/api/jobs/{}/remove", Need::kAdmin, &Api::Remove},
      {"POST", "/api/nodes/{}/drain", Need::kAdmin, &Api::Drain},
      {"POST", "/api/nodes/{}/undrain", Need::kAdmin, &Api::Undrain},
  };
  return kRoutes;
}

absl::Status Api::Admit(const Route& route, Call& call) const {
  const httplib::Request& request = call.request;
  RequestSource source;
  source.changes = request.method == "POST";
  source.page = route.need == Need::kNothing && !source.changes;
  source.host = request.get_header_value("Host");
  source.origin = request.get_header_value("Origin");
  source.fetch_site = request.get_header_value("Sec-Fetch-Site");
  if (absl::Status status = CheckSource(source); !status.ok()) return status;
  if (const auto token = CookieOf(request.get_header_value("Cookie"), CookieName(request))) {
    call.session = parts_.sessions->Find(*token);
    call.token = *token;
    if (call.session.has_value()) call.session->role = std::min(call.session->role, call.most);
  }
  if (route.need == Need::kNothing || call.session.has_value()) {
    if (route.need == Need::kNothing || call.session->role >= LeastRole(route.need)) return absl::OkStatus();
    if (call.most < LeastRole(route.need)) {
      return absl::PermissionDeniedError(absl::StrCat(
          "You are a ", RoleName(call.most), " of this farm, and this takes the role ", RoleName(LeastRole(route.need)),
          ": ask the farm's owner to add you as one (storyctl user add --role ", RoleName(LeastRole(route.need)), ")."));
    }
    return absl::PermissionDeniedError(absl::StrCat(
        "This page was opened as ", RoleName(call.session->role), ", and this takes ", RoleName(LeastRole(route.need)),
        ". Open it with: storyctl web --role ", RoleName(LeastRole(route.need))));
  }
  if (route.need == Need::kMetrics) {
    if (SameSecret(BearerOf(request.get_header_value("Authorization")), parts_.metrics_token)) return absl::OkStatus();
    return absl::UnauthenticatedError(
        "Figures are given to whoever brings the token of the file web/metrics-token in the coordinator's data folder: "
        "in prometheus.yml, authorization: {credentials_file: FILE}.");
  }
  return absl::UnauthenticatedError(kNoSession);
}

void Api::Serve(const httplib::Request& request, httplib::Response& response, farm::v1::Role most) {
  response.set_header("Content-Security-Policy", kContentPolicy);
  response.set_header("X-Content-Type-Options", "nosniff");
  response.set_header("Referrer-Policy", "no-referrer");
  response.set_header("Cross-Origin-Resource-Policy", "same-origin");
  response.set_header("Cross-Origin-Opener-Policy", "same-origin");
  const std::vector<std::string> segments = absl::StrSplit(request.path, '/');
  Call call{request, response};
  call.most = most;
  const auto route = std::find_if(Routes().begin(), Routes().end(), [&](const Route& each) {
    return Matches(each, request.method, segments, &call.names);
  });
  // What is not there is told to nobody who may not look.
  static constexpr Route kUnknown = {"GET", "", Need::kViewer, nullptr};
  const bool known = route != Routes().end();
  if (const absl::Status status = Admit(known ? *route : kUnknown, call); !status.ok()) {
    response.set_header("Cache-Control", "no-store");
    return AnswerError(status, response);
  }
  if (!known) {
    response.set_header("Cache-Control", "no-store");
    return AnswerError(absl::NotFoundError(absl::StrCat("There is nothing at ", request.path, ".")), response);
  }
  (this->*route->serve)(call);
  if (!response.has_header("Cache-Control")) response.set_header("Cache-Control", "no-store");
}

void Api::Page(const Call& call) {
  if (!call.session.has_value()) {
    call.response.status = 401;
    return AnswerFile(*FindPageFile("login.html"), call.response);
  }
  AnswerFile(*FindPageFile("index.html"), call.response);
}

void Api::LoginPage(const Call& call) { AnswerFile(*FindPageFile("login.html"), call.response); }

void Api::PageFile(const Call& call) {
  const EmbeddedFile* file = FindPageFile(call.names[0]);
  if (file == nullptr) return AnswerError(absl::NotFoundError("The page has no such file."), call.response);
  // They are small and on this machine: a newer coordinator's page must not meet older files.
  call.response.set_header("Cache-Control", "no-cache");
  AnswerFile(*file, call.response);
}

void Api::Login(const Call& call) {
  const auto body = nlohmann::json::parse(call.request.body, nullptr, /*allow_exceptions=*/false);
  if (!body.is_object() || !body.contains("code") || !body["code"].is_string()) {
    return AnswerError(absl::InvalidArgumentError("A login is {\"code\": \"...\"} with the code of the link."),
                       call.response);
  }
  auto login = parts_.sessions->Redeem(body["code"].get<std::string>());
  if (!login.ok()) {
    parts_.log->Warning("web login refused", {{"why", std::string(login.status().message())}});
    return AnswerError(login.status(), call.response);
  }
  login->session.role = std::min(login->session.role, call.most);
  parts_.log->Info("web login", {{"role", RoleName(login->session.role)}});
  call.response.set_header("Set-Cookie", absl::StrCat(CookieName(call.request), "=", login->token,
                                                      "; Path=/; HttpOnly; SameSite=Strict; Max-Age=",
                                                      kSessionDays * 24 * 3600));
  AnswerJson(nlohmann::json{{"role", RoleName(login->session.role)}}.dump(), call.response);
}

void Api::Logout(const Call& call) {
  if (const absl::Status status = parts_.sessions->End(call.token); !status.ok()) {
    return AnswerError(status, call.response);
  }
  call.response.set_header("Set-Cookie",
                           absl::StrCat(CookieName(call.request), "=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"));
  AnswerJson("{}", call.response);
}

void Api::Me(const Call& call) {
  AnswerJson(nlohmann::json{{"role", RoleName(call.session->role)},
                            {"expires_unix_ms", call.session->expires_unix_ms},
                            {"version", parts_.software_version}}
                 .dump(),
             call.response);
}

void Api::Metrics(const Call& call) {
  const MetricsSource source = {parts_.software_version, parts_.follower->open_pages(), parts_.door->GetFigures(),
                                parts_.door->ListNodes()};
  call.response.set_content(MetricsText(source), kMetricsType);
}

// That it answers is all that it says.
void Api::Health(const Call& call) { call.response.set_content("ok\n", "text/plain; charset=utf-8"); }

void Api::Ready(const Call& call) {
  const bool leads = parts_.door->GetFigures().ok();
  if (!leads) call.response.status = 503;
  call.response.set_content(leads ? "ready\n" : "not ready: this coordinator does not lead the farm just now\n",
                            "text/plain; charset=utf-8");
}

}  // namespace storyfarm::coordinator
