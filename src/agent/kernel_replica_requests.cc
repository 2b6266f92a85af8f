// KernelReplica: what gateways ask for.
#include <algorithm>

#include "agent/kernel_replica.h"
#include "jupyter/json_field.h"

namespace nbos::agent {
namespace {

constexpr std::size_t kRecalledMax = 16;
constexpr auto kLeft = "its kernel was shut down";

}  // namespace

// ---- requests ----

void KernelReplica::handle(const cluster::ClientMessage& message) {
    const auto header = jupyter::parse_header(message.message.header);
    const bool cell = message.message.channel == jupyter::Channel::kShell && header &&
                      header->msg_type == "execute_request";
    if (cell) {
        submit(message);
    } else if (message.message.channel != jupyter::Channel::kStdin || !run_ ||
               run_->take_answer(message.message)) {
        to_interpreter(message);
    }
}

// The cell that runs here by a signal, those that wait through the log, by a leader that knows all
// of it. Else the gateway asks again, by then perhaps elsewhere: another replica runs one, or is
// about to lose it; or no majority is heard, and what is proposed now would be done long after
// whoever asked has been refused.
void KernelReplica::handle(const cluster::Interrupt& request) {
    const auto meant = [&request](const std::string& session, const std::string& msg_id) {
        const auto& cells = request.cells;
        return cells.empty() || std::find(cells.begin(), cells.end(),
                                          cluster::CellId{session, msg_id}) != cells.end();
    };
    const auto& queue = machine_.queue();
    if (run_ && started_ && interpreter_.id() && meant(run_->cell().session, run_->cell().msg_id)) {
        const bool first_time = request.leaving && left_ != started_;
        for (std::size_t n = 1; first_time && hears_majority() && n < queue.size(); ++n) {
            if (meant(queue[n].session, queue[n].msg_id)) {
                // Before the signal: a cell that takes it and ends well must not be followed.
                propose(replica::Cancel{queue[n].session, queue[n].msg_id, kLeft});
            }
        }
        interrupt_run(request);
        return;
    }
    const bool runs = machine_.standing() && meant(queue.front().session, queue.front().msg_id);
    const bool comes = request.cells.empty() && !submits_.empty();
    if (!leads_knowingly() || !hears_majority() || runs || comes) {
        ask_elsewhere(request.request);
        return;
    }
    const auto [wish, is_new] = interrupts_.emplace(request.request, request.cells);
    if (!is_new) {
        return;  // under way
    }
    if (request.cells.empty()) {
        for (const auto& cell : queue) {
            wish->second.push_back({cell.session, cell.msg_id});
        }
    }
    for (const auto& [session, msg_id] : wish->second) {
        if (!machine_.will_not_run(session, msg_id)) {
            propose(replica::Cancel{session, msg_id, "interrupted while it waited"});
        }
    }
    answer_interrupts();
}

// Between its requests an interpreter drops the signal (nbos_kernel/interrupts.py); before it
// serves, nothing in it does.
void KernelReplica::handle(const cluster::InterruptCallback&) {
    const bool cell = run_ && started_;
    if (interpreter_.id() && !cell && interpreter_.current(machine_.sequence())) {
        ports_.interpreters.interrupt(*interpreter_.id());
    }
}

void KernelReplica::interrupt_run(const cluster::Interrupt& request) {
    if (!request.leaving || left_ != started_) {
        left_ = request.leaving ? started_ : left_;
        run_->interrupted();
        ports_.interpreters.interrupt(*interpreter_.id());
    }
    request.leaving ? ask_elsewhere(request.request) : reply(request.request, ok());
}

void KernelReplica::answer_interrupts() {
    std::erase_if(interrupts_, [this](const auto& wish) {
        const auto is_over = [this](const auto& cell) {
            return machine_.will_not_run(cell.session, cell.msg_id);
        };
        const auto is_first = [&queue = machine_.queue()](const auto& cell) {
            return queue.front().session == cell.session && queue.front().msg_id == cell.msg_id;
        };
        if (std::all_of(wish.second.begin(), wish.second.end(), is_over)) {
            reply(wish.first, ok());
            return true;
        }
        const bool begun =
            machine_.standing() && std::any_of(wish.second.begin(), wish.second.end(), is_first);
        if (begun || !leads()) {
            ask_elsewhere(wish.first);
        }
        return begun || !leads();
    });
}

void KernelReplica::ask_elsewhere(std::uint64_t request) {
    reply(request, Error{.code = Errc::kNotLeader, .what = "not here, or not now"});
}

void KernelReplica::handle(const cluster::Restart& request) {
    restarts_[request.request] = request.session;
    // Proposed without a majority it would be done whenever that is back, long after the asker has
    // been refused. The gateway asks again as long as it waits.
    if (!machine_.had_session(request.session) && hears_majority()) {
        propose(replica::Reset{request.session});
    }
    answer_restarts();
}

void KernelReplica::answer_restarts() {
    const auto done = [this](const auto& wish) {
        // Another restart may have followed it at once.
        if (!machine_.had_session(wish.second) || !interpreter_.current(machine_.sequence())) {
            return false;
        }
        reply(wish.first, ok());
        return true;
    };
    std::erase_if(restarts_, done);
}

void KernelReplica::handle(const cluster::Lead& request) {
    if (!leads()) {
        node().transfer_leadership(self_);
    }
    reply(request.request, ok());
}

void KernelReplica::handle(const cluster::ChangeMembers& request) {
    member_change_.emplace(request);
    step_member_change();
}

// Of the cell that runs, or of the next one when our claim to it is on its way through the log.
std::optional<ReplicaId> KernelReplica::executor() const {
    if (const auto& claim = machine_.standing()) {
        return claim->replica;
    }
    const bool claiming =
        !machine_.queue().empty() &&
        claimed_ == std::make_pair(machine_.queue().front().number, machine_.epoch());
    return claiming ? std::optional(self_) : std::nullopt;
}

void KernelReplica::step_member_change() {
    if (!member_change_) {
        return;
    }
    if (const auto status = member_change_->step(node(), executor())) {
        const auto request = member_change_->request();
        member_change_.reset();
        reply(request, *status);
    }
}

void KernelReplica::handle(const cluster::KillInterpreter& request) {
    if (interpreter_.id()) {
        ports_.interpreters.crash(*interpreter_.id());
        reply(request.request, ok());
    } else {
        reply(request.request, Error{.code = Errc::kNotFound,
                                     .what = "this replica has no live interpreter to kill"});
    }
}

void KernelReplica::handle(const cluster::Heard& mark) {
    marks_.mark({mark.asked_by, mark.msg_id}, mark.session, mark.output, mark.done);
}

// What the client has not heard the end of; of cells before one that it has, it heard it, too.
void KernelReplica::handle(const cluster::Recall& request, const HostId& from) {
    const auto& session = request.session;
    cluster::Reply reply{.request = request.request};
    if (request.running) {
        catch_up(session, from);
        ports_.gateways.send_to(from, reply);
        return;
    }
    if (!leads()) {
        reply.ok = false;
        reply.code = Errc::kNotLeader;
        ports_.gateways.send_to(from, reply);
        return;
    }
    const auto cells = machine_.ended_cells(session, kRecalledMax);
    const auto unheard = std::find_if(cells.rbegin(), cells.rend(), [&](const std::string& msg_id) {
        return marks_.done({session, msg_id}, session);
    });
    for (auto at = unheard.base(); at != cells.end(); ++at) {
        if (const auto finished = machine_.finished(session, *at)) {
            auto again = ended(session, *at, *finished, finished->ending, true);
            again.recalled_by = session;
            ports_.gateways.send_to(from, again);
        }
    }
    ports_.gateways.send_to(from, reply);
}

void KernelReplica::catch_up(const std::string& session, const HostId& to) {
    cluster::CatchUp news{.kernel = kernel_, .session = session, .done = marks_.done_by(session)};
    if (run_ && started_) {
        news.asked_by = run_->cell().session;
        news.msg_id = run_->cell().msg_id;
        news.outputs = run_->outputs();
        const auto marks = heard({news.asked_by, news.msg_id}, news.outputs);
        if (const auto mark = marks.find(session); mark != marks.end()) {
            news.knows_it_runs = true;
            news.heard = mark->second;
        }
    }
    ports_.gateways.send_to(to, news);
}

// Without the leader's word: what this replica has applied is the truth of a moment ago.
void KernelReplica::handle(const cluster::ReadOutputs& request) {
    using State = cluster::CellOutputs::State;
    const auto session =
        request.session.empty() ? machine_.asker(request.msg_id) : std::optional(request.session);
    if (!session || !machine_.knows(*session, request.msg_id)) {
        reply(request.request,
              Error{.code = Errc::kNotFound,
                    .what = "this kernel knows of no cell with the message id " + request.msg_id +
                            "; it remembers the newest ones only"});
        return;
    }
    cluster::CellOutputs out{.request = request.request, .kernel = kernel_, .session = *session};
    const auto finished = machine_.finished(*session, request.msg_id);
    if (finished && finished->ending == replica::Ending::kResult && finished->reply.empty()) {
        reply(request.request,
              Error{.code = Errc::kNotFound,
                    .what = "the cell with the message id " + request.msg_id +
                            " ended so long ago that its outputs are not kept any more"});
        return;
    }
    if (finished) {
        const auto ended = ended_cell(*session, request.msg_id, *finished, finished->ending);
        out.state = State::kEnded;
        out.ending = ended.ending;
        out.reason = ended.reason;
        out.messages = ended.outputs;
        if (ended.reply) {
            out.messages.push_back(*ended.reply);
        }
    } else if (const auto& claim = machine_.standing();
               claim && machine_.queue().front().msg_id == request.msg_id) {
        out.state = State::kRunning;
        if (run_ && started_) {
            out.messages = run_->outputs();
        } else if (claim->replica != self_) {
            out.reason = "its outputs are with its executor, on another host";
        }
    }
    ports_.gateways.send(out);
}

// Of the marks of a cell: an output that is not kept any more came before all that are.
std::map<std::string, std::string> KernelReplica::heard(
    const HeardMarks::Cell& cell, const std::vector<jupyter::Message>& outputs) const {
    auto marks = marks_.of(cell);
    for (auto& [session, last] : marks) {
        const bool kept = std::any_of(outputs.begin(), outputs.end(), [&last](const auto& output) {
            return jupyter::string_field(output.header, "msg_id") == last;
        });
        if (!kept) {
            last.clear();
        }
    }
    return marks;
}

void KernelReplica::reply(std::uint64_t request, const Status& status) {
    cluster::Reply message{.request = request};
    if (!status) {
        message.ok = false;
        message.code = status.error().code;
        message.what = status.error().what;
    }
    ports_.gateways.send(message);
}

}  // namespace nbos::agent
