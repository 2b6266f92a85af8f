#include "agent/kernel_replica.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/log.h"
#include "jupyter/json_field.h"

namespace nbos::agent {
namespace {

bool same_cell(const std::optional<CellRun>& run, CellNumber cell, Epoch epoch) {
    return run && run->claim().cell == cell && run->claim().epoch == epoch;
}

// What an interpreter says at the beginning and the end of a request.
bool ends_or_begins(const jupyter::Message& message) {
    const auto header = jupyter::parse_header(message.header);
    return header && (header->msg_type == "status" || header->msg_type == "execute_reply");
}

// The links to gateways carry twice this in a frame, and every copy of it is memory.
constexpr std::size_t kOutputBytesMax = 128U << 20U;

// A print of a program that never pauses comes as one message of any size.
void leave_out_when_huge(jupyter::Message& output) {
    const auto bytes = output.content.size();
    if (output.channel != jupyter::Channel::kIopub || bytes <= kOutputBytesMax) {
        return;
    }
    const auto line = fmt::format(
        "[NotebookOS] {} MiB of output were left out: one message may have {} MiB; write large "
        "results to a file.",
        bytes >> 20U, kOutputBytesMax >> 20U);
    output.content = fmt::format(
        R"({{"name": "stderr", "text": "{}\n", "data": {{"text/plain": "{}"}}, "metadata": {{}}}})",
        line, line);
}

}  // namespace

KernelReplica::KernelReplica(KernelId kernel, ReplicaId self, Ports ports, ReplicaLimits limits)
    : kernel_(kernel),
      self_(self),
      ports_(ports),
      limits_(limits),
      interpreter_(ports.interpreters, {.adoption = [this] { return adoption(); },
                                        .state =
                                            [this] {
                                                const bool any = machine_.sequence().value > 0;
                                                return ReplicaInterpreter::State{
                                                    machine_.sequence(),
                                                    any ? machine_.table().as_delta() : Bytes()};
                                            }}) {}

raft::Node& KernelReplica::node() {
    auto* found = ports_.groups.find(GroupId{kernel_.value});
    NBOS_CHECK(found != nullptr, "a replica without its Raft node");
    return *found;
}

const raft::Node& KernelReplica::node() const {
    return const_cast<KernelReplica*>(this)->node();  // NOLINT: GroupHost has no const lookup
}

bool KernelReplica::leads() const { return node().role() == raft::Role::kLeader; }

// With an entry of its own term applied it knows of every cell and claim that was ever committed,
// also those that an earlier life of it saw applied: what it claims now cannot be mistaken for
// that.
bool KernelReplica::leads_knowingly() const {
    return leads() && node().term_at(applied_) == node().term();
}

Adoption KernelReplica::adoption() const {
    const auto& known = machine_.options();
    const auto& options = known ? known : wished_options_;
    NBOS_CHECK(options.has_value(), "an interpreter for a kernel that is not configured");
    return {.kernel = kernel_,
            .replica = self_,
            .session = known ? machine_.session() : options->session,
            .spec = options->spec,
            .cwd = options->cwd,
            .username = options->username,
            .env = options->env,
            .outlives_agent = silence_grace()};
}

// ---- proposing ----

void KernelReplica::propose(const replica::CellEntry& entry) {
    unproposed_.push_back(replica::encode(entry));
    pump_proposals();
}

void KernelReplica::pump_proposals() {
    while (!unproposed_.empty()) {
        if (!node().propose(unproposed_.front())) {
            return;  // too much in flight: again when something has been applied
        }
        unproposed_.pop_front();
    }
}

void KernelReplica::configure(const replica::KernelOptions& options) {
    wished_options_ = options;
    if (!interpreter_.started()) {
        interpreter_.start();
    }
    const auto& voters = node().membership().voters;
    if (!machine_.options() && !voters.empty() && *voters.begin() == self_) {
        node().campaign();
        propose(replica::Configure{options});
    }
    changed();
}

// ---- the log ----

void KernelReplica::restore(const raft::Snapshot& snapshot) {
    applied_ = snapshot.index;
    applied_bytes_ = 0;
    if (snapshot.state.empty()) {
        return;  // the first snapshot of a new group: nothing has happened yet
    }
    auto machine = replica::CellMachine::restore(snapshot.state.view());
    NBOS_CHECK(machine.has_value(), "a snapshot that passed its checksum cannot be decoded");
    const bool was_started = interpreter_.started();
    machine_ = std::move(*machine);
    run_.reset();
    started_.reset();
    claimed_.reset();
    interrupts_.clear();  // they are asked again
    if (was_started || machine_.options()) {
        interpreter_.start_or_keep_survivor();
        settle_survivor();
    }
    changed();
}

void KernelReplica::apply(const raft::Entry& entry) {
    applied_ = entry.index;
    applied_bytes_ += entry.data.size();
    if (entry.kind == raft::EntryKind::kCommand && !entry.data.empty()) {
        for (const auto& event : machine_.apply(entry.term, entry.index, entry.data.view())) {
            std::visit([this](const auto& e) { on(e); }, event);
        }
    }
    settle_survivor();
    answer_interrupts();
    pump_submits();
    pump_proposals();
    claim_next();
    compact_when_due();  // the status follows at the next tick: a cell is several entries
}

void KernelReplica::role_changed() {
    claimed_.reset();
    if (leads()) {
        wants_lead_ = false;
        if (wished_options_ && !machine_.options()) {
            // Its first proposer may be gone before that was committed; a second one is void.
            propose(replica::Configure{*wished_options_});
        }
    }
    step_member_change();
    claim_next();
    changed();
}

void KernelReplica::on(const replica::Configured&) {
    if (!interpreter_.started()) {
        interpreter_.start();
    }
}

void KernelReplica::on(const replica::CellQueued&) {}

void KernelReplica::on(const replica::SubmitRepeated& event) {
    if (event.finished && leads()) {
        answer(event.session, event.msg_id, *event.finished, event.finished->ending, true);
    }
}

void KernelReplica::on(const replica::CellClaimed& event) {
    if (event.claim.replica != self_) {
        return;
    }
    const std::pair claim{event.claim.cell, event.claim.epoch};
    const bool of_this_life = claims_of_this_life_.contains(claim);
    claims_of_this_life_.clear();  // earlier ones are void by now, or of this same claim
    if (!of_this_life) {
        // This agent was restarted: user code may have begun in its life before, and must not begin
        // twice. Its interpreter may have outlived that (settle_survivor); else watch_executor()
        // reports the loss once the log has been replayed.
        own_loss_ = "its agent was restarted while the cell ran";
        return;
    }
    run_.emplace(event.claim, event.cell, machine_.sequence(), limits_.cell);
    start_cell();
}

void KernelReplica::on(const replica::ClaimEnded&) {
    run_.reset();
    started_.reset();
}

void KernelReplica::on(const replica::CellEnded& event) {
    const bool mine = event.executor == self_;
    if (event.ending == replica::Ending::kResult) {
        if (mine) {
            settle_own_result(event);
        } else {
            follow(event);
        }
    } else if (mine && event.ending == replica::Ending::kExecutorLost &&
               started_ == event.cell.number) {
        rebuild_interpreter("its cell was given up by the other replicas");
    }
    if (run_ && run_->claim().cell == event.cell.number) {
        run_.reset();
    }
    if (started_ == event.cell.number) {
        started_.reset();
    }
    const bool asked = asked_.erase({event.cell.session, event.cell.msg_id}) > 0;
    if (mine || leads() || asked) {
        answer(event.cell.session, event.cell.msg_id, event.finished, event.ending, false);
    }
}

void KernelReplica::settle_own_result(const replica::CellEnded& event) {
    if (started_ == event.cell.number && run_ && run_->proposed()) {
        interpreter_.executed(event.cell.number, event.sequence);
        return;
    }
    if (interpreter_.survives()) {
        return;  // settle_survivor() knows more
    }
    // Its result was accepted, but by an interpreter that is gone: this one is being loaded.
    rebuild_interpreter("its state is older than its own last result");
}

void KernelReplica::follow(const replica::CellEnded& event) {
    interpreter_.apply(Sequence{event.sequence.value - 1}, event.sequence, event.delta);
}

void KernelReplica::on(const replica::Diverged& event) {
    log_error("replica", "kernel {}: the state of sequence {} differs from the executor's",
              kernel_.value.str(), event.sequence.value);
    rebuild_interpreter("its state differs from the executor's");
}

void KernelReplica::on(const replica::WasReset&) {
    run_.reset();
    started_.reset();
    claimed_.reset();
    // The log may be replayed: what was asked after this restart, or a later one, waits on.
    std::erase_if(waiting_, [this](const auto& message) {
        return message.incarnation < machine_.incarnation();
    });
    asked_.clear();
    interpreter_.start_or_keep_survivor();
    changed();  // at once: who asked the old interpreter something has to ask again
}

void KernelReplica::on(const replica::Void& event) {
    log_debug("replica", "kernel {}: an entry had no effect: {}", kernel_.value.str(), event.why);
}

void KernelReplica::rebuild_interpreter(const std::string& why) {
    log_info("replica", "kernel {}: a new interpreter: {}", kernel_.value.str(), why);
    run_.reset();
    started_.reset();
    interpreter_.start();
    changed();  // at once: who asked the old interpreter something has to ask again
}

// ---- cells ----

void KernelReplica::submit(const cluster::ClientMessage& message) {
    const auto& request = message.message;
    const auto header = jupyter::parse_header(request.header);
    if (!header || header->msg_id.empty()) {
        log_warning("replica", "an execute_request without a message id was dropped");
        return;
    }
    if (const auto done = machine_.finished(header->session, header->msg_id)) {
        answer(header->session, header->msg_id, *done, done->ending, true);
        return;
    }
    if (!leads()) {
        wants_lead_ = true;
        wants_lead_until_ = now_ + limits_.proposal_retry;
        node().transfer_leadership(self_);
    }
    if (asked_.size() < limits_.waiting_messages_max) {
        asked_.emplace(header->session, header->msg_id);
    }
    const bool waits = std::any_of(submits_.begin(), submits_.end(), [&](const auto& one) {
        return one.msg_id == header->msg_id && one.session == header->session;
    });
    if (waits || submits_.size() >= limits_.waiting_messages_max) {
        return;  // the gateway asks again
    }
    Writer encoded;
    jupyter::encode(encoded, request);
    const bool silent = jupyter::bool_field(request.content, "silent", false);
    const replica::CellEntry entry = replica::Submit{
        .session = header->session,
        .msg_id = header->msg_id,
        .stop_on_error = !silent && jupyter::bool_field(request.content, "stop_on_error", true),
        .numbered = !silent && jupyter::bool_field(request.content, "store_history", true),
        .request = encoded.take_bytes(),
        .incarnation = message.incarnation};
    submits_.push_back(
        {header->session, header->msg_id, message.incarnation, replica::encode(entry)});
    pump_submits();
    claim_next();
}

void KernelReplica::pump_submits() {
    while (!submits_.empty()) {
        const auto& first = submits_.front();
        if (machine_.knows(first.session, first.msg_id)) {
            submits_.pop_front();
            submit_proposed_at_.reset();
            continue;
        }
        if (!submit_proposed_at_ || now_ - *submit_proposed_at_ > limits_.proposal_retry) {
            submit_proposed_at_ = now_;
            unproposed_.push_back(first.entry);
            pump_proposals();
        }
        return;
    }
}

void KernelReplica::claim_next() {
    const bool mine = leads() && !machine_.standing() && !machine_.queue().empty();
    if (!mine || !leads_knowingly() || wants_lead_ || !interpreter_.current(machine_.sequence())) {
        return;
    }
    if (member_change_ && member_change_->removes(self_) && !node().membership_settled()) {
        return;  // on its way out: the next leader claims
    }
    const auto claim = std::make_pair(machine_.queue().front().number, machine_.epoch());
    if (claimed_ == claim) {
        return;
    }
    claimed_ = claim;
    claims_of_this_life_.insert(claim);
    ports_.interpreters.expect(*interpreter_.id(), {claim.first, claim.second});
    propose(replica::Claim{claim.first, claim.second, self_});
}

void KernelReplica::start_cell() {
    if (started_ || !interpreter_.current(machine_.sequence())) {
        // User code has not begun: giving the claim back costs nothing.
        propose(replica::Yield{run_->claim().cell, run_->claim().epoch, self_});
        return;
    }
    Reader in(run_->cell().request.view());
    auto request = jupyter::decode_message(in);
    NBOS_CHECK(request.has_value(), "a submitted request cannot be decoded");
    own_loss_.clear();
    started_ = run_->claim().cell;
    say_started();
    ports_.interpreters.run(*interpreter_.id(), {.cell = run_->claim().cell,
                                                 .epoch = run_->claim().epoch,
                                                 .msg_id = run_->cell().msg_id,
                                                 .base = run_->base(),
                                                 .spent_counts = machine_.spent_counts()});
    ports_.interpreters.send(*interpreter_.id(), *request);
}

void KernelReplica::say_started() { ports_.gateways.send(started()); }

cluster::CellStarted KernelReplica::started() const {
    const auto& cell = run_->cell();
    return {.kernel = kernel_,
            .fence = run_->claim().fence,
            .session = cell.session,
            .msg_id = cell.msg_id,
            .heard = heard({cell.session, cell.msg_id}, run_->outputs())};
}

void KernelReplica::interpreter_delta(CellNumber cell, Epoch epoch, Bytes delta,
                                      const std::string& error) {
    if (!same_cell(run_, cell, epoch)) {
        return;
    }
    const bool too_large = delta.size() > limits_.cell.delta_bytes_max;
    if (!error.empty() || too_large) {
        const auto why = too_large
                             ? "what it changed is larger than the limit of " +
                                   std::to_string(limits_.cell.delta_bytes_max >> 20U) + " MiB"
                             : "what it changed could not be captured: " + error;
        propose(replica::ExecutorLost{cell, epoch, why});
        return;
    }
    run_->take_delta(std::move(delta));
    finish_cell();
}

void KernelReplica::finish_cell() {
    if (!run_ || !run_->complete() || run_->proposed()) {
        return;
    }
    const auto digest = machine_.table().digest_after(run_->delta()->view());
    if (!digest) {
        propose(replica::ExecutorLost{
            run_->claim().cell, run_->claim().epoch,
            "its interpreter sent a malformed delta: " + digest.error().what});
        return;
    }
    for (const auto& entry : run_->entries(*digest)) {
        propose(entry);
    }
}

void KernelReplica::interpreter_message(jupyter::Message message) {
    leave_out_when_huge(message);
    const auto parent = jupyter::parse_header(message.parent_header);
    const bool of_cell = run_ && started_ && parent && parent->msg_id == run_->cell().msg_id;
    const auto fence = of_cell ? run_->claim().fence : replica::Fence{};
    if (of_cell && run_->take(message) == CellRun::Relay::kHeld) {
        finish_cell();
        return;
    }
    if (!of_cell && parent && parent->msg_type == "execute_request" && ends_or_begins(message)) {
        return;  // of a cell that does not run here: the log tells how that one begins and ends
    }
    ports_.gateways.send(cluster::KernelOutput{kernel_, fence, std::move(message)});
}

cluster::CellEnded KernelReplica::ended_cell(const std::string& session, const std::string& msg_id,
                                             const replica::Finished& finished,
                                             replica::Ending ending) const {
    cluster::CellEnded ended{.kernel = kernel_,
                             .session = session,
                             .msg_id = msg_id,
                             .ending = ending,
                             .reason = finished.reason};
    if (!finished.reply.empty()) {
        Reader in(finished.reply.view());
        ended.reply = jupyter::decode_message(in);
    } else if (ending == replica::Ending::kResult) {
        ended.ending = finished.outcome == replica::Outcome::kAborted
                           ? replica::Ending::kAborted
                           : replica::Ending::kExecutorLost;
    }
    Reader in(finished.outputs.view());
    for (auto n = finished.outputs.empty() ? 0 : in.count(1); n > 0; --n) {
        auto output = jupyter::decode_message(in);
        if (!output) {
            break;
        }
        ended.outputs.push_back(std::move(*output));
    }
    return ended;
}

void KernelReplica::answer(const std::string& session, const std::string& msg_id,
                           const replica::Finished& finished, replica::Ending ending, bool again) {
    ports_.gateways.send(ended(session, msg_id, finished, ending, again));
}

cluster::CellEnded KernelReplica::ended(const std::string& session, const std::string& msg_id,
                                        const replica::Finished& finished, replica::Ending ending,
                                        bool again) const {
    auto ended = ended_cell(session, msg_id, finished, ending);
    if (again) {
        ended.heard = heard({session, msg_id}, ended.outputs);
    }
    return ended;
}

// ---- the interpreter ----

void KernelReplica::interpreter_ready() {
    interpreter_.on_ready();
    send_waiting();
    answer_restarts();
    claim_next();
    changed();
}

void KernelReplica::interpreter_applied(Sequence sequence, bool ok, const std::string& error) {
    interpreter_.on_applied(sequence, ok, error);
    answer_restarts();
    claim_next();
    changed();
}

void KernelReplica::interpreter_ended(const std::string& why) {
    interpreter_.on_ended(why);
    if (run_ && started_) {
        own_loss_ = "its interpreter ended: " + why;
        propose(replica::ExecutorLost{run_->claim().cell, run_->claim().epoch, own_loss_});
        loss_proposed_ = run_->claim().epoch;
        loss_proposed_at_ = now_;
        run_.reset();  // a result that was proposed already may still win: then it counts
        started_.reset();
    }
    changed();
}

void KernelReplica::send_waiting() {
    while (!waiting_.empty()) {
        ports_.interpreters.send(*interpreter_.id(), waiting_.front().message);
        waiting_.pop_front();
    }
}

void KernelReplica::to_interpreter(const cluster::ClientMessage& message) {
    if (interpreter_.id() && interpreter_.describe(machine_.sequence()) != "starting" &&
        !interpreter_.failed()) {
        ports_.interpreters.send(*interpreter_.id(), message.message);
    } else if (waiting_.size() < limits_.waiting_messages_max) {
        waiting_.push_back(message);
    }
}

// ---- time, status ----

void KernelReplica::tick(Instant now) {
    now_ = now;
    interpreter_.tick(now);
    if (wants_lead_ && now >= wants_lead_until_) {
        wants_lead_ = false;
    }
    pump_submits();
    pump_proposals();
    step_member_change();
    watch_own_cell();
    watch_isolation();
    watch_executor();
    hand_over_when_unable();
    claim_next();
    changed();
}

bool KernelReplica::waits_for_time() const {
    return interpreter_.waits_for_time() || interpreter_.failed() || run_ || machine_.standing() ||
           !machine_.queue().empty() || !unproposed_.empty() || !submits_.empty() ||
           member_change_ || wants_lead_;
}

void KernelReplica::set_time(Instant now) {
    now_ = now;
    interpreter_.set_time(now);
}

// A leader that cannot get an interpreter up must not keep the kernel's cells waiting.
void KernelReplica::hand_over_when_unable() {
    if (!leads() || !interpreter_.failed() || now_ < handed_over_at_ + limits_.proposal_retry) {
        return;
    }
    handed_over_at_ = now_;
    const auto& voters = node().membership().voters;
    auto next = voters.upper_bound(self_);
    next = next == voters.end() ? voters.begin() : next;
    if (next != voters.end() && *next != self_) {
        node().transfer_leadership(*next);
    }
}

void KernelReplica::stop() { interpreter_.stop(); }

// Never between the parts of a result: each would write all that came before it anew.
void KernelReplica::compact_when_due() {
    const auto due = std::max(limits_.compact_bytes_min, 2 * machine_.table().bytes());
    if (applied_bytes_ > due && !machine_.result_is_arriving()) {
        applied_bytes_ = 0;
        ports_.groups.compact(GroupId{kernel_.value}, machine_.snapshot(), due / 4);
    }
}

cluster::KernelStatus KernelReplica::status() const {
    using cluster::ExecutionState;
    const auto& n = node();
    const auto& standing = machine_.standing();
    auto options = machine_.options().value_or(wished_options_.value_or(replica::KernelOptions{}));
    if (machine_.options()) {
        options.session = machine_.session();
    }
    auto state = machine_.queue().empty() ? ExecutionState::kIdle : ExecutionState::kBusy;
    if (interpreter_.failed()) {
        state = ExecutionState::kDead;
    } else if (!machine_.options() ||
               (machine_.queue().empty() && !interpreter_.current(machine_.sequence()))) {
        state = ExecutionState::kStarting;
    }
    return {.kernel = kernel_,
            .replica = self_,
            .host = ports_.host,
            .role = n.role(),
            .term = n.term(),
            .leader = n.leader(),
            .membership = n.membership(),
            .settled = n.membership_settled(),
            .options = std::move(options),
            .sequence = machine_.sequence(),
            .incarnation = machine_.incarnation(),
            .executor = standing ? standing->replica : machine_.last_executor(),
            .queued = static_cast<std::uint32_t>(machine_.queue().size()),
            .state = state,
            .interpreter = started_ ? "running" : interpreter_.describe(machine_.sequence()),
            .state_bytes = machine_.table().bytes(),
            .process = interpreter_.id() ? ports_.interpreters.process_name(*interpreter_.id())
                                         : std::string()};
}

void KernelReplica::changed() {
    const auto now = cluster::encode(status());
    if (now != last_status_) {
        last_status_ = now;
        ports_.gateways.send(status());
    }
}

void KernelReplica::report(const HostId& to) {
    ports_.gateways.send_to(to, status());
    if (!run_ || !started_) {
        return;
    }
    ports_.gateways.send_to(to, started());
    for (auto& output : run_->outputs()) {
        ports_.gateways.send_to(
            to, cluster::KernelOutput{kernel_, run_->claim().fence, std::move(output)});
    }
    if (const auto& question = run_->question()) {
        ports_.gateways.send_to(to, cluster::KernelOutput{kernel_, run_->claim().fence, *question});
    }
}

}  // namespace nbos::agent
