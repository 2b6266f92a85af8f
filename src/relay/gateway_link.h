// The WebSocket to the gateway, kept up: when to connect, when to try again, when to give up.
//
// A connection counts as open when the gateway has answered a ping: what it kept for our session
// while we were away stands before that answer, so it has all arrived.
//
// Threads  The loop thread; time comes in through `after` and the clock.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/ports.h"

namespace nbos::relay {

struct LinkOptions {
    std::chrono::milliseconds first_pause{100};  // doubled at each failure
    std::chrono::milliseconds pause_max{5'000};
    std::chrono::seconds reconnect_for{300};  // since the connection was lost
};

class GatewayLink {
public:
    struct Ports {
        const Clock& clock;
        std::function<void()> connect;  // answered by connected(), refused() or closed()
        std::function<void()> ping;     // answered by pong() or closed()
        std::function<void(std::chrono::milliseconds, std::function<void()>)> after;
        // What becomes of it:
        std::function<void()> opened;
        std::function<void()> lost;
        std::function<void(const std::string& why)> gave_up;  // once, and nothing after it
    };

    GatewayLink(LinkOptions options, Ports ports);

    void start();
    void stop();  // nothing happens any more

    void connected();
    void pong();
    // The handshake was answered with an HTTP status (0: with none).
    void refused(int status, std::string_view why);
    void closed(std::string_view why);

private:
    enum class State : std::uint8_t { kIdle, kConnecting, kCatchingUp, kOpen, kPausing, kEnded };

    void try_again(std::string_view why);
    void give_up(const std::string& why);

    LinkOptions options_;
    Ports ports_;
    State state_ = State::kIdle;
    Instant since_{};  // when it was lost, or started
    std::chrono::milliseconds pause_{};
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for pauses that end late
};

}  // namespace nbos::relay
