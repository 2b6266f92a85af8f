// Virtual time: what happens when, in one thread. Events of one instant run in the order in which
// they were made, so that a seed is a run.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "base/ports.h"

namespace nbos::testing {

using std::chrono::milliseconds;

class VirtualTime final : public Clock {
public:
    Instant now() const override { return now_; }
    std::chrono::microseconds wall() const override {
        return std::chrono::microseconds(1'700'000'000'000'000) +
               std::chrono::duration_cast<std::chrono::microseconds>(now_);
    }
    std::uint64_t ms() const {
        return static_cast<std::uint64_t>(std::chrono::duration_cast<milliseconds>(now_).count());
    }
    void at(Instant when, std::function<void()> work) {
        events_.emplace(std::make_pair(std::max(when, now_), ++made_), std::move(work));
    }
    void after(milliseconds delay, std::function<void()> work) {
        at(now_ + delay, std::move(work));
    }
    // The next event, if it is due by `limit`; else time stands at `limit`, and false.
    bool step(Instant limit) {
        if (events_.empty() || events_.begin()->first.first > limit) {
            now_ = std::max(now_, limit);
            return false;
        }
        auto event = events_.extract(events_.begin());
        now_ = event.key().first;
        event.mapped()();
        return true;
    }
    void run_for(milliseconds duration) {
        for (const auto limit = now_ + duration; step(limit);) {
        }
    }

private:
    Instant now_{std::chrono::seconds(1000)};
    std::uint64_t made_ = 0;
    std::map<std::pair<Instant, std::uint64_t>, std::function<void()>> events_;
};

}  // namespace nbos::testing
