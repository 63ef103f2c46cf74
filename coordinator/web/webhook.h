// coordinator/web: what the coordinator has to do with HTTP. For the program (coordinator/rpc/main.cc), which hands it
// to the server as a WebhookSender.
#ifndef STORYFARM_COORDINATOR_WEB_WEBHOOK_H_
#define STORYFARM_COORDINATOR_WEB_WEBHOOK_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace storyfarm::coordinator {

// For a receiver in the same house; one that answers later is tried again.
inline constexpr int64_t kWebhookConnectMs = 3'000;
// Between two pieces of what is sent or answered. The answer's body is not read.
inline constexpr int64_t kWebhookAnswerMs = 10'000;

// Posts JSON to one URL. Post: one thread at a time.
class Webhook {
 public:
  // INVALID_ARGUMENT with a sentence where it is not http://HOST[:PORT][/PATH].
  static absl::StatusOr<std::unique_ptr<Webhook>> To(const std::string& url);

  // OK where the receiver answered 2xx. UNAVAILABLE: it did not answer; FAILED_PRECONDITION: it answered something
  // else. Redirections are not followed: the body goes to nobody but the receiver that was named.
  absl::Status Post(const std::string& body);
  // Ends the Post that runs, as far as it has a connection, and all later ones. Any thread.
  void Interrupt();

 private:
  class Client;
  Webhook(std::string origin, std::string path);

  const std::string origin_;  // "http://host:port"
  const std::string path_;
  std::mutex mutex_;
  bool interrupted_ = false;
  std::shared_ptr<Client> running_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_WEBHOOK_H_
