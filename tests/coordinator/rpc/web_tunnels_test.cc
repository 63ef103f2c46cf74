// Connections that are carried to the page's socket, which the test plays.
#include "coordinator/rpc/web_tunnels.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/base/unique_fd.h"
#include "tests/coordinator/rpc/test_farm.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::WebBytes;
using testing::HasSubstr;

// What the page does with a connection, on a thread of its own.
using Serve = std::function<void(int fd)>;

void Echo(int fd) {
  char bytes[5000];
  for (ssize_t got; (got = ::read(fd, bytes, sizeof(bytes))) > 0;) {
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t more = ::write(fd, bytes + sent, static_cast<size_t>(got - sent));
      if (more <= 0) return;
      sent += more;
    }
  }
}

void Wait(int fd) {
  char byte;
  while (::read(fd, &byte, 1) > 0) {
  }
}

class Page {
 public:
  Page(const std::string& path, Serve serve) : serve_(std::move(serve)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(path.begin(), path.end(), address.sun_path);
    listens_ = base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT_EQ(::bind(listens_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(listens_.get(), 64), 0);
    accepts_ = std::thread([this] {
      for (int fd; (fd = ::accept(listens_.get(), nullptr, nullptr)) >= 0;) {
        threads_.emplace_back([this, fd] {
          const base::UniqueFd connection(fd);
          serve_(fd);
        });
      }
    });
  }
  ~Page() {
    ::shutdown(listens_.get(), SHUT_RDWR);
    accepts_.join();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  const Serve serve_;
  base::UniqueFd listens_;
  std::thread accepts_;
  std::list<std::thread> threads_;
};

struct Line {
  explicit Line(Client& client) : stream(client.farm->WebTunnel(&context)) {}
  ~Line() { context.TryCancel(); }
  bool Say(const std::string& data) {
    WebBytes piece;
    piece.set_data(data);
    return stream->Write(piece);
  }
  std::string HearAll() {
    std::string all;
    for (WebBytes piece; stream->Read(&piece);) all += piece.data();
    return all;
  }
  grpc::Status End() {
    HearAll();
    return stream->Finish();
  }
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<WebBytes, WebBytes>> stream;
};

class WebTunnelsTest : public testing::Test {
 protected:
  // Starts the farm beside a page that serves so.
  Client Start(Serve serve) {
    page_ = std::make_unique<Page>(Socket(), std::move(serve));
    farm_.visitor_socket = [this](farm::v1::Role role) { return role == farm::v1::ROLE_ADMIN ? Socket() : "/nowhere"; };
    farm_.MustStart();
    return farm_.Connect();
  }
  std::string Socket() const { return folder_.File("page.sock"); }

  testing_support::TempFolder folder_;
  std::unique_ptr<Page> page_;  // outlives the farm
  TestFarm farm_;
};

TEST_F(WebTunnelsTest, CarryEverythingBothWaysInOrder) {
  Client client = Start(Echo);
  Line line(client);
  std::string sent;
  std::string heard;
  std::thread hears([&] { heard = line.HearAll(); });
  for (int i = 0; i < 40; ++i) {
    const std::string piece(kWebTunnelBytes - static_cast<size_t>(i), static_cast<char>('a' + i % 26));
    EXPECT_TRUE(line.Say(piece));
    sent += piece;
  }
  line.stream->WritesDone();  // the page hears of it, and ends
  hears.join();
  EXPECT_TRUE(heard == sent) << heard.size() << " of " << sent.size() << " bytes";
  EXPECT_TRUE(line.stream->Finish().ok());
}

TEST_F(WebTunnelsTest, FetchWhatThePageSaidBeforeItHungUp) {
  Client client = Start([](int fd) { EXPECT_EQ(::write(fd, "413 too large", 13), 13); });
  Line line(client);
  EXPECT_EQ(line.HearAll(), "413 too large");
  EXPECT_TRUE(line.stream->Finish().ok());
}

TEST_F(WebTunnelsTest, ThatAMemberHasTooManyOfAreRefused) {
  Client client = Start([](int fd) {
    EXPECT_EQ(::write(fd, "!", 1), 1);
    Wait(fd);
  });
  std::list<Line> lines;
  for (size_t i = 0; i < kWebTunnelsAMember; ++i) {
    lines.emplace_back(client);
    WebBytes greeting;  // each is there before the next one begins
    EXPECT_TRUE(lines.back().stream->Read(&greeting));
  }
  Line more(client);
  const grpc::Status refused = more.End();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), HasSubstr("close some"));
  lines.front().context.TryCancel();
  lines.front().End();
  grpc::Status again;
  do {  // the one that ended is forgotten in a moment
    Line next(client);
    next.stream->WritesDone();
    again = next.End();
  } while (again.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(again.ok()) << again.error_message();
}

TEST_F(WebTunnelsTest, SayWhyWhereThereIsNoPage) {
  farm_.MustStart();
  Client client = farm_.Connect();
  Line none(client);
  const grpc::Status off = none.End();
  EXPECT_EQ(off.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(off.error_message(), HasSubstr("--network"));
  farm_.Kill();
  farm_.visitor_socket = [this](farm::v1::Role) { return Socket(); };
  farm_.MustStart();
  Client again = farm_.Connect();
  Line gone(again);
  EXPECT_EQ(gone.End().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(WebTunnelsTest, TakeNoPieceThatIsTooLarge) {
  Client client = Start(Wait);
  Line line(client);
  EXPECT_TRUE(line.Say(std::string(kWebTunnelBytes + 1, 'x')));
  EXPECT_EQ(line.End().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(WebTunnelsTest, EndWithTheCoordinator) {
  Client client = Start(Wait);
  Line line(client);
  EXPECT_TRUE(line.Say("x"));
  farm_.Kill();
  EXPECT_FALSE(line.End().ok());
}

}  // namespace
}  // namespace storyfarm::coordinator
