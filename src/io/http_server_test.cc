// A real server on a port of the loopback, and a client of plain sockets against it.
#include "io/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "io/websocket_frames.h"

namespace nbos::io {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class Echo final : public jupyter::HttpHandler {
public:
    class Socket final : public jupyter::WebSocketHandler {
    public:
        Socket(std::shared_ptr<jupyter::WebSocket> socket, int& closed)
            : socket_(std::move(socket)), closed_(closed) {}
        void message(std::string_view payload, bool binary) override {
            if (payload == "flood") {
                for (int i = 0; i < 64; ++i) {
                    socket_->send(Bytes(std::string(1U << 20U, 'x')), true);
                }
                return;
            }
            socket_->send(Bytes::copy(payload), binary);
        }
        void closed() override { ++closed_; }

    private:
        std::shared_ptr<jupyter::WebSocket> socket_;
        int& closed_;
    };

    explicit Echo(EventLoop& loop) : loop_(loop) {}

    bool wants_body(const jupyter::HttpRequest& request) override {
        return request.target != "/unwanted";
    }

    void handle(jupyter::HttpRequest request, Respond respond) override {
        auto answer = [request, respond = std::move(respond)] {
            jupyter::HttpResponse response;
            response.body = request.method + " " + request.target + " " + request.body;
            respond(std::move(response));
        };
        if (request.target == "/later") {
            loop_.after(std::chrono::milliseconds(1), answer);
        } else {
            answer();
        }
    }
    std::variant<jupyter::HttpResponse, jupyter::WebSocketAccept> upgrade(
        const jupyter::HttpRequest& request) override {
        if (request.target != "/ws") {
            return jupyter::HttpResponse{
                .status = 404, .content_type = {}, .headers = {}, .body = "no"};
        }
        return jupyter::WebSocketAccept{
            .subprotocol = "chosen", .opened = [this](std::shared_ptr<jupyter::WebSocket> socket) {
                return std::make_unique<Socket>(std::move(socket), closed);
            }};
    }
    int closed = 0;

private:
    EventLoop& loop_;
};

class Client {
public:
    explicit Client(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(0, ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address));
        timeval limit{.tv_sec = 20, .tv_usec = 0};
        ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    }
    ~Client() { ::close(socket_); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    void write(const std::string& text) {
        for (std::size_t at = 0; at < text.size();) {
            const auto n = ::send(socket_, text.data() + at, text.size() - at, MSG_NOSIGNAL);
            if (n <= 0) {
                return;
            }
            at += static_cast<std::size_t>(n);
        }
    }
    // Until `end` has come, or the server closes.
    std::string read_until(const std::string& end) {
        while (input_.find(end) == std::string::npos && fill()) {
        }
        const auto at = input_.find(end);
        const auto size = at == std::string::npos ? input_.size() : at + end.size();
        auto out = input_.substr(0, size);
        input_.erase(0, size);
        return out;
    }
    std::string read(std::size_t size) {
        while (input_.size() < size && fill()) {
        }
        auto out = input_.substr(0, size);
        input_.erase(0, out.size());
        return out;
    }
    std::string read_all() {
        while (fill()) {
        }
        return std::exchange(input_, {});
    }

private:
    bool fill() {
        char buffer[65536];
        const auto n = ::recv(socket_, buffer, sizeof buffer, 0);
        if (n > 0) {
            input_.append(buffer, static_cast<std::size_t>(n));
        }
        return n > 0;
    }
    int socket_;
    std::string input_;
};

// The loop on a thread of its own; everything of the server is touched there only.
class HttpServerTest : public ::testing::Test {
protected:
    HttpServerTest() {
        auto opened = HttpServer::open(
            loop_,
            {.listen = "127.0.0.1:0",
             .body_bytes_max = 1U << 20U,
             .websocket = {.queued_bytes_max = 8U << 20U, .close_wait = std::chrono::seconds(10)}},
            echo_);
        EXPECT_TRUE(opened) << opened.error().what;
        server_ = std::move(*opened);
        port_ = server_->port();
        thread_ = std::thread([this] { loop_.run(); });
    }
    ~HttpServerTest() override {
        loop_.post([this] {
            server_.reset();
            loop_.post([this] { loop_.stop(); });
        });
        thread_.join();
    }
    static std::string handshake(const std::string& target = "/ws") {
        return "GET " + target +
               " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    }
    static std::string masked(WebSocketOpcode opcode, const std::string& payload) {
        auto out = websocket_frame_head(opcode, payload.size());
        out[1] = static_cast<char>(out[1] | 0x80);
        return out + std::string(4, '\0') + payload;
    }

    EventLoop loop_;
    Echo echo_{loop_};
    std::unique_ptr<HttpServer> server_;
    std::uint16_t port_ = 0;
    std::thread thread_;
};

TEST_F(HttpServerTest, KeepsAConnectionAndAnswersLaterToo) {
    Client client(port_);
    client.write("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_THAT(client.read_until("GET /a "), StartsWith("HTTP/1.1 200"));
    client.write("POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    EXPECT_THAT(client.read_until("POST /later abc"), StartsWith("HTTP/1.1 200"));
    client.write("HEAD /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const auto head = client.read_all();
    EXPECT_THAT(head, HasSubstr("Content-Length: 8"));
    EXPECT_TRUE(head.ends_with("\r\n\r\n")) << head;
}

TEST_F(HttpServerTest, TooLargeAndUnreadableRequestsAreAnswered) {
    {
        Client client(port_);
        client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n" +
                     std::string(300'000, 'x'));
        const auto answer = client.read_all();
        EXPECT_THAT(answer, StartsWith("HTTP/1.1 413"));
        EXPECT_THAT(answer, HasSubstr("\"message\""));
    }
    {
        Client client(port_);
        client.write("NONSENSE\r\n\r\n");
        EXPECT_THAT(client.read_all(), StartsWith("HTTP/1.1 400"));
    }
    Client client(port_);
    client.write("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    EXPECT_THAT(client.read_until("\r\n\r\n"), StartsWith("HTTP/1.1 100"));
    client.write("ok");
    EXPECT_THAT(client.read_until("POST / ok"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, ABodyThatNobodyWantsIsNotWaitedFor) {
    for (const std::string expect : {"", "Expect: 100-continue\r\n"}) {
        Client client(port_);
        client.write("POST /unwanted HTTP/1.1\r\nHost: x\r\n" + expect +
                     "Content-Length: 1000000\r\n\r\nbeginning");
        const auto answer = client.read_all();
        EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
        EXPECT_TRUE(answer.ends_with("POST /unwanted ")) << answer;
        EXPECT_THAT(answer, HasSubstr("Connection: close"));
    }
    Client client(port_);
    client.write("POST /unwanted HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    EXPECT_THAT(client.read_until("POST /unwanted "), HasSubstr("HTTP/1.1 200"));
    client.write("GET /still HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_THAT(client.read_until("GET /still "), HasSubstr("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, AWebSocketEchoesAnythingAndClosesInOrder) {
    Client client(port_);
    client.write(handshake() + masked(WebSocketOpcode::kText, "\xff\xfe"));  // right behind it
    const auto head = client.read_until("\r\n\r\n");
    EXPECT_THAT(head, StartsWith("HTTP/1.1 101"));
    EXPECT_THAT(head, HasSubstr("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    EXPECT_THAT(head, HasSubstr("Sec-WebSocket-Protocol: chosen"));
    EXPECT_EQ("\x81\x02\xff\xfe", client.read(4));
    client.write(masked(WebSocketOpcode::kPing, "hi"));
    EXPECT_EQ("\x8A\x02hi", client.read(4));
    client.write(masked(WebSocketOpcode::kClose, "\x03\xe8"));
    EXPECT_EQ("\x88\x02\x03\xe8", client.read_all());
}

TEST_F(HttpServerTest, BadHandshakesArePlainAnswers) {
    {
        Client client(port_);
        client.write(handshake("/elsewhere"));
        EXPECT_THAT(client.read_all(), StartsWith("HTTP/1.1 404"));
    }
    Client client(port_);
    client.write(
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n\r\n");
    EXPECT_THAT(client.read_all(), StartsWith("HTTP/1.1 426"));
}

TEST_F(HttpServerTest, DrainingClosesSocketsWith1012) {
    Client client(port_);
    client.write(handshake());
    client.read_until("\r\n\r\n");
    loop_.post([this] { server_->drain(1012, "restart"); });
    const auto close = client.read(11);
    EXPECT_EQ(std::string("\x88\x09\x03\xf4", 4) + "restart", close);
    client.write(masked(WebSocketOpcode::kClose, "\x03\xf4"));
    EXPECT_EQ("", client.read_all());
}

TEST_F(HttpServerTest, AClientThatDoesNotReadIsClosedAndTheServerLives) {
    Client slow(port_);
    slow.write(handshake() + masked(WebSocketOpcode::kText, "flood"));
    Client other(port_);
    other.write("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_THAT(other.read_until("GET /a "), StartsWith("HTTP/1.1 200"));
    const auto all = slow.read_until("the client reads too slowly");
    EXPECT_LT(all.size(), 64U << 20U);
    EXPECT_THAT(all, HasSubstr("the client reads too slowly"));
}

TEST_F(HttpServerTest, ATakenPortIsAClearError) {
    const auto second =
        HttpServer::open(loop_, {.listen = "127.0.0.1:" + std::to_string(port_)}, echo_);
    // reuse_address does not take a port that is listened on.
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().what, HasSubstr("choose another one"));
    EXPECT_FALSE(HttpServer::open(loop_, {.listen = "nowhere"}, echo_));
}

TEST(SplitHostPort, TakesIpv4AndIpv6) {
    EXPECT_EQ(80, split_host_port("1.2.3.4:80")->port);
    EXPECT_EQ("::1", split_host_port("[::1]:80")->host);
    EXPECT_FALSE(split_host_port("1.2.3.4"));
    EXPECT_FALSE(split_host_port("1.2.3.4:x"));
    EXPECT_FALSE(split_host_port("1.2.3.4:99999"));
}

}  // namespace
}  // namespace nbos::io
