// Bugs to plant in the core, so that the simulator can prove that it would find them
// (consensus.md section 10). Compiled only with NBOS_RAFT_MUTANTS, into a library of its own
// (nbos_raft_mutants): production code has no such switch.
#pragma once

namespace nbos::raft {

struct Mutants {
    bool commit_old_term = false;           // 1: entries of older terms are committed by counting
    bool change_before_own_commit = false;  // 2: a new leader accepts a configuration at once
    bool config_at_batch_front = false;     // 3: a configuration is noted under its batch's front
    bool forget_vote = false;               // 4: a vote leaves before it is durable
    bool ack_before_fsync = false;          // 5: an append is acknowledged when it is issued
    bool stale_append_truncates = false;    // 6: a short append that agrees cuts the tail
    bool append_over_snapshot = false;      // 7: entries below the snapshot are written
    bool commit_beyond_match = false;       // 8: bound is the last index, not the last new entry
    bool config_not_from_snapshot = false;  // 9: the configuration in the snapshot is ignored
    bool learner_in_quorum = false;         // 10: learners advance the commit index
    // Not of the ten: what only clients would notice, from their answers.
    bool read_unconfirmed = false;        // a leader answers reads without asking for a quorum
    bool read_before_own_commit = false;  // a new leader takes its commit index for the group's
    bool copies_count = false;            // a proposal handed on twice is logged and applied twice
    // Of Quiescence.
    bool quiet_when_unequal = false;        // neither side compares what the other has
    bool asleep_through_proposals = false;  // what the node has to do does not wake it
    bool asleep_through_rebirths = false;   // a new process of a peer does not wake it
    bool asleep_through_losses = false;     // a lost link does not wake it
};

}  // namespace nbos::raft

#ifdef NBOS_RAFT_MUTANTS
#define NBOS_MUTANT(mutants, name) ((mutants).name)
#else
#define NBOS_MUTANT(mutants, name) false
#endif
