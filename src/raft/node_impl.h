// The inside of raft::Node; included only by node*.cc.
//
//   node.cc             construction, ticks, output, durability, questions
//   node_election.cc    votes, roles, transfer of leadership
//   node_leader.cc      replication, commit, proposals, reads
//   node_membership.cc  changes of members
//   node_follower.cc    appends and heartbeats received
//   node_snapshot.cc    snapshots sent and received
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include "raft/follower.h"
#include "raft/log_view.h"
#include "raft/node.h"
#include "raft/proposals.h"
#include "raft/quorum.h"

namespace nbos::raft {

class Node::Impl {
public:
    Impl(GroupId group, ReplicaId self, Options options, Restored restored, std::uint64_t seed);

    void tick();
    void step(const Message& m);
    void persisted(std::uint64_t batch);
    Result<ProposalId> propose(Bytes command);
    Result<Index> change_membership(Membership next);
    void transfer_leadership(ReplicaId target);
    void campaign();
    void peer_is_dead(ReplicaId peer);
    void read_index(std::uint64_t context);
    void compact(Index index, Bytes state, std::size_t keep_bytes);
    bool has_output() const;
    Output take_output();
    bool membership_settled() const;
    bool at_rest() const;
    void resume();
    std::map<ReplicaId, Progress> progress() const;

    const GroupId group;
    const ReplicaId self;
    const Options options;
    Role role = Role::kFollower;
    Term term;
    ReplicaId vote;
    ReplicaId leader;
    Index commit;
    Index applied;
    LogView log;
#ifdef NBOS_RAFT_MUTANTS
    Mutants mutants;
#endif

private:
    // One Output that something had to be written for. Batches become durable in order.
    struct Batch {
        std::uint64_t number;
        Index last;  // the log is durable up to here with it; lowered when that tail is replaced
        std::optional<HardState> hard_state;
        std::vector<Message> waiting;  // messages of later Outputs that wrote nothing themselves
    };
    struct PendingRead {
        std::uint64_t context;
        ReplicaId from;       // self: our own
        std::uint64_t round;  // of the heartbeat that must be answered; 0: waits for a commit
        Index index;
    };
    struct IncomingSnapshot {
        ReplicaId from;
        Index index;
        Term term;
        std::string data;  // dropped with the term: another leader may encode it differently
    };

    // node.cc
    HardState hard_state() const;
    Message message(MessageKind kind, ReplicaId to) const;
    void send(Message m) { ready_.push_back(std::move(m)); }
    void send_after_persist(Message m);
    // For replies that rest on term and vote only.
    void send_after_hard_state(Message m);
    bool is_hard_state_durable() const;
    void write_batch(Output& out);
    void hand_out_committed(Output& out);
    AppliedTable applied_table_at(Index index) const;
    bool has_members_at_rest() const;
    void tick_leader();
    void tick_others();
    void dispatch(const Message& m);
    void note_activity(const Message& m);
    bool on_newer_term(const Message& m);
    void on_older_term(const Message& m);
    void log_changed(Index unsaved_from);

    // node_election.cc
    void become_follower(Term new_term, ReplicaId new_leader);
    void become_leader();
    void start_pre_vote();
    void start_election(bool force);
    void send_vote_requests(MessageKind kind, Term in_term, bool force);
    void send_vote_request(MessageKind kind, ReplicaId to, Term in_term, bool force);
    void count_votes();
    void reset_election_timer();
    void heard_from_leader(ReplicaId from);
    bool is_leased() const;
    bool is_up_to_date(const Message& m) const;
    void on_pre_vote(const Message& m);
    void on_pre_vote_reply(const Message& m);
    void on_vote(const Message& m);
    void on_vote_reply(const Message& m);
    void on_timeout_now(const Message& m);
    void on_transfer_request(const Message& m);
    void start_transfer(ReplicaId target);
    void continue_transfer();
    void stop_transfer();
    void lose_reads();
    bool may_campaign() const;

