// The invariants of consensus.md section 9, checked on every event of every replica, of the
// modelled gateway and of the modelled interpreters. It knows nothing of how the driver decides.
//
// No separate check that clients' histories are linearizable (linearizability.h): one executor per
// cell and one answer per submission are checked here on each entry, which is the stronger claim.
//
// The first replica that applies an index writes the record of it; every other one must match.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "replica/cell_machine.h"
#include "tests/cluster/cell_sim_types.h"

namespace nbos::testing {

class CellChecker {
public:
    // ---- replicas ----
    void applied(ReplicaId at, Index index, const replica::CellMachine& machine,
                 const std::vector<replica::Event>& events);
    void restored(ReplicaId at, Index index, const replica::CellMachine& machine);

    void crashed(ReplicaId at);  // it applies its log again, from its snapshot

    // ---- interpreters ----
    void user_code_began(ReplicaId at, CellNumber cell, Epoch epoch, std::uint64_t state_digest);
    void interpreter_at(ReplicaId at, Sequence sequence, std::uint64_t state_digest);

    // ---- the gateway ----
    void shown(const CellOutput& output);
    void answered(const CellAnswer& answer);

    // At the end of a healed run.
    void finish(const std::set<std::string>& submitted, const std::set<std::string>& waiting);

    const std::optional<std::string>& violation() const { return violation_; }
    std::uint64_t checks() const { return checks_; }
    std::uint64_t cells_ended() const { return ended_.size(); }
    std::uint64_t count(replica::Ending ending) const;
    std::uint64_t voids() const { return voids_; }

private:
    struct Record {  // of one index
        std::uint64_t state_hash = 0;
        Epoch epoch;
        Sequence sequence;
    };
    struct EndRecord {
        replica::Ending ending = replica::Ending::kResult;
        CellNumber cell;
        std::string reply;
        Sequence sequence;
    };
    using CellEpoch = std::pair<CellNumber, Epoch>;

    void fail(const std::string& rule, const std::string& what);
    void require(bool condition, const std::string& rule, const std::string& what);
    void first_to_apply(Index index, const replica::CellMachine& machine,
                        const std::vector<replica::Event>& events);
    void check_end(const replica::CellEnded& event, const replica::CellMachine& machine);
    void check_step(const replica::CellMachine& machine, bool claim_ended_without_result);

    std::map<Index, Record> records_;
    std::map<ReplicaId, Index> applied_;
    std::map<CellEpoch, replica::Standing> claims_;
    std::map<CellEpoch, ReplicaId> began_;
    std::map<CellNumber, CellEpoch> began_cells_;
    std::map<CellEpoch, ReplicaId> shown_;
    std::map<std::string, EndRecord> ended_;  // by message id
    std::map<Sequence, std::uint64_t> digests_{{Sequence{0}, 0}};
    std::set<std::string> answered_;
    CellNumber last_ended_;
    Epoch epoch_;
    Sequence sequence_;
    Sequence answered_sequence_;  // the highest one that a client was told of
    std::optional<replica::Standing> standing_;
    std::optional<std::string> violation_;
    std::uint64_t checks_ = 0;
    std::uint64_t voids_ = 0;
};

}  // namespace nbos::testing
