// The private connection to one interpreter: frames of type, JSON header and body.
//
// Threads  Loop thread only.
// Limits   A header above 1 MiB or a frame above 4 GiB closes the connection.
// Source   docs/reference/interpreter-protocol.md
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "io/event_loop.h"

namespace nbos::io {

enum class StateFrame : std::uint8_t {
    kHello = 1,
    kAdopt,
    kAdopted,
    kLoad,
    kApply,
    kApplied,
    kRun,
    kDelta,
    kShutdown,
    kResume,
    kMessage,
    kSettled,
    kExpect,
    kRepeated,
};

class StateSocket {
public:
    struct Callbacks {
        std::function<void(StateFrame type, std::string header, Bytes body)> frame;
        std::function<void()> closed;  // once; nothing follows
    };

    ~StateSocket();
    StateSocket(const StateSocket&) = delete;
    StateSocket& operator=(const StateSocket&) = delete;

    void start(Callbacks callbacks);  // again: other callbacks from now on
    void send(StateFrame type, const std::string& header, Bytes body = {});
    pid_t peer() const;  // the process at the other end, by the kernel's word

private:
    friend class StateListener;
    class Impl;
    explicit StateSocket(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

// Accepts interpreters at `path`.
class StateListener {
public:
    using OnConnection = std::function<void(std::unique_ptr<StateSocket>)>;
    StateListener(EventLoop& loop, const std::string& path, OnConnection on_connection);
    ~StateListener();
    StateListener(const StateListener&) = delete;
    StateListener& operator=(const StateListener&) = delete;

private:
    class Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace nbos::io
