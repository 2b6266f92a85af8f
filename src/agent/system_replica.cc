#include "agent/system_replica.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace nbos::agent {
namespace {

constexpr std::size_t kCompactBytesMin = 1U << 20U;  // of log since the last snapshot

cluster::TableRows everything(KernelId group, const replica::TableMachine& machine, Index index) {
    cluster::TableRows all{.group = group, .everything = true, .base = {}, .index = index};
    for (const auto& [key, row] : machine.rows()) {
        all.rows.push_back({key, row.value, row.version});
    }
    for (const auto& [writer, last] : machine.writers()) {
        all.writers.push_back({writer, last.sequence, last.outcomes});
    }
    return all;
}

}  // namespace

SystemReplica::SystemReplica(KernelId group, ReplicaId self, HostId host, raft::GroupHost& groups,
                             GatewayLink& gateways, const HostWatch& hosts)
    : group_(group),
      self_(self),
      host_(std::move(host)),
      groups_(groups),
      gateways_(gateways),
      hosts_(hosts) {}

raft::Node& SystemReplica::node() {
    auto* found = groups_.find(GroupId{group_.value});
    NBOS_CHECK(found != nullptr, "a replica without its Raft node");
    return *found;
}

bool SystemReplica::leads() { return node().role() == raft::Role::kLeader; }

bool SystemReplica::knows_all() { return leads() && node().term_at(applied_) == node().term(); }

void SystemReplica::begin() {
    const auto& voters = node().membership().voters;
    if (!voters.empty() && *voters.begin() == self_) {
        node().campaign();
    }
    changed();
}

// ---- the log ----

void SystemReplica::restore(const raft::Snapshot& snapshot) {
    applied_ = snapshot.index;
    applied_bytes_ = 0;
    if (!snapshot.state.empty()) {
        auto machine = replica::TableMachine::restore(snapshot.state.view());
        NBOS_CHECK(machine.has_value(), "a snapshot that passed its checksum cannot be decoded");
        machine_ = std::move(*machine);
    }
    changed();
}

void SystemReplica::apply(const raft::Entry& entry) {
    applied_ = entry.index;
    applied_bytes_ += entry.data.size();
    if (entry.kind == raft::EntryKind::kCommand && !entry.data.empty()) {
        if (const auto applied = machine_.apply(entry.index, entry.data.view())) {
            proposed_.erase(applied->writer);
            if (leads()) {
                tell_change(*applied);
            }
        }
    }
    ask_read();
    answer_reads();
    step_member_change();
    compact_when_due();
}

void SystemReplica::tell_change(const replica::TableMachine::Applied& applied) {
    cluster::TableRows change{
        .group = group_, .everything = false, .base = told_, .index = applied_};
    std::set<std::string> keys;
    for (const auto& one : applied.changes) {
        keys.insert(one.key);
    }
    for (const auto& key : keys) {
        const auto row = machine_.rows().find(key);
        if (row == machine_.rows().end()) {
            change.rows.push_back({key, std::nullopt, applied_});
        } else {
            change.rows.push_back({key, row->second.value, row->second.version});
        }
    }
    const auto& last = machine_.writers().at(applied.writer);
    change.writers.push_back({applied.writer, last.sequence, last.outcomes});
    told_ = applied_;
    gateways_.send(change);
}

void SystemReplica::role_changed() {
    const auto term = leads() ? std::optional(node().term()) : std::nullopt;
    if (term != term_) {
        term_ = term;
        proposed_.clear();
        asked_.clear();
        reading_.clear();
        wanting_.clear();
        told_ = applied_;
        if (term_) {
            tell_everything({HostId{}});
        }
    }
    step_member_change();
    changed();
}

// ---- gateways ----

