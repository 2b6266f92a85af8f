// Against our own server on a port of the loopback, both on one loop.
#include "io/websocket_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "io/http_server.h"

namespace nbos::io {
namespace {

using ::testing::HasSubstr;

class Echo final : public jupyter::HttpHandler {
public:
    class Socket final : public jupyter::WebSocketHandler {
    public:
        explicit Socket(std::shared_ptr<jupyter::WebSocket> socket) : socket_(std::move(socket)) {}
        void message(std::string_view payload, bool binary) override {
            if (payload == "bye") {
                socket_->close(1012, "later");
            } else {
                socket_->send(Bytes::copy(payload), binary);
            }
        }
        void closed() override {}

    private:
        std::shared_ptr<jupyter::WebSocket> socket_;
    };

    void handle(jupyter::HttpRequest, Respond respond) override { respond({}); }
    std::variant<jupyter::HttpResponse, jupyter::WebSocketAccept> upgrade(
        const jupyter::HttpRequest& request) override {
        if (request.header("authorization") != "token secret") {
            return jupyter::HttpResponse{.status = 401, .headers = {}, .body = {}};
        }
        return jupyter::WebSocketAccept{
            .subprotocol = std::string(request.header("sec-websocket-protocol")),
            .opened = [](std::shared_ptr<jupyter::WebSocket> socket) {
                return std::make_unique<Socket>(std::move(socket));
            }};
    }
};

class Connection : public ::testing::Test {
protected:
    void SetUp() override {
        auto opened = HttpServer::open(loop_, {}, echo_);
        ASSERT_TRUE(opened);
        server_ = std::move(*opened);
        events_.closed = [this](std::string why) { finish(std::move(why)); };
        events_.refused = [this](int status) { finish("status " + std::to_string(status)); };
        loop_.after(std::chrono::seconds(60), [this] { finish("nothing happened"); });
    }
    void finish(std::string how) {
        end_ = std::move(how);
        loop_.stop();
    }
    void run(const std::string& token = "secret") {
        client_.emplace(loop_,
                        WebSocketAddress{.host = "127.0.0.1",
                                         .port = server_->port(),
                                         .target = "/ws",
                                         .token = token,
                                         .subprotocol = "p1"},
                        options_, events_);
        loop_.run();
    }

    EventLoop loop_;
    Echo echo_;
    std::unique_ptr<HttpServer> server_;
    WebSocketClientOptions options_;
    WebSocketClient::Events events_;
    std::optional<WebSocketClient> client_;
    std::string end_;
};

TEST_F(Connection, CarriesMessagesBothWaysInOrder) {
    std::vector<std::string> got;
    const std::string large(3U << 20U, 'x');
    events_.opened = [&] {
        client_->send(Bytes::copy("one"), false);
        client_->send(Bytes(large), true);
        client_->send(Bytes::copy(std::string("\0\xff", 2)), true);
    };
    events_.message = [&](std::string_view payload, bool binary) {
        got.push_back((binary ? "b " : "t ") + std::string(payload));
        if (got.size() == 3) {
            finish("all");
        }
    };
    run();
    ASSERT_EQ(end_, "all");
    EXPECT_EQ(got[0], "t one");
    EXPECT_EQ(got[1], "b " + large);
    EXPECT_EQ(got[2], "b " + std::string("\0\xff", 2));
}

TEST_F(Connection, HearsThePongBehindWhatWasSentBefore) {
    std::string order;
    events_.opened = [&] {
        client_->send(Bytes::copy("m"), true);
        client_->ping();
    };
    events_.message = [&](std::string_view, bool) { order += "m"; };
    events_.pong = [&] {
        order += "p";
        finish("ponged");
    };
    run();
    EXPECT_EQ(end_, "ponged");
    EXPECT_EQ(order, "mp");
}

TEST_F(Connection, TellsARefusalByItsStatus) {
    run("wrong");
    EXPECT_EQ(end_, "status 401");
}

TEST_F(Connection, TellsTheCodeOfAClose) {
    events_.opened = [&] { client_->send(Bytes::copy("bye"), true); };
    run();
    EXPECT_EQ(end_, "closed with 1012");
}

TEST_F(Connection, TellsThatNobodyListens) {
    const auto port = server_->port();
    server_.reset();
    client_.emplace(loop_, WebSocketAddress{.host = "127.0.0.1", .port = port, .target = "/"},
                    options_, events_);
    loop_.run();
    EXPECT_THAT(end_, HasSubstr("refused"));
}

TEST_F(Connection, ClosesWhenTooMuchWaits) {
    options_.queued_bytes_max = 1'000;
    events_.opened = [&] { client_->send(Bytes(std::string(2'000, 'x')), true); };
    run();
    EXPECT_THAT(end_, HasSubstr("more waits"));
}

TEST_F(Connection, IsSilentOnceDestroyed) {
    events_.opened = [&] {
        client_->send(Bytes::copy("m"), true);
        client_.reset();
        loop_.after(std::chrono::milliseconds(50), [this] { finish("quiet"); });
    };
    run();
    EXPECT_EQ(end_, "quiet");
}

}  // namespace
}  // namespace nbos::io
