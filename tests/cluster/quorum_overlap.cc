#include "tests/cluster/quorum_overlap.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <tuple>

namespace nbos::testing {
namespace {

// Sets of electors as bits, in the order of the list.
using Set = std::uint32_t;

struct Candidate {
    ReplicaId id;
    const Membership* config;
    Set voters;
    std::size_t voters_size;
    Set outgoing;
    std::size_t outgoing_size;
    Set granters;

    bool is_quorum(Set set) const {
        const auto half = [&](Set of, std::size_t size) {
            return 2 * static_cast<std::size_t>(std::popcount(set & of)) > size;
        };
        return half(voters, voters_size) && (outgoing_size == 0 || half(outgoing, outgoing_size));
    }
};

Set bits_of(const std::vector<Elector>& all, const std::set<ReplicaId>& ids) {
    Set out = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
        out |= ids.contains(all[i].id) ? 1U << i : 0U;
    }
    return out;
}

Set granters_of(const std::vector<Elector>& all, const Elector& candidate) {
    Set out = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const bool grants = std::tie(candidate.last_term, candidate.last) >=
                            std::tie(all[i].last_term, all[i].last);
        out |= grants ? 1U << i : 0U;
    }
    return out;
}

bool are_disjoint(const Candidate& a, const Candidate& b) {
    const Set pool = a.granters & (a.voters | a.outgoing);
    for (Set set = pool; set != 0; set = (set - 1) & pool) {
        if (a.is_quorum(set) && b.is_quorum(b.granters & ~set)) {
            return true;
        }
    }
    return false;
}

std::vector<Candidate> winners(const std::vector<Elector>& all) {
    std::vector<Candidate> out;
    for (const auto& e : all) {
        const auto& m = *e.config;
        Candidate c{e.id,
                    e.config,
                    bits_of(all, m.voters),
                    m.voters.size(),
                    bits_of(all, m.outgoing),
                    m.outgoing.size(),
                    granters_of(all, e)};
        if (m.is_voter(e.id) && c.is_quorum(c.granters)) {
            out.push_back(c);
        }
    }
    return out;
}

}  // namespace

bool can_be_elected(const std::vector<Elector>& all, ReplicaId id) {
    const auto candidates = winners(all);
    return std::any_of(candidates.begin(), candidates.end(),
                       [&](const auto& c) { return c.id == id; });
}

std::optional<std::pair<ReplicaId, ReplicaId>> disjoint_quorums(const std::vector<Elector>& all) {
    const auto candidates = winners(all);
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        for (std::size_t j = i + 1; j < candidates.size(); ++j) {
            const auto& [a, b] = std::tie(candidates[i], candidates[j]);
            if (*a.config != *b.config && are_disjoint(a, b)) {
                return std::pair(a.id, b.id);
            }
        }
    }
    return std::nullopt;
}

}  // namespace nbos::testing