void SystemReplica::handle(const cluster::WriteTable& request, const HostId& from) {
    const auto refuse = [&](Errc code, std::string what) {
        gateways_.send_to(
            from,
            cluster::Reply{
                .request = request.request, .ok = false, .code = code, .what = std::move(what)});
    };
    // Without a majority it would be done whenever that is back, long after the asker was refused.
    if (!leads() || !hears_majority()) {
        refuse(Errc::kNotLeader, "this replica does not lead a majority of the system group");
        return;
    }
    const auto& write = request.write;
    if (const auto good = replica::check(write); !good) {
        refuse(good.error().code, good.error().what);
        return;
    }
    const auto before = machine_.writers().find(write.writer);
    if (before != machine_.writers().end() && write.sequence <= before->second.sequence) {
        tell_everything({from});  // it has missed what became of it
        return;
    }
    auto& proposed = proposed_[write.writer];
    if (proposed >= write.sequence) {
        return;  // on its way
    }
    if (!node().propose(replica::encode(write))) {
        refuse(Errc::kExhausted, "too many writes are under way");
        return;
    }
    proposed = write.sequence;
}

bool SystemReplica::hears_majority() {
    return agent::hears_majority(node().membership(), self_, hosts_);
}

void SystemReplica::handle(const cluster::ChangeMembers& request) {
    member_change_.emplace(request);
    step_member_change();
}

void SystemReplica::step_member_change() {
    if (!member_change_) {
        return;
    }
    if (const auto done = member_change_->step(node(), std::nullopt)) {
        cluster::Reply reply{.request = member_change_->request()};
        if (!*done) {
            reply.ok = false;
            reply.code = done->error().code;
            reply.what = done->error().what;
        }
        member_change_.reset();
        gateways_.send(reply);
    }
}

void SystemReplica::report(const HostId& to) {
    gateways_.send_to(to, status());
    if (leads()) {
        tell_everything({to});
    }
}

// ---- all rows ----

void SystemReplica::tell_everything(const std::set<HostId>& wanted) {
    wanting_.insert(wanted.begin(), wanted.end());
    ask_read();
}

void SystemReplica::ask_read() {
    if (wanting_.empty() || !knows_all()) {
        return;  // again with the first entry of the term
    }
    asked_[++last_read_] = std::exchange(wanting_, {});
    node().read_index(last_read_);
}

void SystemReplica::read_ready(std::uint64_t context, Index index) {
    if (auto found = asked_.extract(context); !found.empty()) {
        reading_.emplace_back(index, std::move(found.mapped()));
        answer_reads();
    }
}

void SystemReplica::read_lost(std::uint64_t context) {
    if (auto found = asked_.extract(context); !found.empty() && leads()) {
        tell_everything(found.mapped());
    }
}

void SystemReplica::answer_reads() {
    std::erase_if(reading_, [this](const auto& read) {
        if (read.first > applied_) {
            return false;
        }
        const auto all = everything(group_, machine_, applied_);
        for (const auto& gateway : read.second) {
            if (gateway.value.empty()) {
                gateways_.send(all);
            } else {
                gateways_.send_to(gateway, all);
            }
        }
        return true;
    });
}

// ---- time, status ----

void SystemReplica::tick() {
    step_member_change();
    changed();
}

void SystemReplica::compact_when_due() {
    if (applied_bytes_ > std::max(kCompactBytesMin, 2 * machine_.bytes())) {
        applied_bytes_ = 0;
        groups_.compact(GroupId{group_.value}, machine_.snapshot(), kCompactBytesMin / 4);
    }
}

cluster::KernelStatus SystemReplica::status() {
    const auto& n = node();
    return {.kernel = group_,
            .replica = self_,
            .host = host_,
            .role = n.role(),
            .term = n.term(),
            .leader = n.leader(),
            .membership = n.membership(),
            .settled = n.membership_settled(),
            .options = {},
            .sequence = Sequence{applied_.value},
            .state = cluster::ExecutionState::kIdle,
            .interpreter = "none",
            .state_bytes = machine_.bytes(),
            .process = {}};
}

// Not at every write: gateways hear of those as rows. What they must know at once is who leads.
void SystemReplica::changed() {
    auto now = status();
    now.sequence = {};
    now.state_bytes = 0;
    auto encoded = cluster::encode(now);
    if (encoded != last_status_) {
        last_status_ = std::move(encoded);
        gateways_.send(status());
    }
}

}  // namespace nbos::agent
