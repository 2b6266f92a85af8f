#include "tests/cluster/platform_network.h"

#include <algorithm>
#include <vector>

namespace nbos::testing {
namespace {

constexpr milliseconds kWatch{250};

}  // namespace

Network::Network(VirtualTime& time, Rng& rng, std::function<Process(const Address&)> process)
    : time_(time), rng_(rng), process_(std::move(process)) {
    time_.after(kWatch, [this] { watch_silence(); });
}

Network::StreamPtr Network::find(StreamId id) const {
    const auto found = streams_.find(id);
    return found == streams_.end() ? nullptr : found->second;
}

milliseconds Network::delay(const Address& from, const Address& to) {
    std::uint64_t most = 3;
    for (const auto& who : {from, to}) {
        if (const auto slow = slow_.find(who); slow != slow_.end()) {
            most = std::max(most, static_cast<std::uint64_t>(slow->second.count()));
        }
    }
    return milliseconds(1 + rng_.below(most));
}

Network::StreamId Network::open(StreamEnd dialer, StreamEnd acceptor) {
    auto stream = std::make_shared<Stream>();
    stream->halves[0].end = std::move(dialer);
    stream->halves[1].end = std::move(acceptor);
    stream->halves[0].heard = stream->halves[1].heard = time_.now();
    streams_[++last_] = std::move(stream);
    return last_;
}

void Network::send(StreamId id, Side side, int kind, Bytes payload, bool bulk) {
    const auto stream = find(id);
    const int me = side == Side::kDialer ? 0 : 1;
    if (stream && stream->halves[me].open) {
        queue(id, 1 - me, {.kind = kind, .payload = std::move(payload)}, bulk);
    }
}

void Network::close(StreamId id, Side side) {
    const auto stream = find(id);
    const int me = side == Side::kDialer ? 0 : 1;
    if (!stream || !stream->halves[me].open) {
        return;
    }
    stream->halves[me].open = false;
    stream->halves[me].urgent.frames.clear();
    stream->halves[me].bulk.frames.clear();
    queue(id, 1 - me, {.end = true}, false);
}

void Network::queue(StreamId id, int to, Frame frame, bool bulk) {
    const auto stream = find(id);
    auto& half = stream->halves[to];
    auto& lane = bulk ? half.bulk : half.urgent;
    if (!half.open || stream->broken) {
        return;
    }
    const auto& from = stream->halves[1 - to].end.address;
    frame.due = std::max(lane.last, time_.now() + delay(from, half.end.address));
    if (bulk) {  // a transfer takes its time
        frame.due += std::chrono::microseconds(frame.payload.size() * 2);
    }
    lane.last = frame.due;
    const auto due = frame.due;
    lane.frames.push_back(std::move(frame));
    time_.at(due, [this, id, to] { deliver(id, to); });
}

void Network::deliver(StreamId id, int to) {
    const auto stream = find(id);
    if (!stream) {
        return;
    }
    auto& half = stream->halves[to];
    const auto& from = stream->halves[1 - to].end.address;
    for (auto* lane : {&half.urgent, &half.bulk}) {
        while (half.open && !lane->frames.empty() && lane->frames.front().due <= time_.now() &&
               process_(half.end.address) == Process::kRuns && !is_cut(from, half.end.address)) {
            auto frame = std::move(lane->frames.front());
            lane->frames.pop_front();
            half.heard = time_.now();
            if (frame.end) {
                lose(id, to);
                return;
            }
            if (watch) {
                watch(from, half.end.address, frame.kind, frame.payload.view());
            }
            half.end.frame(frame.kind, frame.payload.view());
        }
    }
}

void Network::lose(StreamId id, int side) {
    const auto stream = find(id);
    auto& half = stream->halves[side];
    if (!half.open) {
        return;
    }
    half.open = false;
    half.urgent.frames.clear();
    half.bulk.frames.clear();
    if (stream->halves[1 - side].open) {
        queue(id, 1 - side, {.end = true}, false);
    }
    half.end.closed();
    erase_closed();
}

void Network::erase_closed() {
    std::erase_if(streams_, [](const auto& entry) {
        return !entry.second->halves[0].open && !entry.second->halves[1].open;
    });
}

// Pings are not sent: an end hears the other as long as that runs and the way is free.
void Network::watch_silence() {
    time_.after(kWatch, [this] { watch_silence(); });
    std::vector<std::pair<StreamId, int>> silent;
    for (const auto& [id, stream] : streams_) {
        for (int side = 0; side < 2; ++side) {
            auto& half = stream->halves[side];
            const auto& other = stream->halves[1 - side];
            const bool awake = process_(half.end.address) == Process::kRuns;
            const bool audible = process_(other.end.address) == Process::kRuns && other.open &&
                                 !is_cut(other.end.address, half.end.address);
            if (!awake || audible) {
                half.heard = time_.now();
            } else if (half.open && time_.now() - half.heard > half.end.silence_max) {
                silent.emplace_back(id, side);
            }
        }
    }
    for (const auto& [id, side] : silent) {
        if (find(id)) {
            lose(id, side);
        }
    }
}

void Network::process_died(const Address& who) {
    for (const auto& [id, stream] : std::map(streams_)) {
        for (int side = 0; side < 2; ++side) {
            auto& half = stream->halves[side];
            if (half.end.address != who || !half.open) {
                continue;
            }
            half.open = false;
            half.urgent.frames.clear();
            half.bulk.frames.clear();
            auto& there = stream->halves[1 - side].urgent.frames;
            const auto kept = rng_.below(there.size() + 1);  // the rest had not left the machine
            while (there.size() > kept) {
                there.pop_back();
            }
            queue(id, 1 - side, {.end = true}, false);
        }
    }
    erase_closed();
}

void Network::power_lost(const Address& who) {
    for (const auto& [id, stream] : streams_) {
        for (int side = 0; side < 2; ++side) {
            auto& half = stream->halves[side];
            if (half.end.address == who) {
                half.open = false;
                half.urgent.frames.clear();
                half.bulk.frames.clear();
            }
        }
    }
    erase_closed();
}

void Network::process_resumed(const Address& who) {
    for (const auto& [id, stream] : std::map(streams_)) {
        for (int side = 0; side < 2; ++side) {
            if (stream->halves[side].end.address == who) {
                stream->halves[side].heard = time_.now();
                deliver(id, side);
            }
        }
    }
}

void Network::isolate(const Address& who, const std::set<Address>& others) {
    for (const auto& other : others) {
        if (other != who) {
            cut(who, other);
            cut(other, who);
        }
    }
}

void Network::join(const Address& from, const Address& to) {
    cuts_.erase({from, to});
    for (const auto& [id, stream] : std::map(streams_)) {
        deliver(id, 0);
        deliver(id, 1);
    }
}

void Network::mend() {
    cuts_.clear();
    slow_.clear();
    for (const auto& [id, stream] : std::map(streams_)) {
        deliver(id, 0);
        deliver(id, 1);
    }
}

void Network::break_streams(const Address& a, const Address& b) {
    for (const auto& [id, stream] : std::map(streams_)) {
        const auto& x = stream->halves[0].end.address;
        const auto& y = stream->halves[1].end.address;
        if ((x == a && y == b) || (x == b && y == a)) {
            stream->broken = true;
            for (auto& half : stream->halves) {
                half.urgent.frames.clear();
                half.bulk.frames.clear();
            }
            for (int side = 0; side < 2; ++side) {
                time_.after(delay(x, y), [this, id, side] {
                    if (find(id) &&
                        process_(find(id)->halves[side].end.address) != Process::kDead) {
                        lose(id, side);
                    }
                });
            }
        }
    }
}

}  // namespace nbos::testing
