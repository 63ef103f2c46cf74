// Every request that the server answers: one table says which, what each needs (nothing, a session's role, the metrics'
// token), and who does it. Answers are JSON; an error is {"error": "a sentence"} with the HTTP status of its code.
// Behind web_server.h.
#ifndef STORYFARM_COORDINATOR_WEB_API_H_
#define STORYFARM_COORDINATOR_WEB_API_H_

#include <httplib.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/web/farm_door.h"
#include "coordinator/web/farm_follower.h"
#include "coordinator/web/memory_history.h"
#include "coordinator/web/sessions.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

// What a request must bring.
enum class Need {
  kNothing,   // files of the page, login, health: nothing of the farm is in them
  kMetrics,   // the metrics' token, or any session
  kViewer,    // a session; and so on
  kSubmitter,
  kAdmin,
};

class Api;

// One request that is allowed.
struct Call {
  const httplib::Request& request;
  httplib::Response& response;
  std::vector<std::string> names;  // what stood for the pattern's {}
  std::optional<Session> session;
  std::string token;  // the session's
  farm::v1::Role most = farm::v1::ROLE_ADMIN;  // what its visitor may do, whatever the session
};

struct Route {
  const char* method;   // "GET" (and HEAD), "POST"
  const char* pattern;  // segments; "{}" is any one of them
  Need need;
  void (Api::*serve)(const Call& call);
};
// All of them.
const std::vector<Route>& Routes();

class Api {
 public:
  // What it names outlives it.
  struct Parts {
    FarmDoor* door = nullptr;
    Sessions* sessions = nullptr;
    FarmFollower* follower = nullptr;
    MemoryHistory* history = nullptr;
    base::Env* env = nullptr;
    base::Log* log = nullptr;
    std::string software_version;
    std::string metrics_token;
  };
  explicit Api(Parts parts) : parts_(std::move(parts)) {}

  // Any thread.
  void Serve(const httplib::Request& request, httplib::Response& response, farm::v1::Role most);

 private:
  friend const std::vector<Route>& Routes();

  // ---- api.cc
  // What the request brought; an error where that is too little.
  absl::Status Admit(const Route& route, Call& call) const;
  void Page(const Call& call);
  void PageFile(const Call& call);
  void LoginPage(const Call& call);
  void Login(const Call& call);
  void Logout(const Call& call);
  void Me(const Call& call);
  void Metrics(const Call& call);
  void Health(const Call& call);
  void Ready(const Call& call);

  // ---- api_farm.cc
  void Events(const Call& call);
  void ListJobs(const Call& call);
  void GetJob(const Call& call);
  void Outputs(const Call& call);
  void Explain(const Call& call);
  void Memory(const Call& call);
  void Blob(const Call& call);
  void Pause(const Call& call);
  void Resume(const Call& call);
  void Priority(const Call& call);
  void Cancel(const Call& call);
  void Retry(const Call& call);
  void RetryTask(const Call& call);
  void Log(const Call& call);
  void Remove(const Call& call);
  void Drain(const Call& call);
  void Undrain(const Call& call);
  // Notes in the log who did what.
  void Told(const Call& call, const char* event);

  const Parts parts_;
};

// {"error": ...} with the HTTP status of the code.
void AnswerError(const absl::Status& status, httplib::Response& response);
void AnswerJson(const std::string& json, httplib::Response& response);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_API_H_
