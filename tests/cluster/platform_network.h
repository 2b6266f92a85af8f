// The network between processes: ordered streams that break. Nothing is lost inside a living
// connection: what a cut or a paused receiver holds up arrives late, or the connection is closed by
// the end that heard nothing for too long, and all that was under way is gone.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/ports.h"
#include "tests/cluster/platform_time.h"

namespace nbos::testing {

using Address = std::string;  // "host-1", "gateway-1", "client-1"
// kAway: its warden holds its listening socket, and connections wait. kOff: its machine is, too.
enum class Process : std::uint8_t { kRuns, kPaused, kAway, kDead, kOff };

struct StreamEnd {
    Address address;
    milliseconds silence_max;
    std::function<void(int kind, std::string_view payload)> frame;
    std::function<void()> closed;  // by the other end or by silence; not by close() of this end
};

class Network {
public:
    using StreamId = std::uint64_t;  // 0: none
    enum class Side : std::uint8_t { kDialer, kAcceptor };

    Network(VirtualTime& time, Rng& rng, std::function<Process(const Address&)> process);

    StreamId open(StreamEnd dialer, StreamEnd acceptor);
    // Frames of one kind keep their order. `bulk` frames do not hold up the others.
    void send(StreamId id, Side side, int kind, Bytes payload, bool bulk = false);
    void close(StreamId id, Side side);  // what was sent still arrives, then the end

    void process_died(const Address& who);  // its machine closes its sockets
    void power_lost(const Address& who);    // nobody says anything
    void process_resumed(const Address& who);

    // One way; until mended.
    void cut(const Address& from, const Address& to) { cuts_.insert({from, to}); }
    void isolate(const Address& who, const std::set<Address>& others);
    void join(const Address& from, const Address& to);  // undoes one cut
    void mend();                                        // undoes all
    bool is_cut(const Address& from, const Address& to) const { return cuts_.contains({from, to}); }
    void slow_down(const Address& who, milliseconds delay_max) { slow_[who] = delay_max; }
    void break_streams(const Address& a, const Address& b);  // as a middle box would
    milliseconds delay(const Address& from, const Address& to);

    std::function<void(const Address& from, const Address& to, int kind, std::string_view)> watch;

private:
    struct Frame {
        Instant due{};
        int kind = 0;
        Bytes payload;
        bool end = false;
    };
    struct Lane {
        std::deque<Frame> frames;
        Instant last{};
    };
    struct Half {  // one end, and what is on its way to it
        StreamEnd end;
        bool open = true;
        Lane urgent;
        Lane bulk;
        Instant heard{};
    };
    struct Stream {
        Half halves[2];
        bool broken = false;  // nothing arrives any more, and its ends are about to notice
    };
    using StreamPtr = std::shared_ptr<Stream>;

    StreamPtr find(StreamId id) const;
    void queue(StreamId id, int to, Frame frame, bool bulk);
    void deliver(StreamId id, int to);
    void lose(StreamId id, int side);  // this end gives up, and hears so
    void watch_silence();
    void erase_closed();

    VirtualTime& time_;
    Rng& rng_;
    std::function<Process(const Address&)> process_;
    std::map<StreamId, StreamPtr> streams_;
    std::set<std::pair<Address, Address>> cuts_;
    std::map<Address, milliseconds> slow_;
    StreamId last_ = 0;
};

}  // namespace nbos::testing
