#include "model/membership.h"

#include <algorithm>

namespace nbos {
namespace {

void encode_set(Writer& out, const std::set<ReplicaId>& ids) {
    out.put(static_cast<std::uint32_t>(ids.size()));
    for (const auto id : ids) {
        out.put(id);
    }
}

std::set<ReplicaId> decode_set(Reader& in) {
    std::set<ReplicaId> ids;
    const auto n = in.count(sizeof(std::uint64_t));
    for (std::uint32_t i = 0; i < n; ++i) {
        ids.insert(in.id<ReplicaId>());
    }
    return ids;
}

}  // namespace

ReplicaId Membership::newest() const {
    auto newest = past;
    for (const auto* ids : {&voters, &outgoing, &learners}) {
        newest = ids->empty() ? newest : std::max(newest, *ids->rbegin());
    }
    return newest;
}

void encode(Writer& out, const Membership& membership) {
    encode_set(out, membership.voters);
    encode_set(out, membership.outgoing);
    encode_set(out, membership.learners);
    out.put(static_cast<std::uint32_t>(membership.hosts.size()));
    for (const auto& [id, host] : membership.hosts) {
        out.put(id).put(host.value);
    }
    out.put(membership.past);
}

std::optional<Membership> decode_membership(Reader& in) {
    Membership membership;
    membership.voters = decode_set(in);
    membership.outgoing = decode_set(in);
    membership.learners = decode_set(in);
    const auto n = in.count(sizeof(std::uint64_t) + sizeof(std::uint32_t));
    for (std::uint32_t i = 0; i < n; ++i) {
        const auto id = in.id<ReplicaId>();
        membership.hosts[id] = HostId{in.string()};
    }
    membership.past = in.id<ReplicaId>();
    if (!in.ok()) {
        return std::nullopt;
    }
    return membership;
}

}  // namespace nbos
