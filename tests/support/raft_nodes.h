// A few Raft nodes with the messages between them in the test's hands.
//
// Nothing moves by itself: tick() lets time pass, settle() delivers until all is quiet. Disks write
// at once unless `hold_writes` names the node. Every test can look at what a node put out last.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "raft/node.h"

namespace nbos::testing {

inline ReplicaId replica(std::uint64_t n) { return ReplicaId{n}; }

// `past`: the greatest id before the last change.
inline Membership voters(std::set<std::uint64_t> ids, std::set<std::uint64_t> learners = {},
                         std::uint64_t past = 0) {
    Membership m;
    m.past = replica(past);
    for (const auto id : ids) {
        m.voters.insert(replica(id));
    }
    for (const auto id : learners) {
        m.learners.insert(replica(id));
    }
    return m;
}

inline raft::Snapshot first_snapshot(const Membership& members) {
    raft::Snapshot s;
    s.index = Index{1};
    s.term = Term{1};
    s.membership = members;
    return s;
}

inline raft::Entry entry(std::uint64_t term, std::uint64_t index, std::string data = "x") {
    raft::Entry e;
    e.term = Term{term};
    e.index = Index{index};
    e.kind = raft::EntryKind::kCommand;
    e.data = Bytes(std::move(data));
    return e;
}

inline raft::Entry membership_entry(std::uint64_t term, std::uint64_t index, const Membership& m) {
    auto e = entry(term, index);
    e.kind = raft::EntryKind::kMembership;
    Writer out;
    encode(out, m);
    e.data = out.take_bytes();
    return e;
}

inline raft::Message message(raft::MessageKind kind, std::uint64_t from, std::uint64_t to,
                             std::uint64_t term) {
    raft::Message m;
    m.kind = kind;
    m.from = replica(from);
    m.to = replica(to);
    m.term = Term{term};
    return m;
}

inline raft::Message append(std::uint64_t from, std::uint64_t to, std::uint64_t term,
                            std::uint64_t prev, std::uint64_t prev_term,
                            std::vector<raft::Entry> entries, std::uint64_t commit = 0) {
    auto m = message(raft::MessageKind::kAppend, from, to, term);
    m.index = Index{prev};
    m.log_term = Term{prev_term};
    m.entries = std::move(entries);
    m.commit = Index{commit};
    return m;
}

inline raft::Message append_reply(std::uint64_t from, std::uint64_t to, std::uint64_t term,
                                  std::uint64_t match) {
    auto m = message(raft::MessageKind::kAppendReply, from, to, term);
    m.index = Index{match};
    return m;
}

// One node; the test plays all others.
class Solo {
public:
    Solo(std::uint64_t self, const Membership& members, std::vector<raft::Entry> log = {},
         std::uint64_t term = 1, raft::Options options = {}) {
        disk.snapshot = first_snapshot(members);
        disk.hard_state.term = Term{term};
        disk.log = std::move(log);
        self_ = replica(self);
        options_ = options;
        restart();
    }
    // As after a crash: only what was made durable is left.
    void restart() {
        node = std::make_unique<raft::Node>(GroupId{}, self_, options_, disk, 7);
        persist();
        sent.clear();
    }

    // Takes all output; what must wait for the disk waits in `held` until persist().
    void take() {
        while (node->has_output()) {
            auto out = node->take_output();
            collect(sent, out.send_now);
            if (out.batch == 0) {
                collect(sent, out.after_persist);
            } else {
                held.push_back(out);
            }
            committed.insert(committed.end(), out.committed.begin(), out.committed.end());
            for (const auto& read : out.reads) {
                reads.push_back(read);
            }
            lost_reads.insert(lost_reads.end(), out.lost_reads.begin(), out.lost_reads.end());
        }
    }
    void persist() {
        take();
        while (!held.empty()) {
            const auto out = std::move(held.front());
            held.pop_front();
            store(out);
            node->persisted(out.batch);
            collect(sent, out.after_persist);
            take();
        }
    }
    void step(const raft::Message& m) {
        node->step(m);
        take();
    }
    void tick(int n) {
        for (int i = 0; i < n; ++i) {
            node->tick();
            take();
        }
    }
    // Wins an election with the votes of `from`; its no-op is then on its own disk.
    void lead(std::vector<std::uint64_t> from) {
        node->campaign();
        persist();
        const auto next = node->term().value + 1;
        for (const auto id : from) {
            step(message(raft::MessageKind::kPreVoteReply, id, self_.value, next));
        }
        persist();
        for (const auto id : from) {
            step(message(raft::MessageKind::kVoteReply, id, self_.value, node->term().value));
        }
        persist();
        sent.clear();
    }
    std::vector<raft::Message> sent_of(raft::MessageKind kind) const {
        std::vector<raft::Message> out;
        std::copy_if(sent.begin(), sent.end(), std::back_inserter(out),
                     [&](const auto& m) { return m.kind == kind; });
        return out;
    }

