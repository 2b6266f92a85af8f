#include "raft/group_host.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "base/log.h"
#include "raft/invariant.h"
#include "raft/quiescence.h"

namespace nbos::raft {
namespace {

// A fuller frame leaves, and the next begins.
constexpr std::size_t kFrameBytes = 4U << 20U;
constexpr std::size_t kBulkFrameBytes = 1U << 20U;

}  // namespace

class GroupHost::Impl : public std::enable_shared_from_this<GroupHost::Impl> {
public:
    Impl(HostId self, Options options, LogStore& store, PeerLink& link, GroupListener& listener,
         std::uint64_t seed)
        : self_(std::move(self)),
          options_(options),
          store_(store),
          link_(link),
          listener_(listener),
          seeds_(seed) {}

    // shared_ptr: a round of flush() keeps the groups it works on, whatever a listener removes.
    struct Group {
        GroupId id;
        Node node;
        Quiescence quiescence;
        std::map<ReplicaId, HostId> senders;  // of messages, for replies to non-members
        std::optional<Snapshot> to_restore;   // not given to the listener yet
        Index delivered;                      // the last entry that the listener has seen
        Role role = Role::kFollower;
        Term term;
        ReplicaId leader;
        bool dirty = false;
        bool gone = false;
    };
    using GroupPtr = std::shared_ptr<Group>;

    void add(GroupId id, ReplicaId self, Restored restored);
    void remove(GroupId id);
    GroupPtr find(GroupId id) const;
    std::vector<GroupPtr> all() const;  // by id; a copy, as a group may stop while each is visited
    void mark(const GroupPtr& group);
    void tick();
    void link_changed(const HostId& host, HostLinks::Change change);
    void say_farewell(const GroupPtr& group);
    void compact(GroupId id, Bytes state, std::size_t keep_bytes);
    void receive(const HostId& from, std::string_view frame);
    void flush();
    template <class Work>
    void guarded(const GroupPtr& group, Work&& work);

    const HostId self_;
    std::unordered_map<GroupId, GroupPtr> groups_;
    std::map<GroupId, GroupPtr> awake_;  // those that want ticks
    HostLinks links_;
    std::vector<GroupWrite> writes_;  // of the next round

private:
    struct Waiting {
        GroupPtr group;
        std::uint64_t batch = 0;
        std::vector<Message> messages;
    };
    struct Frames {
        Writer now;
        Writer bulk;
    };
    struct Delivery {
        GroupPtr group;
        Output output;
        bool role_changed = false;
        bool counts() const {
            return role_changed || group->to_restore || output.install ||
                   !output.committed.empty() || !output.reads.empty() || !output.lost_reads.empty();
        }
    };

    bool round();
    void watch(const GroupPtr& group);
    void collect(const GroupPtr& group, std::vector<Waiting>& waiting,
                 std::vector<Delivery>& deliveries);
    void deliver(Delivery& delivery);
    void persisted(std::vector<Waiting>& waiting);
    void post(const GroupPtr& group, const std::vector<Message>& messages);
    void send_frames();
    void send_frames(const HostId& to, Frames& frames);
    void stop(const GroupPtr& group, std::string_view why);

