// The shared tables as this gateway knows them, and its writes into them.
//
// Rows come from the leader of the system group: all of them when this gateway or a leader comes,
// and what every write changed. A write is done when the rows that came show it applied, so that
// whoever waits for it finds it in rows(). One write is under way at a time; what gathers
// meanwhile is the next one.
//
// Anew     Of a group that was begun anew all rows are taken, and those that it lacks are written
//          into it: what this gateway knows is all that is left of them.
// Time     tick() drives repetition and timeouts.
// Errors   Of a write: kInvalid (a limit), kExhausted (the tables are full, or no leader can be
//          reached: 503 with a sentence). After a timeout it may still happen, unless it had to
//          wait for its turn.
// Source   docs/design/0009-system-group.md
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/ports.h"
#include "base/result.h"
#include "cluster/rpc.h"
#include "gateway/host_table.h"
#include "gateway/ports.h"

namespace nbos::gateway {

class SystemTable {
public:
    // Never from inside write().
    using Done = std::function<void(Result<replica::TableOutcome>)>;
    struct Ports {
        const Clock& clock;
        const HostTable& hosts;
        AgentLink& link;
        std::function<std::optional<HostId>()> leader;  // of the system group
        std::function<std::string()> why_unwritable;    // for the user
    };
    struct Row {
        Bytes value;
        Index version;
    };

    // `writer`: of this life of the gateway, never used before.
    SystemTable(Ports ports, Uuid writer);

    bool known() const { return known_; }  // all rows have come once
    Index index() const { return index_; }
    const std::map<std::string, Row>& rows() const { return rows_; }
    const Row* find(const std::string& key) const;

    void write(replica::TableTransaction transaction, Done done);
    // `changed` for every key whose row is another one now, before the writes that did it are done.
    void rows_came(const cluster::TableRows& news,
                   const std::function<void(const std::string& key)>& changed);
    void replied(const cluster::Reply& reply);
    void tick();

private:
    struct Pending {
        replica::TableTransaction transaction;
        Done done;
        Instant deadline{};
    };
    struct Flight {
        std::vector<Pending> writes;
        cluster::WriteTable rpc;
        Instant deadline{};
        HostId sent_to;
        std::uint64_t connection = 0;
        std::size_t unanswered = 0;  // sent and not refused: it may be in a log
        Instant repeat_at{};
        Instant not_before{};
    };

    void pump();
    void begin_flight();
    void send(Flight& flight);
    std::vector<std::string> take_changes(const cluster::TableRows& news);
    void restore(const std::string& key);
    void settle(const cluster::TableRows& news);
    void fail_late();

    Ports ports_;
    Uuid writer_;
    std::uint64_t sequence_ = 0;
    bool known_ = false;
    KernelId group_ = cluster::kSystemGroup;
    Index index_;
    std::map<std::string, Row> rows_;
    std::set<std::string> unrestored_;  // rows of an earlier generation; tried again
    Instant restore_again_{};
    std::deque<Pending> waiting_;
    std::optional<Flight> flight_;
    std::vector<std::pair<Done, Error>> refused_;  // told at the next tick
};

}  // namespace nbos::gateway
