#include "tests/cluster/cell_sim_checker.h"

#include <fmt/core.h>

#include <functional>
#include <string_view>
#include <variant>

namespace nbos::testing {

using replica::CellClaimed;
using replica::CellEnded;
using replica::ClaimEnded;
using replica::Ending;

namespace {

std::uint64_t hash_of(const replica::CellMachine& machine) {
    const auto bytes = machine.snapshot();
    return std::hash<std::string_view>{}(bytes.view());
}

}  // namespace

void CellChecker::fail(const std::string& rule, const std::string& what) {
    if (!violation_) {
        violation_ = rule + ": " + what;
    }
}

void CellChecker::require(bool condition, const std::string& rule, const std::string& what) {
    ++checks_;
    if (!condition) {
        fail(rule, what);
    }
}

void CellChecker::applied(ReplicaId at, Index index, const replica::CellMachine& machine,
                          const std::vector<replica::Event>& events) {
    auto& last = applied_[at];
    require(last < index, "order",
            fmt::format("replica {} applied index {} after {}", at.value, index.value, last.value));
    last = index;
    const auto record = records_.find(index);
    if (record == records_.end()) {
        require(records_.empty() || records_.rbegin()->first < index, "order",
                fmt::format("index {} was skipped by everyone", index.value));
        first_to_apply(index, machine, events);
        records_[index] = {hash_of(machine), machine.epoch(), machine.sequence()};
        return;
    }
    require(record->second.state_hash == hash_of(machine), "same state",
            fmt::format("replica {} differs from the others at index {}", at.value, index.value));
}

void CellChecker::restored(ReplicaId at, Index index, const replica::CellMachine& machine) {
    applied_[at] = index;
    // The record before: a snapshot may stand at an entry that is not the application's.
    auto record = records_.upper_bound(index);
    if (record == records_.begin()) {
        return;
    }
    --record;
    require(record->second.state_hash == hash_of(machine), "rule 12, snapshots carry it all",
            fmt::format("replica {} restored another state at index {}", at.value, index.value));
}

void CellChecker::crashed(ReplicaId at) { applied_.erase(at); }

void CellChecker::first_to_apply(Index, const replica::CellMachine& machine,
                                 const std::vector<replica::Event>& events) {
    bool ended_without_result = false;
    for (const auto& event : events) {
        if (const auto* claimed = std::get_if<CellClaimed>(&event)) {
            const auto& claim = claimed->claim;
            require(!standing_, "rule 1, one executor per cell",
                    "a claim while another one stands");
            require(claims_.emplace(CellEpoch{claim.cell, claim.epoch}, claim).second,
                    "rule 1, one executor per cell",
                    fmt::format("cell {} was claimed twice in epoch {}", claim.cell.value,
                                claim.epoch.value));
            require(claim.cell.value == last_ended_.value + 1, "rule 5, in order",
                    fmt::format("cell {} was claimed after cell {}", claim.cell.value,
                                last_ended_.value));
            standing_ = claim;
        } else if (std::holds_alternative<ClaimEnded>(event)) {
            ended_without_result = true;
            standing_.reset();
        } else if (const auto* ended = std::get_if<CellEnded>(&event)) {
            if (ended->cell.number.value != 0) {
                const bool by_result = ended->ending == Ending::kResult;
                ended_without_result = ended_without_result || (standing_ && !by_result);
                check_end(*ended, machine);
                standing_.reset();
            }
        } else if (std::holds_alternative<replica::Diverged>(event)) {
            fail("rule 7, whole or not at all", "a replica's table differs from the executor's");
        } else if (std::holds_alternative<replica::WasReset>(event)) {
            digests_[machine.sequence()] = 0;
            sequence_ = machine.sequence();
        } else if (std::holds_alternative<replica::Void>(event)) {
            ++voids_;
        }
    }
    check_step(machine, ended_without_result);
}

void CellChecker::check_end(const CellEnded& event, const replica::CellMachine& machine) {
    const auto cell = event.cell.number;
    require(cell.value == last_ended_.value + 1, "rule 5, in order and without gaps",
            fmt::format("cell {} ended after cell {}", cell.value, last_ended_.value));
    last_ended_ = cell;
    const EndRecord record{event.ending, cell, std::string(event.finished.reply.view()),
                           event.sequence};
    require(ended_.emplace(event.cell.msg_id, record).second, "rule 5, exactly once",
            fmt::format("message {} ended twice", event.cell.msg_id));
    if (event.ending == Ending::kResult) {
        require(standing_ && standing_->cell == cell && standing_->replica == event.executor,
                "rule 4, a delta counts only from the standing executor",
                fmt::format("cell {} ended by the result of replica {}", cell.value,
                            event.executor.value));
        require(event.sequence.value == sequence_.value + 1, "rule 7, no sequence twice",
                fmt::format("sequence {} after {}", event.sequence.value, sequence_.value));
        sequence_ = event.sequence;
        digests_[sequence_] = machine.table().digest();
        // The modelled interpreter replies with the message id of what it ran.
        require(record.reply == event.cell.msg_id, "rule 4, whose result",
                fmt::format("cell {} ({}) ended with the reply of {}", cell.value,
                            event.cell.msg_id, record.reply));
        const auto began = began_.find({cell, standing_ ? standing_->epoch : Epoch{}});
        require(began != began_.end() && began->second == event.executor,
                "rule 10, start after the claim",
                fmt::format("the result of cell {} came from no user code", cell.value));
    } else if (event.ending != Ending::kExecutorLost && event.ending != Ending::kReset) {
        require(!standing_, "rule 5, cancelled before a claim",
                fmt::format("cell {} was cancelled under its claim", cell.value));
    }
}

void CellChecker::check_step(const replica::CellMachine& machine, bool ended_without_result) {
    const auto grown = epoch_.value + (ended_without_result ? 1 : 0);
    require(machine.epoch().value == grown, "rule 2, epoch fencing",
            fmt::format("epoch {} became {}", epoch_.value, machine.epoch().value));
    epoch_ = machine.epoch();
    require(machine.standing().has_value() == standing_.has_value(),
            "rule 3, claims end by entries", "a claim ended without an event");
    require(machine.sequence() == sequence_, "rule 7, whole or not at all",
            fmt::format("sequence {} is not published as {}", machine.sequence().value,
                        sequence_.value));
}

void CellChecker::user_code_began(ReplicaId at, CellNumber cell, Epoch epoch,
                                  std::uint64_t state_digest) {
    const auto claim = claims_.find({cell, epoch});
    require(claim != claims_.end() && claim->second.replica == at, "rule 10, start after the claim",
            fmt::format("replica {} began cell {} in epoch {} without its claim", at.value,
                        cell.value, epoch.value));
    const auto [began, fresh] = began_.emplace(CellEpoch{cell, epoch}, at);
    require(fresh, "rule 1, one executor per cell",
            fmt::format("user code of cell {} began on replica {} and on {}", cell.value,
                        began->second.value, at.value));
    require(began_cells_.emplace(cell, CellEpoch{cell, epoch}).second,
            "rule 5, a begun cell is not run again",
            fmt::format("user code of cell {} began again in epoch {}", cell.value, epoch.value));
    // The newest sequence before this cell: its executor has every earlier cell, whole. Compared
    // with the log's as of now, so a stale claim of a cell that has ended since is let pass.
    if (cell.value == last_ended_.value + 1) {
        require(digests_.at(sequence_) == state_digest, "rule 10, every earlier cell is there",
                fmt::format("replica {} began cell {} on another state than sequence {}", at.value,
                            cell.value, sequence_.value));
        require(!(sequence_ < answered_sequence_), "rule 8, acknowledged cells stay",
                fmt::format("sequence {} was told to a client, {} is in force",
                            answered_sequence_.value, sequence_.value));
    }
}

void CellChecker::interpreter_at(ReplicaId at, Sequence sequence, std::uint64_t state_digest) {
    const auto digest = digests_.find(sequence);
    require(digest != digests_.end() && digest->second == state_digest,
            "rule 7, whole or not at all",
            fmt::format("the interpreter of replica {} is not at sequence {} as it says", at.value,
                        sequence.value));
}

void CellChecker::shown(const CellOutput& output) {
    const auto [first, fresh] = shown_.emplace(CellEpoch{output.cell, output.epoch}, output.from);
    require(first->second == output.from, "gateway, one executor's outputs",
            fmt::format("outputs of replicas {} and {} were shown for cell {}", first->second.value,
                        output.from.value, output.cell.value));
    require(!answered_.contains(output.msg_id), "gateway, fence of outputs",
            fmt::format("an output of {} was shown after its end", output.msg_id));
    const auto claim = claims_.find({output.cell, output.epoch});
    require(claim != claims_.end() && claim->second.replica == output.from,
            "gateway, one executor's outputs",
            fmt::format("replica {} showed an output without the claim", output.from.value));
}

void CellChecker::answered(const CellAnswer& answer) {
    const auto record = ended_.find(answer.msg_id);
    if (answer.finished.cell.value == 0 && answer.ending != Ending::kResult) {
        answered_.insert(answer.msg_id);  // refused for want of room: it never was a cell
        return;
    }
    require(record != ended_.end(), "rule 8, acknowledged means committed and applied",
            fmt::format("a client was told the end of {}, which has not ended", answer.msg_id));
    if (record == ended_.end()) {
        return;
    }
    const auto& end = record->second;
    require(end.ending == answer.ending && end.cell == answer.finished.cell &&
                end.reply == answer.finished.reply.view(),
            "rule 8, acknowledged means committed and applied",
            fmt::format("a client was told another end of {} than the log holds", answer.msg_id));
    answered_.insert(answer.msg_id);
    if (end.ending == Ending::kResult && answered_sequence_ < end.sequence) {
        answered_sequence_ = end.sequence;
    }
}

void CellChecker::finish(const std::set<std::string>& submitted,
                         const std::set<std::string>& waiting) {
    for (const auto& msg_id : waiting) {
        fail("liveness", fmt::format("{} never ended for its client", msg_id));
    }
    for (const auto& [msg_id, record] : ended_) {
        require(submitted.contains(msg_id), "no invention",
                fmt::format("{} ended and was never submitted", msg_id));
    }
}

std::uint64_t CellChecker::count(Ending ending) const {
    std::uint64_t n = 0;
    for (const auto& [msg_id, record] : ended_) {
        n += record.ending == ending ? 1U : 0U;
    }
    return n;
}

}  // namespace nbos::testing
