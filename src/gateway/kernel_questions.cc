// Questions for input: asked of whoever asked for the cell, once on each of its connections, until
// there is an answer; and an answer that was lost on its way to the cell is sent again.
//
// The agent of the executor keeps the question, too, and asks it of a gateway that has just come.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "gateway/kernel_channels.h"

namespace nbos::gateway {
namespace {

// Clients that name no question answer the one that is asked.
bool is_answer_to(const std::string& question, const jupyter::Message& input_reply) {
    const auto parent = jupyter::parse_header(input_reply.parent_header);
    return !parent || parent->msg_type != "input_request" || parent->msg_id == question;
}

}  // namespace

void KernelChannels::ask(const HostId& from, const cluster::KernelOutput& output,
                         const jupyter::Header& parent) {
    const auto& message = output.message;
    const auto header = jupyter::parse_header(message.header).value_or(jupyter::Header{});
    if (ended_.contains(parent.session, parent.msg_id)) {
        return;
    }
    stdin_host_ = from;
    auto* cell = cells_.find(parent.session, parent.msg_id);
    if (cell == nullptr && output.fence == replica::Fence{}) {
        clients_.reach({}, parent.session, message);  // no cell asks
        return;
    }
    if (cell == nullptr) {
        cell = &foreign_cell(parent.session, parent.msg_id, message.parent_header);
    }
    auto& question = cell->question;
    if (!question || question->id != header.msg_id) {
        question = PendingCell::Question{.id = header.msg_id, .message = message};
        clients_.reach(cell->client, cell->session, message);
    } else if (question->answer && question->answered_over != shared_.hosts.connection(from)) {
        send_answer(*question, from);
    }
}

// A client that has just come, or has just named a session.
void KernelChannels::ask_again(ClientId id) {
    const auto client = clients_.clients().find(id);
    if (client == clients_.clients().end()) {
        return;
    }
    for (const auto& cell : cells_.all()) {
        if (cell.question && !cell.question->answer && client->second.is_of(cell.session)) {
            clients_.reach(id, cell.session, cell.question->message);
        }
    }
}

// The cell that asked for input runs where the question came from.
void KernelChannels::take_input(const jupyter::Message& message) {
    touch();
    const auto target = stdin_host_ ? stdin_host_ : view_.owner();
    if (!target) {
        return;
    }
    bool asks = false;
    for (auto& cell : cells_.all()) {
        asks = asks || cell.question.has_value();
        if (cell.question && !cell.question->answer && is_answer_to(cell.question->id, message)) {
            cell.question->answer = message;
            send_answer(*cell.question, *target);
            return;
        }
    }
    if (asks) {
        log_debug("gateway",
                  "kernel {}: the second answer to a question, or one to an earlier question, is "
                  "dropped",
                  kernel_.value.str());
        return;
    }
    shared_.link.send(*target, cluster::ClientMessage{kernel_, message});
}

void KernelChannels::send_answer(PendingCell::Question& question, const HostId& to) {
    question.answered_over = shared_.hosts.connection(to);
    shared_.link.send(to, cluster::ClientMessage{kernel_, *question.answer});
}

// Others were not hit: they go on waiting for an answer.
void KernelChannels::interrupted(const std::vector<cluster::CellId>& cells) {
    for (auto& cell : cells_.all()) {
        const bool hit = std::find(cells.begin(), cells.end(),
                                   cluster::CellId{cell.session, cell.msg_id}) != cells.end();
        if (cells.empty() || hit) {
            cell.question.reset();
        }
    }
}

}  // namespace nbos::gateway
