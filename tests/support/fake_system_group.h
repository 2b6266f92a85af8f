// The system group as a gateway sees it from outside, on one host that always leads it: writes are
// applied by the real machine and told as rows.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cluster/rpc.h"
#include "replica/table_machine.h"

namespace nbos::testing {

class FakeSystemGroup {
public:
    explicit FakeSystemGroup(std::string host) : host_(std::move(host)) {}

    const std::string& host() const { return host_; }
    const replica::TableMachine& machine() const { return machine_; }

    cluster::KernelStatus status() const {
        cluster::KernelStatus status{.kernel = cluster::kSystemGroup,
                                     .replica = ReplicaId{1},
                                     .host = HostId{host_},
                                     .role = leads ? raft::Role::kLeader : raft::Role::kFollower,
                                     .term = Term{1},
                                     .leader = ReplicaId{leads ? 1U : 0U}};
        status.membership.voters = {ReplicaId{1}};
        status.membership.hosts = {{ReplicaId{1}, HostId{host_}}};
        status.settled = true;
        status.sequence = Sequence{2};
        return status;
    }
    cluster::TableRows everything() const {
        cluster::TableRows all{.everything = true, .base = {}, .index = index_};
        for (const auto& [key, row] : machine_.rows()) {
            all.rows.push_back({key, row.value, row.version});
        }
        for (const auto& [writer, last] : machine_.writers()) {
            all.writers.push_back({writer, last.sequence, last.outcomes});
        }
        return all;
    }
    void take(const cluster::WriteTable& request) { writes_.push_back(request); }
    // Applies what has been written; the news, in order.
    std::vector<cluster::TableRows> pump() {
        std::vector<cluster::TableRows> news;
        for (const auto& request : std::exchange(writes_, {})) {
            if (!leads) {
                continue;  // lost with its leader
            }
            const auto base = index_;
            ++index_.value;
            const auto applied = machine_.apply(index_, replica::encode(request.write).view());
            if (!applied) {
                news.push_back(everything());
                continue;
            }
            cluster::TableRows change{.everything = false, .base = base, .index = index_};
            for (const auto& one : applied->changes) {
                const auto row = machine_.rows().find(one.key);
                change.rows.push_back(
                    row == machine_.rows().end()
                        ? cluster::TableRow{one.key, std::nullopt, index_}
                        : cluster::TableRow{one.key, row->second.value, row->second.version});
            }
            const auto& last = machine_.writers().at(applied->writer);
            change.writers.push_back({applied->writer, last.sequence, last.outcomes});
            news.push_back(std::move(change));
        }
        return news;
    }

    bool leads = true;

private:
    std::string host_;
    replica::TableMachine machine_;
    Index index_{1};
    std::vector<cluster::WriteTable> writes_;
};

}  // namespace nbos::testing
