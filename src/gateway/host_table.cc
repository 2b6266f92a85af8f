#include "gateway/host_table.h"

namespace nbos::gateway {

std::string_view name(HostState state) {
    switch (state) {
        case HostState::kUp:
            return "up";
        case HostState::kDown:
            return "silent";
        case HostState::kRefused:
            return "gone";
        case HostState::kUnknown:
            break;
    }
    return "unknown";
}

void HostTable::configure(const std::map<HostId, std::string>& addresses, Instant now) {
    std::erase_if(hosts_, [&](const auto& host) { return !addresses.contains(host.first); });
    for (const auto& [id, address] : addresses) {
        auto [host, added] = hosts_.try_emplace(id);
        host->second.address = address;
        if (added) {
            host->second.since = now;
        }
    }
}

void HostTable::set_state(const HostId& id, HostState state, Instant now) {
    const auto found = hosts_.find(id);
    if (found == hosts_.end()) {
        return;
    }
    auto& host = found->second;
    if (state == HostState::kUp) {
        ++host.connection;
        host.reported = false;
    }
    // From silent to gone the absence goes on; it does not begin again.
    const bool was_away = host.state == HostState::kDown || host.state == HostState::kRefused;
    if (host.state != state && !(was_away && state != HostState::kUp)) {
        host.since = now;
    }
    host.state = state;
}

void HostTable::report(const cluster::AgentInfo& info, Instant now) {
    if (const auto found = hosts_.find(info.host); found != hosts_.end()) {
        found->second.info = info;
        found->second.reported = true;
        found->second.reported_at = now;
    }
}

const Host* HostTable::find(const HostId& id) const {
    const auto found = hosts_.find(id);
    return found == hosts_.end() ? nullptr : &found->second;
}

bool HostTable::up(const HostId& id) const {
    const auto* host = find(id);
    return host != nullptr && host->state == HostState::kUp;
}

std::uint64_t HostTable::connection(const HostId& id) const {
    const auto* host = find(id);
    return host == nullptr ? 0 : host->connection;
}

bool HostTable::refused(const HostId& id) const {
    const auto* host = find(id);
    return host != nullptr && host->state == HostState::kRefused;
}

Instant HostTable::absent(const HostId& id, Instant now) const {
    const auto* host = find(id);
    if (host == nullptr) {
        return Instant::max();  // not in the cluster any more
    }
    return host->state == HostState::kUp ? Instant{0} : now - host->since;
}

}  // namespace nbos::gateway
