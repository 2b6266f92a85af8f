#include "relay/gateway_link.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace nbos::relay {

GatewayLink::GatewayLink(LinkOptions options, Ports ports)
    : options_(options), ports_(std::move(ports)), pause_(options.first_pause) {}

void GatewayLink::start() {
    since_ = ports_.clock.now();
    state_ = State::kConnecting;
    ports_.connect();
}

void GatewayLink::stop() { state_ = State::kEnded; }

void GatewayLink::connected() {
    if (state_ == State::kConnecting) {
        state_ = State::kCatchingUp;
        ports_.ping();
    }
}

void GatewayLink::pong() {
    if (state_ == State::kCatchingUp) {
        state_ = State::kOpen;
        pause_ = options_.first_pause;
        ports_.opened();
    }
}

void GatewayLink::refused(int status, std::string_view why) {
    if (state_ == State::kEnded) {
        return;
    }
    if (status == 404) {
        give_up("it does not exist at the gateway any more");
    } else if (status == 401 || status == 403) {
        give_up("the gateway does not accept the token any more");
    } else {
        try_again(why);
    }
}

void GatewayLink::closed(std::string_view why) {
    if (state_ == State::kOpen) {
        since_ = ports_.clock.now();
        log_warning("relay", "the connection to the gateway is lost ({}); trying again", why);
        ports_.lost();
    }
    if (state_ != State::kEnded && state_ != State::kPausing) {
        try_again(why);
    }
}

void GatewayLink::try_again(std::string_view why) {
    if (ports_.clock.now() - since_ > options_.reconnect_for) {
        give_up(fmt::format("the gateway did not come back within {} s (last: {})",
                            options_.reconnect_for.count(), why));
        return;
    }
    state_ = State::kPausing;
    const auto pause = std::exchange(pause_, std::min(2 * pause_, options_.pause_max));
    ports_.after(pause, [this, alive = std::weak_ptr<bool>(alive_)] {
        if (!alive.expired() && state_ == State::kPausing) {
            state_ = State::kConnecting;
            ports_.connect();
        }
    });
}

void GatewayLink::give_up(const std::string& why) {
    state_ = State::kEnded;
    ports_.gave_up(why);
}

}  // namespace nbos::relay