    // node_leader.cc
    void append_own(EntryKind kind, ProposalId proposal, Bytes data);
    bool has_committed_own_term() const { return log.term_at(commit) == term; }
    void maybe_commit();
    void set_commit(Index index);
    void send_entries();
    void send_to(ReplicaId id, Follower& f);
    void send_append(ReplicaId id, Follower& f, std::size_t bytes_max);
    void broadcast_heartbeat();
    void send_heartbeat(ReplicaId id, Follower& f, Index behind, bool bulk);
    void on_append_reply(const Message& m);
    void on_append_rejected(const Message& m, Follower& f);
    void on_heartbeat_reply(const Message& m);
    void look_for_losses(const Message& m, Follower& f);
    void on_propose(const Message& m);
    void on_read_index(const Message& m);
    void on_read_index_reply(const Message& m);
    void add_read(std::uint64_t context, ReplicaId from);
    void start_waiting_reads();
    void serve_reads();
    void answer_read(const PendingRead& read);
    void hand_out_proposals();
    void forward_proposals();

    // node_membership.cc
    bool is_caught_up_learner(ReplicaId id) const;
    void append_membership(const Membership& membership);
    void refresh_members();
    void maybe_leave_joint();
    bool hand_over_before_leaving();

    // node_snapshot.cc
    void begin_snapshot(Follower& f);
    void send_chunks(ReplicaId id, Follower& f);
    void on_snapshot_reply(const Message& m);
    void on_snapshot_chunk(const Message& m);
    void finish_snapshot(const Message& m, Message reply);

    // node_follower.cc
    void on_append(const Message& m);
    void on_heartbeat(const Message& m);
    void reject_append(const Message& m);
    void acknowledge(const Message& m, Index match);
    void append_new(std::vector<Entry> entries);

    Rng rng_;
    std::uint64_t incarnation_ = 0;
    std::uint64_t proposals_ = 0;  // made since this start
    PendingProposals pending_;
    // Leader: proposals in the log and not applied, ours since this term apart. A proposer that
    // hears nothing for long asks again; without this a slow group would drown in copies.
    std::unordered_set<ProposalId, ProposalIdHash> in_log_;
    int pending_ticks_ = 0;       // since the pending ones were handed to a leader
    AppliedTable applied_table_;  // at `applied`

    // Durability.
    HardState durable_;   // what is known to be on disk
    HardState written_;   // what has been handed out to be written
    Index unsaved_from_;  // the log from here on has not been handed out
    Index stable_;        // the log is durable up to here
    std::optional<Snapshot> install_;
    std::uint64_t last_batch_ = 0;
    std::deque<Batch> batches_;
    std::vector<Message> ready_;
    std::vector<Message> after_persist_;
    std::vector<Output::ReadReady> reads_ready_;
    std::vector<std::uint64_t> reads_lost_;

    // Elections.
    int election_elapsed_ = 0;
    int election_timeout_ = 0;
    int heard_ticks_ = 0;       // since a leader was heard, saturating
    bool leader_died_ = false;  // proven; campaign sooner than usual until a leader is heard
    ReplicaId last_leader_;
    std::map<ReplicaId, bool> votes_;

    // Leader.
    std::map<ReplicaId, Follower> followers_;
    int heartbeat_elapsed_ = 0;
    int quorum_elapsed_ = 0;
    std::uint64_t heartbeat_round_ = 0;
    bool heartbeat_due_ = false;
    bool entries_due_ = false;  // followers may be sent something
    std::size_t uncommitted_bytes_ = 0;
    ReplicaId transfer_target_;
    int transfer_elapsed_ = 0;
    int hand_overs_ = 0;  // tried before leaving the group
    std::deque<PendingRead> reads_;
    std::weak_ptr<const OutgoingSnapshot> outgoing_;

    // Anyone.
    std::map<std::uint64_t, int> forwarded_reads_;  // context -> age in ticks
    std::optional<IncomingSnapshot> incoming_;
};

}  // namespace nbos::raft
