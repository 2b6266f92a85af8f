#include "tests/cluster/cell_sim_driver.h"

#include <fmt/core.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"

namespace nbos::testing {

using replica::CellClaimed;
using replica::CellEnded;
using replica::ClaimEnded;
using replica::Ending;
using replica::Finished;
using replica::Outcome;
using replica::Standing;
namespace {

constexpr std::size_t kSliceBytes = 16;

}  // namespace

CellDriver::CellDriver(ReplicaId self, DriverPorts& ports, CellChecker& checker,
                       DriverOptions options, std::uint64_t seed)
    : self_(self),
      ports_(ports),
      checker_(checker),
      options_(options),
      rng_(seed),
      interpreter_(self, checker, options.planted == Planted::kApplyTornDelta) {}

// ---- the log ----

void CellDriver::restore(Index index, std::string_view snapshot) {
    applied_ = index;
    if (!snapshot.empty()) {
        auto machine = replica::CellMachine::restore(snapshot);
        NBOS_CHECK(machine.has_value(), "a snapshot of our own cannot be restored");
        machine_ = std::move(*machine);
        if (options_.planted == Planted::kSnapshotForgetsClaim && machine_.standing()) {
            const auto& claim = *machine_.standing();
            machine_.apply(
                Term{}, index,
                replica::encode(replica::Yield{claim.cell, claim.epoch, claim.replica}).view());
        }
    }
    run_.reset();
    claimed_.reset();
    interpreter_.discard();
    checker_.restored(self_, index, machine_);
}

void CellDriver::apply(const raft::Entry& entry) {
    applied_ = entry.index;
    const auto command = command_as_planted(
        entry.kind == raft::EntryKind::kCommand ? entry.data.view() : std::string_view());
    const auto events = machine_.apply(entry.term, entry.index, command);
    checker_.applied(self_, entry.index, machine_, events);
    for (const auto& event : events) {
        std::visit([this](const auto& e) { on(e); }, event);
    }
    ++applied_since_snapshot_;
    if (options_.compact_every != 0 && applied_since_snapshot_ >= options_.compact_every) {
        applied_since_snapshot_ = 0;
        ports_.compact(self_, applied_, machine_.snapshot());
    }
}

void CellDriver::on(const CellClaimed& event) {
    if (event.claim.replica != self_) {
        return;
    }
    const bool of_this_life =
        claimed_ && claimed_->first == event.claim.cell && claimed_->second == event.claim.epoch;
    claimed_.reset();
    if (run_ && run_->began && run_->claim.cell == event.claim.cell &&
        options_.planted == Planted::kStartBeforeClaimApplies) {
        run_->claim = event.claim;
        return;
    }
    if (!of_this_life) {
        // Proposed before this driver restarted: user code may have begun in the life before.
        if (options_.planted == Planted::kYieldAfterRestart) {
            propose(replica::Yield{event.claim.cell, event.claim.epoch, self_});
        }
        return;  // watch_executor() reports the loss once the log has been replayed
    }
    if (rng_.chance(options_.faults.yield) || !interpreter_.ready()) {
        propose(replica::Yield{event.claim.cell, event.claim.epoch, self_});
        run_ = Run{.claim = event.claim, .cell = event.cell};  // not begun, and never will
        run_->proposed = true;
        return;
    }
    const bool current = interpreter_.current(machine_.sequence());
    if (!current && options_.planted != Planted::kClaimWithOldState) {
        propose(replica::Yield{event.claim.cell, event.claim.epoch, self_});
        run_ = Run{.claim = event.claim, .cell = event.cell};
        run_->proposed = true;
        return;
    }
    begin(event.claim, event.cell);
}

void CellDriver::on(const ClaimEnded&) {
    if (run_ && run_->began) {
        interpreter_.discard();
    }
    run_.reset();
}

void CellDriver::on(const CellEnded& event) {
    const bool mine = run_ && run_->claim.cell == event.cell.number && run_->began;
    if (event.ending == Ending::kResult) {
        if (mine && event.executor == self_) {
            interpreter_.executed(event.sequence, event.delta.view());
        } else if (mine) {
            interpreter_.discard();  // it ran what another one's result ended
        } else {
            interpreter_.follow(event.sequence, event.delta);
        }
    } else if (mine) {
        interpreter_.discard();
    }
    if (run_ && run_->claim.cell == event.cell.number) {
        run_.reset();
    }
    if (event.executor == self_ || ports_.leads(self_)) {
        answer(event.cell.msg_id, event.ending, event.finished);
    }
}

void CellDriver::on(const replica::SubmitRepeated& event) {
    if (event.finished) {
        answer(event.msg_id, event.finished->ending, *event.finished);
    }
}

void CellDriver::on(const replica::WasReset&) {
    run_.reset();
    claimed_.reset();
    interpreter_.discard();
}

std::string CellDriver::describe() const {
    const auto& claim = machine_.standing();
    return fmt::format(
        "applied {}, next cell {}, epoch {}, sequence {}, queued {}, {}, {}{}, {} to propose",
        applied_.value, machine_.next_cell().value, machine_.epoch().value,
        machine_.sequence().value, machine_.queue().size(),
        claim ? fmt::format("claimed by {}", claim->replica.value) : "unclaimed",
        interpreter_.current(machine_.sequence()) ? "current" : "behind",
        !run_         ? ""
        : run_->began ? ", runs"
                      : ", yielded",
        unproposed_.size());
}

// ---- requests ----

void CellDriver::handle(const ToDriver& message) {
    if (const auto* submit = std::get_if<SubmitCell>(&message)) {
        propose(replica::Submit{"client", submit->msg_id, submit->stop_on_error, true,
                                Bytes::copy(submit->msg_id)});
    } else if (std::holds_alternative<CancelCells>(message)) {
        if (!machine_.standing()) {
            for (const auto& cell : machine_.queue()) {
                propose(replica::Cancel{cell.session, cell.msg_id, "interrupted"});
            }
        }
    } else if (const auto* restart = std::get_if<RestartKernel>(&message)) {
        propose(replica::Reset{restart->session});
    }
}

void CellDriver::propose(const replica::CellEntry& entry) {
    unproposed_.push_back(replica::encode(entry));
}

void CellDriver::answer(const std::string& msg_id, Ending ending, const Finished& finished) {
    ports_.to_gateway(self_, CellAnswer{self_, msg_id, ending, finished});
}

// ---- time ----

void CellDriver::tick(Ticks now) {
    now_ = now;
    interpreter_.tick(now, rng_, machine_.sequence(), machine_.table());
    if (rng_.chance(options_.faults.interpreter_crash)) {
        crash_interpreter(false);
    }
    if (run_ && run_->began) {
        run_on();
    }
    configure();
    claim_next(rng_.chance(options_.faults.race));
    watch_executor();
    while (!unproposed_.empty() && ports_.propose(self_, unproposed_.front())) {
        unproposed_.pop_front();
    }
}

void CellDriver::crash_interpreter(bool in_shadow_step_only) {
    if (in_shadow_step_only && !interpreter_.in_shadow_step()) {
        return;
    }
    interpreter_.discard();
    if (run_ && run_->began) {
        // A result that was proposed already may still win: then it counts.
        propose(
            replica::ExecutorLost{run_->claim.cell, run_->claim.epoch, "its interpreter crashed"});
        run_.reset();
    }
}

// The leader's task, until it is done: whoever proposed it first may be gone.
void CellDriver::configure() {
    const bool due = !configured_at_ || *configured_at_ + options_.retry < now_;
    if (!machine_.options() && ports_.leads(self_) && due) {
        configured_at_ = now_;
        propose(replica::Configure{{.spec = "python3", .session = "s1"}});
    }
}

void CellDriver::claim_next(bool racing) {
    if ((!racing && !ports_.leads(self_)) || machine_.standing() || machine_.queue().empty() ||
        !machine_.options() || !ports_.membership(self_).is_voter(self_)) {
        return;
    }
    if (!ports_.caught_up(self_) && options_.planted != Planted::kClaimBeforeCaughtUp) {
        return;
    }
    const bool able = options_.planted == Planted::kClaimWithOldState
                          ? interpreter_.ready()
                          : interpreter_.current(machine_.sequence());
    const auto claim = std::make_pair(machine_.queue().front().number, machine_.epoch());
    if (!able || (claimed_ == claim && now_ < claimed_at_ + options_.retry)) {
        return;
    }
    claimed_ = claim;
    claimed_at_ = now_;
    propose(replica::Claim{claim.first, claim.second, self_});
    if (options_.planted == Planted::kStartBeforeClaimApplies && !run_) {
        begin(Standing{claim.first, claim.second, self_, {}}, machine_.queue().front());
    }
}

void CellDriver::begin(Standing claim, const replica::QueuedCell& cell) {
    run_ = Run{.claim = claim, .cell = cell, .base = machine_.sequence(), .began = true};
    run_->ends_at = now_ + options_.cell_ticks_min + rng_.below(options_.cell_ticks_max);
    checker_.user_code_began(self_, claim.cell, claim.epoch, interpreter_.state().digest());
}

void CellDriver::run_on() {
    if (!run_->proposed && rng_.chance(0.2)) {
        ports_.to_gateway(self_, CellOutput{self_, run_->claim.cell, run_->claim.epoch,
                                            run_->claim.fence, run_->cell.msg_id, run_->outputs++});
    }
    if (!run_->proposed && run_->ends_at <= now_) {
        run_->proposed = true;
        propose_result();
    }
}

void CellDriver::propose_result() {
    const auto delta = interpreter_.run(run_->cell.msg_id, rng_.next());
    const auto digest = interpreter_.state().digest_after(delta);
    NBOS_CHECK(digest.has_value(), "the modelled interpreter made a bad delta");
    const auto& claim = run_->claim;
    std::uint32_t parts = 0;
    std::string_view rest = delta;
    while (rest.size() > kSliceBytes && (parts > 0 || rng_.chance(options_.faults.parts))) {
        propose(replica::ResultPart{claim.cell, claim.epoch, self_, parts++,
                                    Bytes::copy(rest.substr(0, kSliceBytes))});
        rest.remove_prefix(kSliceBytes);
    }
    const auto outcome = rng_.chance(options_.faults.cell_error) ? Outcome::kError : Outcome::kOk;
    const replica::Result result{.cell = claim.cell,
                                 .epoch = claim.epoch,
                                 .replica = self_,
                                 .base = run_->base,
                                 .parts = parts,
                                 .delta = Bytes::copy(rest),
                                 .digest = *digest,
                                 .outcome = outcome,
                                 .reply = Bytes::copy(run_->cell.msg_id)};
    propose(result);
    if (options_.planted == Planted::kAnswerBeforeResultApplies) {
        answer(run_->cell.msg_id, Ending::kResult,
               Finished{.cell = claim.cell, .outcome = outcome, .reply = result.reply});
    }
}

void CellDriver::watch_executor() {
    const auto& claim = machine_.standing();
    if (!claim || (loss_proposed_ == claim->epoch && now_ < loss_proposed_at_ + options_.retry)) {
        return;
    }
    const bool leads = ports_.leads(self_);
    bool lost = rng_.chance(options_.faults.spurious_loss);
    if (claim->replica == self_) {
        lost = lost || (!run_ && !claimed_);
    } else if (leads) {
        const auto health = ports_.health(self_, claim->replica);
        if (health != PeerHealth::kSilent || silent_ != claim->replica) {
            silent_ = health == PeerHealth::kSilent ? std::optional(claim->replica) : std::nullopt;
            silent_since_ = now_;
        }
        const bool too_long = silent_ && now_ - silent_since_ > options_.silence_grace;
        const bool removed = !ports_.membership(self_).is_member(claim->replica);
        lost = lost || health == PeerHealth::kDead || too_long || removed;
    }
    if (!lost) {
        return;
    }
    loss_proposed_ = claim->epoch;
    loss_proposed_at_ = now_;
    propose(replica::ExecutorLost{claim->cell, claim->epoch, "lost"});
    if (options_.planted == Planted::kTimeoutIsLoss) {
        answer(machine_.queue().front().msg_id, Ending::kExecutorLost,
               Finished{.cell = claim->cell, .outcome = Outcome::kError, .reason = "lost"});
    }
}

// Some faults are easiest to plant where every replica applies the log.
std::string CellDriver::command_as_planted(std::string_view command) const {
    auto entry = command.empty() ? std::nullopt : replica::decode_cell_entry(command);
    const auto& claim = machine_.standing();
    if (entry && options_.planted == Planted::kResultOfOldEpochCounts && claim) {
        if (auto* result = std::get_if<replica::Result>(&*entry)) {
            result->cell = claim->cell;
            result->epoch = claim->epoch;
            result->replica = claim->replica;
            result->base = machine_.sequence();
            return std::string(replica::encode(*entry).view());
        }
    }
    if (entry && options_.planted == Planted::kNoDeduplication) {
        if (auto* submit = std::get_if<replica::Submit>(&*entry)) {
            submit->session += std::to_string(applied_.value);
            return std::string(replica::encode(*entry).view());
        }
    }
    return std::string(command);
}

}  // namespace nbos::testing
