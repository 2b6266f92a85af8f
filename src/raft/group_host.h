// Many Raft groups on one host: who gets which message, what is written and sent when.
//
// A GroupHost owns the Node of every group that has a replica on this host. It turns their Outputs
// into as few writes and frames as possible: one LogStore batch and one frame per peer host for
// all that happened in one turn of the loop (heartbeats of all groups travel together, too), and
// keeps the order that Output demands. It does no I/O: disk and network are the two ports below.
//
// Groups with nothing to do fall silent (raft/quiescence.h), if the options allow it: a tick costs
// as much as there are groups awake.
//
// Threads  Owned by one loop thread; ports call back on that thread.
// Errors   A group whose invariant breaks or whose store fails stops alone, and says so.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/ports.h"
#include "base/result.h"
#include "model/ids.h"
#include "raft/node.h"

namespace nbos::raft {

// One group's part of a write. In this order: remove, snapshot, hard_state, append.
struct GroupWrite {
    GroupId group;
    ReplicaId self;
    bool remove = false;  // forget the group: nothing of it is restored any more
    // The node's own or a leader's. If the stored log has no entry of its index and term, every
    // entry stored before is void, also one that would seem to follow it; otherwise the tail stays.
    std::optional<Snapshot> snapshot;
    std::optional<HardState> hard_state;
    std::vector<Entry> append;  // replaces anything stored at or after append.front().index
    Index first_kept;           // entries below are not needed any more (0: no change)
};

struct RestoredGroup {
    GroupId group;
    ReplicaId self;
    Restored state;
};

// The disk. Writes become durable in the order of the calls; `durable` runs on the loop thread,
// after the fsync, in the same order. A failed write or fsync stops the process: never retried.
class LogStore {
public:
    virtual ~LogStore() = default;
    virtual void write(std::vector<GroupWrite> writes, std::function<void()> durable) = 0;
};

// The network: best effort; each of the two calls keeps its order per peer while a connection
// lasts. A frame holds encoded Messages.
class PeerLink {
public:
    virtual ~PeerLink() = default;
    virtual void send(const HostId& to, Bytes frame) = 0;
    // Bulk messages: what goes by send() need not wait for them.
    virtual void send_bulk(const HostId& to, Bytes frame) { send(to, std::move(frame)); }
};

// What runs on top of a group; called from GroupHost::flush(), never from inside another call.
class GroupListener {
public:
    virtual ~GroupListener() = default;
    virtual void restore(GroupId group, const Snapshot& snapshot) = 0;  // replace the whole state
    virtual void apply(GroupId group, const Entry& entry) = 0;  // committed; no-ops included
    virtual void role_changed(GroupId group) = 0;               // role, term, leader or membership
    virtual void read_ready(GroupId group, std::uint64_t context, Index index) = 0;
    virtual void read_lost(GroupId group, std::uint64_t context) = 0;
};

class GroupHost {
public:
    GroupHost(HostId self, Options options, LogStore& store, PeerLink& link,
              GroupListener& listener, std::uint64_t seed);

    // At start-up, before anything else. Calls restore()/apply() from the next flush() on.
    void restore(RestoredGroup group);
    // A new group on this host. With `bootstrap` (the same on all first members) it starts as one
    // of them; without, it waits to be added. kInvalid: it is here already.
    Status create(GroupId group, ReplicaId self, const std::optional<Membership>& bootstrap);
    void remove(GroupId group);  // durable after the next flush; messages to it are dropped
    bool contains(GroupId group) const;
    std::vector<GroupId> groups() const;
    std::size_t size() const;
    std::size_t awake() const;  // those that are not quiet
    bool is_quiet(GroupId group) const;

    // The group's node, for proposals and questions; nullptr when it is not here. Call flush()
    // before returning to the loop after anything that may have produced output.
    Node* find(GroupId group);
    // Tells the group's node to compact at its applied index with this state, and stores it.
    void compact(GroupId group, Bytes state, std::size_t keep_bytes);

    void tick();
    void receive(const HostId& from, std::string_view frame);  // malformed: dropped and counted
    // The link to another host: groups with a member there are quiet only while it is up, and wake
    // when it is lost or another process answers. `incarnation` names that process.
    void host_is_up(const HostId& host, std::uint64_t incarnation);
    void host_is_down(const HostId& host);
    void host_is_dead(const HostId& host);  // proven; passes peer_is_dead to every group with it
    void flush();  // does everything that the nodes have to do, until nothing is left

private:
    class Impl;
    std::shared_ptr<Impl> impl_;  // shared with callbacks in flight
};

}  // namespace nbos::raft
