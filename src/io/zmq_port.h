// One ZeroMQ socket on the event loop: frames in, frames out, never blocking.
//
// libzmq's descriptor is edge-triggered and is cleared by any call on the socket, so the socket is
// drained after every wake-up and after every send until neither direction can go on.
//
// Threads  Loop thread only; on_message runs from the loop, never from inside send().
// Limits   The outbox grows while the peer does not read; the caller bounds what it sends. A
//          subscriber takes few messages ahead of its reader: a publisher that waits (and does not
//          drop) is held up.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "io/event_loop.h"

namespace nbos::io {

using Frames = std::vector<Bytes>;

class ZmqContext {
public:
    ZmqContext();
    ~ZmqContext();
    ZmqContext(const ZmqContext&) = delete;
    ZmqContext& operator=(const ZmqContext&) = delete;
    void* native();

private:
    void* context_;
};

// kPublish is an XPUB: on_message gets the subscriptions, as its peers make them.
enum class ZmqKind : std::uint8_t { kDealer, kSubscribe, kRouter, kReply, kPublish };

class ZmqPort {
public:
    using OnMessage = std::function<void(Frames)>;
    using MayReceive = std::function<bool()>;

    // Connects; `identity` may be empty. A peer that is not there yet is waited for. While
    // `may_receive` (empty: always) says no, messages stay with the other side: asked again every
    // few milliseconds.
    ZmqPort(EventLoop& loop, ZmqContext& context, ZmqKind kind, const std::string& endpoint,
            const std::string& identity, OnMessage on_message, MayReceive may_receive = {});
    // Binds. kIo with the endpoint and the reason. What was sent last still leaves, for a second,
    // when the port and its context are destroyed.
    static Result<std::unique_ptr<ZmqPort>> bind(EventLoop& loop, ZmqContext& context, ZmqKind kind,
                                                 const std::string& endpoint, OnMessage on_message);
    ~ZmqPort();
    ZmqPort(const ZmqPort&) = delete;
    ZmqPort& operator=(const ZmqPort&) = delete;

    void send(Frames frames);

private:
    class Impl;
    explicit ZmqPort(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace nbos::io