    const Options options_;
    LogStore& store_;
    PeerLink& link_;
    GroupListener& listener_;
    Rng seeds_;
    std::vector<GroupPtr> dirty_;
    std::vector<GroupPtr> ticked_;      // empty between ticks
    std::vector<GroupPtr> round_;       // those that were dirty when the round under way began
    std::vector<Delivery> deliveries_;  // empty between rounds
    std::map<HostId, Frames> frames_;   // of the hosts that this one has sent something
    bool flushing_ = false;
    std::uint64_t malformed_ = 0;
};

GroupHost::Impl::GroupPtr GroupHost::Impl::find(GroupId id) const {
    const auto at = groups_.find(id);
    return at == groups_.end() ? nullptr : at->second;
}

std::vector<GroupHost::Impl::GroupPtr> GroupHost::Impl::all() const {
    std::vector<GroupPtr> groups;
    groups.reserve(groups_.size());
    for (const auto& [id, group] : groups_) {
        groups.push_back(group);
    }
    std::sort(groups.begin(), groups.end(),
              [](const GroupPtr& a, const GroupPtr& b) { return a->id < b->id; });
    return groups;
}

void GroupHost::Impl::mark(const GroupPtr& group) {
    if (!group->dirty && !group->gone) {
        group->dirty = true;
        dirty_.push_back(group);
    }
}

// A group whose invariant breaks stops; the others of this host go on.
template <class Work>
void GroupHost::Impl::guarded(const GroupPtr& group, Work&& work) {
    try {
        work();
    } catch (const InvariantBroken& broken) {
        stop(group, broken.what());
    }
}

void GroupHost::Impl::stop(const GroupPtr& group, std::string_view why) {
    log_error("raft",
              "group {} stops on this host: {}. Its other replicas go on; remove this replica and "
              "add a new one",
              group->id.value.str(), why);
    group->gone = true;
    groups_.erase(group->id);
    awake_.erase(group->id);
    say_farewell(group);
}

// The link to this host stays up: the others would sleep on, beside a member that is no more.
void GroupHost::Impl::say_farewell(const GroupPtr& group) {
    std::vector<Message> messages;
    for (const auto& [replica, host] : group->node.membership().hosts) {
        Message m;
        m.kind = MessageKind::kWake;
        m.group = group->id;
        m.from = group->node.self();
        m.to = replica;
        m.term = group->node.term();
        messages.push_back(std::move(m));
    }
    post(group, messages);
}

// By id, as with all(): a group may stop while it is visited.
void GroupHost::Impl::tick() {
    ticked_.clear();
    for (const auto& [id, group] : awake_) {
        ticked_.push_back(group);
    }
    for (const auto& group : ticked_) {
        guarded(group, [&] { group->quiescence.tick(group->node, links_); });
        if (group->node.has_output() || group->quiescence.has_messages() ||
            group->quiescence.quiet()) {
            mark(group);
        }
    }
    ticked_.clear();
}

void GroupHost::Impl::link_changed(const HostId& host, HostLinks::Change change) {
    if (change == HostLinks::Change::kNone) {
        return;
    }
    for (const auto& group : all()) {
        guarded(group, [&] { group->quiescence.link_changed(group->node, host, change); });
        if (group->quiescence.has_messages() || group->node.has_output()) {
            mark(group);
        }
        watch(group);
    }
}

void GroupHost::Impl::watch(const GroupPtr& group) {
    if (group->gone) {
        return;  // and perhaps another one has its id by now
    }
    if (group->quiescence.quiet()) {
        awake_.erase(group->id);
    } else {
        awake_.emplace(group->id, group);
    }
}

void GroupHost::Impl::add(GroupId id, ReplicaId self, Restored restored) {
    auto snapshot = restored.snapshot;
    try {
        auto group = std::make_shared<Group>(
            Group{.id = id,
                  .node = Node(id, self, options_, std::move(restored), seeds_.next()),
                  .quiescence = Quiescence(options_),
                  .senders = {},
                  .to_restore = std::move(snapshot),
                  .delivered = {},
                  .term = {},
                  .leader = {}});
        groups_[id] = group;
        awake_[id] = group;
        mark(group);
    } catch (const InvariantBroken& broken) {
        log_error("raft", "group {} cannot start on this host: {}", id.value.str(), broken.what());
    }
}

void GroupHost::Impl::remove(GroupId id) {
    const auto group = find(id);
    if (!group) {
        return;
    }
    group->gone = true;
    groups_.erase(id);
    awake_.erase(id);
    say_farewell(group);
    GroupWrite write;
    write.group = id;
    write.self = group->node.self();
    write.remove = true;
    writes_.push_back(std::move(write));
}

void GroupHost::Impl::compact(GroupId id, Bytes state, std::size_t keep_bytes) {
    const auto group = find(id);
    if (!group) {
        return;
    }
    guarded(group, [&] {
        // What the listener has seen: the node may have handed out more in this very round.
        const Index before = group->node.snapshot_index();
        group->node.compact(group->delivered, std::move(state), keep_bytes);
        if (group->node.snapshot_index() == before) {
            return;
        }
        GroupWrite write;
        write.group = id;
        write.self = group->node.self();
        write.snapshot = group->node.snapshot();
        write.first_kept = group->node.first_index();
        writes_.push_back(std::move(write));
        mark(group);
    });
}

void GroupHost::Impl::receive(const HostId& from, std::string_view frame) {
    Reader in(frame);
    while (in.left() > 0) {
        const auto message = decode_message(in);
        if (!message) {
            if (++malformed_ == 1 || malformed_ % 1000 == 0) {
                log_warning("raft", "dropped a malformed frame of {} ({} so far)", from.value,
                            malformed_);
            }
            return;
        }
        const auto group = find(message->group);
        if (!group || message->to != group->node.self()) {
            continue;
        }
        auto& sender = group->senders[message->from];
        if (sender != from) {
            sender = from;
        }
        guarded(group, [&] { group->quiescence.step(group->node, *message, links_); });
        mark(group);
    }
}

void GroupHost::Impl::flush() {
    if (flushing_) {
        return;  // the flush under way goes on until nothing is left
    }
    flushing_ = true;
    while (round()) {
    }
    flushing_ = false;
}

// Everything that waits: one write, one frame per host, then the listener. False: nothing waited.
bool GroupHost::Impl::round() {
    round_.swap(dirty_);
    std::vector<Waiting> waiting;
    auto deliveries = std::exchange(deliveries_, {});  // whose memory is used again
    for (const auto& group : round_) {
        group->dirty = false;
        if (!group->gone) {
            guarded(group, [&] { collect(group, waiting, deliveries); });
            watch(group);
        }
    }
    if (!writes_.empty()) {
        auto writes = std::exchange(writes_, {});
        writes_.reserve(writes.size());  // the next round is likely to be like this one
        store_.write(std::move(writes),
                     [weak = weak_from_this(), waiting = std::move(waiting)]() mutable {
                         if (const auto host = weak.lock()) {
                             host->persisted(waiting);
                         }
                     });
    }
    send_frames();
    for (auto& delivery : deliveries) {
        deliver(delivery);
    }
    deliveries.clear();
    deliveries_ = std::move(deliveries);
    round_.clear();
    return !dirty_.empty() || !writes_.empty();
}

void GroupHost::Impl::collect(const GroupPtr& group, std::vector<Waiting>& waiting,
                              std::vector<Delivery>& deliveries) {
    Node& node = group->node;
    group->quiescence.settle(node);
    post(group, group->quiescence.take_messages());
    Delivery delivery{.group = group, .output = {}};
    if (node.has_output()) {
        delivery.output = node.take_output();
    } else if (!group->to_restore && node.role() == group->role && node.term() == group->term &&
               node.leader() == group->leader) {
        return;
    }
    Output& output = delivery.output;
    const auto configures = [](const std::vector<Entry>& entries) {
        return std::any_of(entries.begin(), entries.end(),
                           [](const Entry& e) { return e.kind == EntryKind::kMembership; });
    };
    delivery.role_changed = node.role() != group->role || node.term() != group->term ||
                            node.leader() != group->leader || output.install.has_value() ||
                            configures(output.append) || configures(output.committed);
    group->role = node.role();
    group->term = node.term();
    group->leader = node.leader();

    post(group, output.send_now);
    if (output.batch == 0) {
        post(group, output.after_persist);
    } else {
        GroupWrite write;
        write.group = group->id;
        write.self = node.self();
        write.snapshot = output.install;
        write.hard_state = output.hard_state;
        write.append = std::move(output.append);
        writes_.push_back(std::move(write));
        waiting.push_back({group, output.batch, std::move(output.after_persist)});
    }
    if (delivery.counts()) {
        deliveries.push_back(std::move(delivery));
    } else if (node.has_output()) {
        mark(group);
    }
}

void GroupHost::Impl::deliver(Delivery& delivery) {
    Group& group = *delivery.group;
    const GroupId id = group.id;
    const auto alive = [&] { return !group.gone; };  // a callback may remove the group
    for (auto* snapshot : {&group.to_restore, &delivery.output.install}) {
        if (alive() && snapshot->has_value()) {
            group.delivered = (*snapshot)->index;
            listener_.restore(id, *std::exchange(*snapshot, std::nullopt));
        }
    }
    for (const auto& entry : delivery.output.committed) {
        if (alive()) {
            group.delivered = entry.index;
            listener_.apply(id, entry);
        }
    }
    if (alive() && delivery.role_changed) {
        listener_.role_changed(id);
    }
    for (const auto& read : delivery.output.reads) {
        if (alive()) {
            listener_.read_ready(id, read.context, read.index);
        }
    }
    for (const auto context : delivery.output.lost_reads) {
        if (alive()) {
            listener_.read_lost(id, context);
        }
    }
    if (alive() && group.node.has_output()) {  // the callbacks may have proposed
        mark(delivery.group);
    }
}

void GroupHost::Impl::persisted(std::vector<Waiting>& waiting) {
    for (auto& one : waiting) {
        if (one.group->gone) {
            continue;
        }
        guarded(one.group, [&] {
            one.group->node.persisted(one.batch);
            post(one.group, one.messages);
        });
        mark(one.group);
    }
    if (!flushing_) {  // else this is a store that answers at once, and the flush sends
        send_frames();
        flush();
    }
}

void GroupHost::Impl::post(const GroupPtr& group, const std::vector<Message>& messages) {
    if (messages.empty()) {
        return;
    }
    const auto& hosts = group->node.membership().hosts;
    for (const auto& message : messages) {
        auto at = hosts.find(message.to);
        if (at == hosts.end()) {
            at = group->senders.find(message.to);
            if (at == group->senders.end()) {
                continue;  // nobody knows where it is
            }
        }
        if (at->second == self_) {
            continue;  // a former placement on this host
        }
        auto& frames = frames_[at->second];
        encode(message.bulk ? frames.bulk : frames.now, message);
        if (frames.now.size() >= kFrameBytes || frames.bulk.size() >= kBulkFrameBytes) {
            send_frames(at->second, frames);
        }
    }
}

void GroupHost::Impl::send_frames(const HostId& to, Frames& frames) {
    if (frames.now.size() > 0) {
        link_.send(to, std::exchange(frames.now, {}).take_bytes());
    }
    if (frames.bulk.size() > 0) {
        link_.send_bulk(to, std::exchange(frames.bulk, {}).take_bytes());
    }
}

void GroupHost::Impl::send_frames() {
    for (auto& [host, frames] : frames_) {
        send_frames(host, frames);
    }
}

GroupHost::GroupHost(HostId self, Options options, LogStore& store, PeerLink& link,
                     GroupListener& listener, std::uint64_t seed)
    : impl_(std::make_shared<Impl>(std::move(self), options, store, link, listener, seed)) {}

void GroupHost::restore(RestoredGroup group) {
    impl_->add(group.group, group.self, std::move(group.state));
}

Status GroupHost::create(GroupId group, ReplicaId self,
                         const std::optional<Membership>& bootstrap) {
    if (contains(group)) {
        return Error{.code = Errc::kInvalid,
                     .what = fmt::format("group {} is on this host already", group.value.str())};
    }
    Restored restored;
    if (bootstrap) {
        restored.snapshot = Snapshot{.index = Index{1},
                                     .term = Term{1},
                                     .membership = *bootstrap,
                                     .applied_proposals = {},
                                     .state = {}};
    }
    GroupWrite write;
    write.group = group;
    write.self = self;
    write.snapshot = restored.snapshot;
    write.hard_state = restored.hard_state;
    impl_->writes_.push_back(std::move(write));
    impl_->add(group, self, std::move(restored));
    return ok();
}

void GroupHost::remove(GroupId group) { impl_->remove(group); }

bool GroupHost::contains(GroupId group) const { return impl_->groups_.contains(group); }

std::vector<GroupId> GroupHost::groups() const {
    std::vector<GroupId> ids;
    for (const auto& group : impl_->all()) {
        ids.push_back(group->id);
    }
    return ids;
}

Node* GroupHost::find(GroupId id) {
    const auto group = impl_->find(id);
    if (!group) {
        return nullptr;
    }
    impl_->mark(group);  // the caller may propose
    return &group->node;
}

void GroupHost::compact(GroupId group, Bytes state, std::size_t keep_bytes) {
    impl_->compact(group, std::move(state), keep_bytes);
}

std::size_t GroupHost::size() const { return impl_->groups_.size(); }

std::size_t GroupHost::awake() const { return impl_->awake_.size(); }

bool GroupHost::is_quiet(GroupId id) const {
    const auto group = impl_->find(id);
    return group != nullptr && group->quiescence.quiet();
}

void GroupHost::tick() { impl_->tick(); }

void GroupHost::host_is_up(const HostId& host, std::uint64_t incarnation) {
    impl_->link_changed(host, impl_->links_.up(host, incarnation));
}

void GroupHost::host_is_down(const HostId& host) {
    impl_->link_changed(host, impl_->links_.down(host));
}

void GroupHost::receive(const HostId& from, std::string_view frame) { impl_->receive(from, frame); }

void GroupHost::host_is_dead(const HostId& host) {
    host_is_down(host);
    for (const auto& group : impl_->all()) {
        // A copy: a leader that was handing over to that host may leave a joint stage now, and with
        // it the membership that it was in.
        const auto members = group->node.membership().hosts;
        for (const auto& [replica, where] : members) {
            if (where == host) {
                impl_->guarded(group, [&, &peer = replica] { group->node.peer_is_dead(peer); });
                impl_->mark(group);
            }
        }
    }
}

void GroupHost::flush() { impl_->flush(); }

}  // namespace nbos::raft