    raft::Restored disk;
    std::unique_ptr<raft::Node> node;
    std::deque<raft::Output> held;
    std::vector<raft::Message> sent;
    std::vector<raft::Entry> committed;
    std::vector<raft::Output::ReadReady> reads;
    std::vector<std::uint64_t> lost_reads;

private:
    static void collect(std::vector<raft::Message>& to, const std::vector<raft::Message>& from) {
        to.insert(to.end(), from.begin(), from.end());
    }
    void store(const raft::Output& out) {
        if (out.install) {
            disk.snapshot = out.install;
            disk.log.clear();
        }
        if (out.hard_state) {
            disk.hard_state = *out.hard_state;
        }
        if (!out.append.empty()) {
            std::erase_if(disk.log,
                          [&](const auto& e) { return e.index >= out.append.front().index; });
            disk.log.insert(disk.log.end(), out.append.begin(), out.append.end());
        }
    }

    ReplicaId self_;
    raft::Options options_;
};

// Several nodes with perfect disks and a wire that the test may cut.
class Nodes {
public:
    explicit Nodes(const Membership& members, raft::Options options = {}) : options_(options) {
        for (const auto id : members.voters) {
            add(id.value, first_snapshot(members));
        }
    }
    void add(std::uint64_t id, std::optional<raft::Snapshot> snapshot = std::nullopt,
             std::vector<raft::Entry> log = {}) {
        raft::Restored restored;
        restored.snapshot = std::move(snapshot);
        restored.log = std::move(log);
        nodes_.emplace(replica(id),
                       raft::Node(GroupId{}, replica(id), options_, restored, id * 31));
    }
    void lose_everything(std::uint64_t id) {  // a new member again, of the same name
        nodes_.erase(replica(id));
        add(id);
    }
    raft::Node& operator[](std::uint64_t id) { return nodes_.at(replica(id)); }

    void settle() {
        bool moved = true;
        while (moved) {
            moved = false;
            for (auto& [id, node] : nodes_) {
                while (!dead.contains(id.value) && node.has_output()) {
                    take(id, node);
                    moved = true;
                }
            }
            while (!wire_.empty()) {
                const auto m = std::move(wire_.front());
                wire_.pop_front();
                if (nodes_.contains(m.to) && !dead.contains(m.to.value) &&
                    !dead.contains(m.from.value) && (!lose || !lose(m))) {
                    nodes_.at(m.to).step(m);
                }
                moved = true;
            }
        }
    }
    void tick(int n) {
        for (int i = 0; i < n; ++i) {
            for (auto& [id, node] : nodes_) {
                if (!dead.contains(id.value)) {
                    node.tick();
                }
            }
            settle();
        }
    }
    // Makes `id` the leader, by transfer if there is one.
    void lead(std::uint64_t id) {
        settle();
        if (leader() == 0) {
            (*this)[id].campaign();
        } else {
            (*this)[leader()].transfer_leadership(replica(id));
        }
        settle();
    }
    std::uint64_t leader() const {
        std::uint64_t best = 0;
        for (const auto& [id, node] : nodes_) {
            if (node.role() == raft::Role::kLeader && !dead.contains(id.value) &&
                (best == 0 || nodes_.at(replica(best)).term() < node.term())) {
                best = id.value;
            }
        }
        return best;
    }
    // The commands that a node has applied, in order.
    std::vector<std::string> commands(std::uint64_t id) const {
        std::vector<std::string> out;
        const auto it = applied_.find(replica(id));
        for (const auto& e : it == applied_.end() ? std::vector<raft::Entry>{} : it->second) {
            if (e.kind == raft::EntryKind::kCommand) {
                out.emplace_back(e.data.view());
            }
        }
        return out;
    }

    std::set<std::uint64_t> dead;
    std::function<bool(const raft::Message&)> lose;
    std::map<ReplicaId, std::vector<raft::Snapshot>> installed;
    std::map<raft::MessageKind, int> sent;
    std::vector<raft::Output::ReadReady> reads;

private:
    void take(ReplicaId id, raft::Node& node) {
        auto out = node.take_output();
        const auto post = [&](const std::vector<raft::Message>& messages) {
            for (const auto& m : messages) {
                ++sent[m.kind];
                wire_.push_back(m);
            }
        };
        post(out.send_now);
        if (out.batch != 0) {
            node.persisted(out.batch);
        }
        post(out.after_persist);
        if (out.install) {
            installed[id].push_back(*out.install);
        }
        auto& applied = applied_[id];
        applied.insert(applied.end(), out.committed.begin(), out.committed.end());
        reads.insert(reads.end(), out.reads.begin(), out.reads.end());
    }

    raft::Options options_;
    std::map<ReplicaId, raft::Node> nodes_;
    std::deque<raft::Message> wire_;
    std::map<ReplicaId, std::vector<raft::Entry>> applied_;
};

}  // namespace nbos::testing
