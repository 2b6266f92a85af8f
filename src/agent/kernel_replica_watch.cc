// KernelReplica: what became of a cell whose agent, interpreter or host is gone, and who says so.
#include <fmt/core.h>

#include <algorithm>

#include "agent/kernel_replica.h"
#include "base/log.h"

namespace nbos::agent {

// ---- an interpreter that outlived the agent before ----

// Decided by what it has and what the log says by now; neither: the log is still being replayed.
void KernelReplica::settle_survivor() {
    if (!interpreter_.survivor()) {
        return;
    }
    const auto survivor = *interpreter_.survivor();
    const bool same_state =
        survivor.sequence == machine_.sequence() && survivor.session == machine_.session();
    const auto& standing = machine_.standing();
    const auto& run = survivor.run;
    if (run && standing && standing->replica == self_ && standing->cell == run->cell &&
        standing->epoch == run->epoch) {
        take_up_cell();
    } else if (run && machine_.next_cell() <= run->cell && machine_.epoch() <= run->epoch) {
        return;  // its claim has not been replayed yet
    } else if (same_state && (!run || machine_.last_executor() == self_)) {
        if (run) {
            interpreter_.executed(run->cell, machine_.sequence());
        }
        resume_interpreter();
    } else if (!survivor.sequence || machine_.sequence() > *survivor.sequence || run) {
        rebuild_interpreter(fmt::format(
            "the one that outlived its agent is not up to date: its sequence is {}, the log's {}{}",
            survivor.sequence.value_or(Sequence{0}).value, machine_.sequence().value,
            run ? ", and its cell has ended otherwise" : ""));
    }
    changed();
}

void KernelReplica::take_up_cell() {
    log_info("replica", "kernel {}: takes up cell {}, which went on without an agent",
             kernel_.value.str(), machine_.standing()->cell.value);
    run_.emplace(*machine_.standing(), machine_.queue().front(), machine_.sequence(), limits_.cell);
    run_->expect_repeats();
    started_ = run_->claim().cell;
    say_started();
    resume_interpreter();
}

void KernelReplica::resume_interpreter() {
    interpreter_.resume(machine_.sequence());
    send_waiting();
    answer_restarts();
    claim_next();
}

void KernelReplica::interpreter_resumed(const Survivor& survivor) {
    interpreter_.on_resumed(survivor);
    settle_survivor();
}

// An interrupt at the wrong moment, or a defect, may cost an interpreter the answer that it owes.
void KernelReplica::watch_own_cell() {
    if (!run_ || !started_ || !run_->idle() || run_->complete()) {
        idle_since_.reset();
        return;
    }
    if (!idle_since_) {
        idle_since_ = now_;
    } else if (now_ - *idle_since_ > limits_.unfinished_grace) {
        idle_since_.reset();
        loss_proposed_ = run_->claim().epoch;
        loss_proposed_at_ = now_;
        propose(replica::ExecutorLost{run_->claim().cell, run_->claim().epoch,
                                      "its interpreter is idle again, but has not said how the "
                                      "cell ended"});
        rebuild_interpreter("it owes the result of its cell");
    }
}

std::chrono::milliseconds KernelReplica::silence_grace() const {
    const auto seconds = machine_.options() ? machine_.options()->silence_grace_s : 0;
    return seconds > 0 ? std::chrono::seconds(seconds) : limits_.silence_grace;
}

bool KernelReplica::hears_majority() const {
    return agent::hears_majority(node().membership(), self_, ports_.hosts);
}

// The others give up its cell after the same time: nobody waits for it any more, and what it does
// outside the kernel must end.
void KernelReplica::watch_isolation() {
    if (!run_ || !started_ || hears_majority()) {
        isolated_since_.reset();
    } else if (!isolated_since_) {
        isolated_since_ = now_;
    } else if (now_ - *isolated_since_ > silence_grace()) {
        isolated_since_.reset();
        own_loss_ = "its host was cut off from the other replicas";
        rebuild_interpreter(own_loss_);
    }
}

// ---- the executor elsewhere ----

void KernelReplica::watch_executor() {
    const auto& claim = machine_.standing();
    if (!claim ||
        (loss_proposed_ == claim->epoch && now_ < loss_proposed_at_ + limits_.proposal_retry)) {
        return;
    }
    std::string why;
    if (claim->replica == self_) {
        if (run_ || started_ || interpreter_.survives()) {
            return;
        }
        if (interpreter_.never_began({claim->cell, claim->epoch})) {
            // Giving the claim back costs nothing.
            loss_proposed_ = claim->epoch;
            loss_proposed_at_ = now_;
            propose(replica::Yield{claim->cell, claim->epoch, self_});
            return;
        }
        why = own_loss_.empty() ? "its interpreter is gone" : own_loss_;
    } else if (!leads()) {
        return;
    } else if (const auto host = node().membership().hosts.find(claim->replica);
               host == node().membership().hosts.end()) {
        why = "its replica was removed while the cell ran";
    } else if (ports_.hosts.state(host->second) == HostWatch::State::kDead) {
        why = "host " + host->second.value + " is gone";
    } else if (ports_.hosts.state(host->second) == HostWatch::State::kSilent &&
               now_ - ports_.hosts.since(host->second) > silence_grace()) {
        why = "host " + host->second.value + " has been silent for longer than the grace";
    } else {
        return;
    }
    loss_proposed_ = claim->epoch;
    loss_proposed_at_ = now_;
    propose(replica::ExecutorLost{claim->cell, claim->epoch, why});
}

}  // namespace nbos::agent
