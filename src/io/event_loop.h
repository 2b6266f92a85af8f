// The one thread that owns a process's state, and its clock. Everything else posts to it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "base/ports.h"
#include "base/uuid.h"

namespace nbos::io {

class EventLoop {
public:
    EventLoop();
    ~EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;

    void run();                             // until stop()
    void stop();                            // any thread
    void post(std::function<void()> work);  // any thread; runs on the loop thread
    // Runs once on the loop thread, not before `delay`.
    void after(std::chrono::nanoseconds delay, std::function<void()> work);
    // Runs on each such signal, on the loop thread.
    void on_signal(int signal, std::function<void()> work);
    void on_termination(const std::function<void()>& work);  // SIGINT and SIGTERM

    const Clock& clock() const;
    void* native();  // boost::asio::io_context*, for the other files of io/ only

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

std::uint64_t random_u64();  // from the operating system
Uuid random_uuid();

}  // namespace nbos::io
