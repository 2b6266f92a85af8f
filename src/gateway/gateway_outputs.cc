// REST: what the log of a kernel has of one cell's outputs.
#include <fmt/core.h>

#include <utility>

#include "gateway/gateway.h"
#include "jupyter/json_text.h"
#include "jupyter/ws_frames.h"

namespace nbos::gateway {
namespace {

using jupyter::json_quoted;

std::string_view state_name(const cluster::CellOutputs& outputs) {
    using State = cluster::CellOutputs::State;
    if (outputs.state != State::kEnded) {
        return outputs.state == State::kRunning ? "running" : "queued";
    }
    switch (outputs.ending) {
        case replica::Ending::kResult:
            return "ended";
        case replica::Ending::kExecutorLost:
            return "lost";
        case replica::Ending::kCancelled:
            return "cancelled";
        case replica::Ending::kReset:
            return "restarted";
        case replica::Ending::kAborted:
            break;
    }
    return "aborted";
}

std::string outputs_json(const cluster::CellOutputs& outputs, const std::string& msg_id) {
    std::string messages;
    for (auto message : outputs.messages) {
        const auto buffers = message.buffers.size();
        message.buffers.clear();
        const auto text = jupyter::encode_ws(message, jupyter::WsProtocol::kLegacy);
        messages += (messages.empty() ? "" : ", ") + std::string(text.bytes.view());
        if (buffers > 0) {
            messages.insert(messages.rfind('}'),
                            fmt::format(", \"buffers_left_out\": {}", buffers));
        }
    }
    return fmt::format(
        R"({{"msg_id": {}, "session": {}, "state": "{}", "reason": {}, "messages": [{}]}})",
        json_quoted(msg_id), json_quoted(outputs.session), state_name(outputs),
        json_quoted(outputs.reason), messages);
}

std::string field(const HttpTarget& target, const std::string& name) {
    const auto found = target.query.find(name);
    return found == target.query.end() ? std::string() : found->second;
}

}  // namespace

// Asked of the executor, which has the outputs of a running cell; else of any replica.
void Gateway::read_outputs(const Call& call, const Kernel& kernel) {
    const auto msg_id = field(call.target, "msg_id");
    if (msg_id.empty()) {
        refuse(call, 400, "say which cell: ?msg_id= the message id of its execute_request");
        return;
    }
    const auto route = [this, id = kernel.id]() -> std::optional<HostId> {
        const auto* known = kernels_.find(id);
        if (known == nullptr) {
            return std::nullopt;
        }
        const auto executor = known->view.executor();
        return executor && hosts_.up(*executor) ? executor : known->view.owner();
    };
    const auto number = calls_.call(
        route,
        [&](std::uint64_t request) {
            return cluster::ReadOutputs{request, kernel.id, field(call.target, "session"), msg_id};
        },
        ports_.clock.now(), config_.kernels.interrupt_timeout,
        [this, call, id = kernel.id](const Status& status) {
            refuse(call, id,
                   status ? Error{Errc::kInvalid, Certainty::kUnknown, "no outputs came"}
                          : status.error());
        });
    std::erase_if(reads_, [this](const auto& read) { return !calls_.waits_for(read.first); });
    reads_[number] = call;
}

void Gateway::handle_rpc(const HostId&, const cluster::CellOutputs& outputs) {
    const auto read = reads_.extract(outputs.request);
    if (!read.empty() && calls_.cancel(outputs.request)) {
        answer(read.mapped(), 200, outputs_json(outputs, field(read.mapped().target, "msg_id")));
    }
}

}  // namespace nbos::gateway
