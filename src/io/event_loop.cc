#include "io/event_loop.h"

#include <sys/random.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <csignal>
#include <map>
#include <utility>
#include <vector>

#include "base/check.h"

namespace nbos::io {
namespace {

namespace asio = boost::asio;

class RealClock final : public Clock {
public:
    Instant now() const override {
        return std::chrono::duration_cast<Instant>(
            std::chrono::steady_clock::now().time_since_epoch());
    }
    std::chrono::microseconds wall() const override {
        return std::chrono::duration_cast<std::chrono::microseconds>(
            std::chrono::system_clock::now().time_since_epoch());
    }
};

}  // namespace

class EventLoop::Impl {
public:
    Impl() : guard(asio::make_work_guard(context)), signals(context) {}

    void wait_for_signal() {
        signals.async_wait([this](const boost::system::error_code& error, int signal) {
            if (error) {
                return;
            }
            // A copy: a callback may add another one.
            for (const auto& work : std::vector(on_signal[signal])) {
                work();
            }
            wait_for_signal();
        });
    }

    asio::io_context context{1};  // one thread runs it; post() may come from any
    asio::executor_work_guard<asio::io_context::executor_type> guard;
    asio::signal_set signals;
    std::map<int, std::vector<std::function<void()>>> on_signal;
    RealClock clock;
};

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::~EventLoop() = default;

void EventLoop::run() {
    impl_->context.run();
    impl_->context.restart();  // run() may be called again; a stop() before it is not lost
}

void EventLoop::stop() { impl_->context.stop(); }

void EventLoop::post(std::function<void()> work) { asio::post(impl_->context, std::move(work)); }

void EventLoop::after(std::chrono::nanoseconds delay, std::function<void()> work) {
    // shared_ptr: the timer lives as long as its own wait.
    auto timer = std::make_shared<asio::steady_timer>(impl_->context, delay);
    timer->async_wait([timer, work = std::move(work)](const boost::system::error_code& error) {
        if (!error) {
            work();
        }
    });
}

void EventLoop::on_signal(int signal, std::function<void()> work) {
    const bool first = impl_->on_signal.empty();
    auto& works = impl_->on_signal[signal];
    works.push_back(std::move(work));
    if (works.size() == 1) {
        impl_->signals.add(signal);
    }
    if (first) {
        impl_->wait_for_signal();
    }
}

void EventLoop::on_termination(const std::function<void()>& work) {
    on_signal(SIGINT, work);
    on_signal(SIGTERM, work);
}

const Clock& EventLoop::clock() const { return impl_->clock; }
void* EventLoop::native() { return &impl_->context; }

std::uint64_t random_u64() {
    std::uint64_t value = 0;
    std::size_t have = 0;
    while (have < sizeof value) {
        const ssize_t got =
            getrandom(reinterpret_cast<char*>(&value) + have, sizeof value - have, 0);
        NBOS_CHECK(got > 0 || errno == EINTR, "getrandom(2) must work on every supported kernel");
        have += got > 0 ? static_cast<std::size_t>(got) : 0;
    }
    return value;
}

Uuid random_uuid() {
    // RFC 9562, version 4.
    Uuid id{random_u64(), random_u64()};
    id.hi = (id.hi & ~0xF000ULL) | 0x4000ULL;
    id.lo = (id.lo & ~(3ULL << 62U)) | (2ULL << 62U);
    return id;
}

}  // namespace nbos::io
