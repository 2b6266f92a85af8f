// Quiescence: a group whose members have nothing to say to each other falls silent.
//
// It stands beside a Node and takes its ticks and messages first. A leader with nothing left to do,
// all of whose members have the whole log, asks each of them (kQuiet) to be quiet; when all have
// agreed, it is quiet too. A quiet replica gets no ticks: it sends nothing and waits for nothing.
// That the leader's process lives is then the business of the host: any change of the link to a
// host wakes the groups that have a member there. So does whatever else happens to the group. Sleep
// is a matter of time only: no log, term or vote depends on it.
//
// Threads  Owned by the thread that owns the Node.
// Source   docs/design/0007-quiescence.md, with the races it settles
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "model/ids.h"
#include "raft/node.h"

namespace nbos::raft {

// What a host knows of its links to the others. One a host.
class HostLinks {
public:
    enum class Change : std::uint8_t {
        kNone,
        kLost,   // silent, refused, or proven dead
        kReborn  // another process than the one known so far, perhaps without a loss in between
    };
    // `incarnation` names the process there; not 0, and never used again by another one.
    Change up(const HostId& host, std::uint64_t incarnation);
    Change down(const HostId& host);
    bool is_up(const HostId& host) const;

private:
    struct Link {
        bool up = false;
        std::uint64_t incarnation = 0;
    };
    std::map<HostId, Link> links_;
};

// One replica's part in it. Node and links are passed in: they must be the same in each call.
class Quiescence {
public:
    // A leader asks after Options::quiet_after_ticks without anything to do, an election timeout at
    // least: attempts hold heartbeats back. 0: never, and it agrees to nothing.
    explicit Quiescence(const Options& options);

    bool quiet() const { return state_ == State::kQuiet; }

    void tick(Node& node, const HostLinks& links);                          // for Node::tick()
    void step(Node& node, const Message& message, const HostLinks& links);  // for Node::step()
    // After anything else that was done to the node, before its output is taken: a node that is
    // not at rest is awake.
    void settle(Node& node);
    void link_changed(Node& node, const HostId& host, HostLinks::Change change);

    bool has_messages() const { return !messages_.empty(); }
    std::vector<Message> take_messages();  // may leave at once

private:
    enum class State : std::uint8_t {
        kAwake,
        kAsking,  // a leader that has asked; its node gets no ticks, so that nobody is woken
        kQuiet,
    };

    bool may_ask(const Node& node, const HostLinks& links) const;
    bool agrees(const Node& node, const Message& m, const HostLinks& links) const;
    void ask(Node& node);
    void on_quiet(Node& node, const Message& m, const HostLinks& links);
    void on_quiet_reply(Node& node, const Message& m, const HostLinks& links);
    void stay_awake();
    void wake(Node& node);
    void tell_leader(const Node& node);  // that this replica woke up by itself

    const int patience_ticks_;
    const int asking_ticks_max_;
    State state_ = State::kAwake;
    int ticks_ = 0;  // awake: with nothing to do; asking: since it asked
    Index last_;     // of the log, at the last tick
    std::uint64_t round_ = 0;
    std::vector<ReplicaId> missing_;  // have not agreed yet
    std::vector<Message> messages_;
};

}  // namespace nbos::raft
