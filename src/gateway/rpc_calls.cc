#include "gateway/rpc_calls.h"

#include <utility>
#include <vector>

namespace nbos::gateway {
namespace {

constexpr std::chrono::milliseconds kRepeat{3000};  // without an answer, although connected
constexpr std::chrono::milliseconds kNotLeaderPause{100};

}  // namespace

std::uint64_t RpcCalls::call(Route route, const Make& make, Instant now,
                             std::chrono::milliseconds timeout, Done done) {
    const auto number = next_++;
    auto& call = calls_[number];
    call = Call{.route = std::move(route),
                .rpc = make(number),
                .deadline = now + timeout,
                .done = std::move(done)};
    send(call, now);
    return number;
}

bool RpcCalls::cancel(std::uint64_t request) {
    const auto call = calls_.extract(request);
    return !call.empty() && call.mapped().sent;
}

void RpcCalls::send(Call& call, Instant now) {
    const auto target = call.route();
    if (!target || !hosts_.up(*target)) {
        return;
    }
    const auto connection = hosts_.connection(*target);
    const bool waiting = call.sent_to == *target && call.connection == connection;
    if (now < (waiting ? call.repeat_at : call.not_before)) {
        return;
    }
    call.sent_to = *target;
    call.sent = true;
    call.connection = connection;
    call.repeat_at = now + kRepeat;
    link_.send(*target, call.rpc);
}

void RpcCalls::replied(const cluster::Reply& reply, Instant now) {
    const auto found = calls_.find(reply.request);
    if (found == calls_.end()) {
        return;  // answered or timed out already
    }
    if (!reply.ok && reply.code == Errc::kNotLeader) {
        found->second.sent_to = {};
        found->second.not_before = now + kNotLeaderPause;
        return;
    }
    const auto done = std::move(found->second.done);
    calls_.erase(found);
    done(reply.ok ? ok() : Status(Error{reply.code, Certainty::kDidNotHappen, reply.what}));
}

void RpcCalls::tick(Instant now) {
    std::vector<Done> late;
    for (auto at = calls_.begin(); at != calls_.end();) {
        if (now >= at->second.deadline) {
            late.push_back(std::move(at->second.done));
            at = calls_.erase(at);
        } else {
            send(at->second, now);
            ++at;
        }
    }
    for (const auto& done : late) {
        done(Error{Errc::kTimeout, Certainty::kUnknown, "no answer from the cluster in time"});
    }
}

}  // namespace nbos::gateway
