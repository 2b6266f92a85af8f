#include "relay/relay.h"

#include <fmt/core.h>

#include <utility>

#include "base/log.h"
#include "jupyter/json_field.h"
#include "jupyter/json_text.h"
#include "relay/iopub_topic.h"

namespace nbos::relay {
namespace {

using jupyter::Channel;

std::string reply_type(const std::string& request_type) {
    constexpr std::string_view kSuffix = "_request";
    return request_type.substr(0, request_type.size() - kSuffix.size()) + "_reply";
}

}  // namespace

Relay::Relay(RelayOptions options, Ports ports)
    : options_(std::move(options)),
      ports_(std::move(ports)),
      requests_(options_.requests),
      session_(options_.session) {}

// ---- local clients ----

void Relay::receive(jupyter::Addressed request) {
    if (ending_) {
        return;
    }
    const auto header = jupyter::parse_header(request.message.header).value_or(jupyter::Header{});
    if (header.msg_type == "shutdown_request") {
        take_shutdown(request, header);
        return;
    }
    const Request refused{
        .identities = request.identities, .message = request.message, .header = header};
    if (refused.size() > options_.request_bytes_max) {
        refuse(refused, "MessageTooLarge",
               fmt::format("a message may have {} MiB; this one has {}",
                           options_.request_bytes_max >> 20U, refused.size() >> 20U));
        return;
    }
    if (requests_.add(std::move(request), header) == RequestTable::Added::kFull) {
        refuse(refused, "TooManyRequests",
               fmt::format("{} requests wait for this kernel already", requests_.size()));
        return;
    }
    if (open_) {
        send_unsent();
    }
}

void Relay::take_shutdown(const jupyter::Addressed& request, const jupyter::Header& header) {
    const bool restart = jupyter::bool_field(request.message.content, "restart", false);
    log_info("relay", "a client asks for {}", restart ? "a restart" : "the end of the kernel");
    const auto answer = [this, request, header, restart] {
        const auto make = [&](Channel channel) {
            return ports_.factory.make(
                channel, "shutdown_reply", session_, request.message.header,
                fmt::format(R"({{"status": "ok", "restart": {}}})", restart));
        };
        ports_.clients.send({request.identities, make(request.message.channel)});
        publish(make(Channel::kIopub));
    };
    shut_down(restart, answer);
}

// A restart ends this process too: jupyter_client starts the next one with the same connection
// file.
void Relay::shut_down(bool restart, const std::function<void()>& answer) {
    ending_ = true;
    if (restart && options_.kernel.restarted_by_successor) {
        answer();
        end(0);
    } else if (restart) {
        ports_.kernel.restart([this, answer](const Status& status) {
            if (!status) {
                log_error("relay", "the kernel was not restarted: {}", status.error().what);
            }
            answer();
            end(status ? 0 : 1);
        });
    } else {
        answer();
        ports_.kernel.remove([this](const Status& status) {
            if (!status) {
                log_error("relay", "the kernel was not deleted: {}", status.error().what);
            }
            end(status ? 0 : 1);
        });
    }
}

void Relay::refuse(const Request& request, std::string_view ename, std::string_view why) {
    log_warning("relay", "a {} is not answered by the kernel: {}", request.header.msg_type, why);
    const auto& factory = ports_.factory;
    const auto& parent = request.message.header;
    if (!request.busy) {
        publish(factory.status(session_, parent, "busy"));
    }
    if (request.header.msg_type == "execute_request") {
        publish(factory.error(session_, parent, ename, why));
    }
    if (request.wants_reply() && !request.replied) {
        ports_.clients.send(
            {request.identities,
             factory.error_reply(request.message.channel, reply_type(request.header.msg_type),
                                 session_, parent, ename, why)});
    }
    if (!request.idle) {
        publish(factory.status(session_, parent, "idle"));
    }
}

void Relay::subscribed(std::string_view topic) {
    has_subscriber_ = true;
    publish(
        ports_.factory.make(Channel::kIopub, "iopub_welcome", session_, "",
                            fmt::format(R"({{"subscription": {}}})", jupyter::json_quoted(topic))),
        std::string(topic));
    for (const auto& message : std::exchange(held_, {})) {
        ports_.clients.send(message);
    }
}

// ---- the gateway ----

void Relay::opened() {
    open_ = true;
    if (std::exchange(was_lost_, false)) {
        const auto lost = requests_.after_loss();
        for (const auto& request : lost.idle_lost) {
            publish(ports_.factory.status(session_, request.message.header, "idle"));
        }
        for (const auto& request : lost.answer_lost) {
            refuse(request, "AnswerLost",
                   "the connection to the gateway was lost while the kernel worked on this");
        }
        if (question_) {
            question_->answered_here = false;
        }
    }
    send_unsent();
}

void Relay::lost() {
    open_ = false;
    was_lost_ = true;
}

void Relay::send_unsent() {
    for (auto* request : requests_.unsent()) {
        request->sent = true;
        ports_.kernel.send(request->message);
        if (request->message.channel == Channel::kStdin) {
            // Nobody answers it. The table has no say in when it is to be sent again: see ask().
            if (question_) {
                question_->answer = request->message;
                question_->answered_here = true;
            }
            requests_.take_reply(request->header);
            requests_.show_status(request->header, false);
        }
    }
}

void Relay::from_gateway(const jupyter::Message& message) {
    const auto parent = jupyter::parse_header(message.parent_header).value_or(jupyter::Header{});
    if (message.channel == Channel::kIopub) {
        show(message, parent);
        return;
    }
    if (message.channel == Channel::kStdin) {
        ask(message, parent);
        return;
    }
    if (auto identities = requests_.take_reply(parent)) {
        ports_.clients.send({std::move(*identities), message});
    }
}

void Relay::ask(const jupyter::Message& message, const jupyter::Header& parent) {
    const auto header = jupyter::parse_header(message.header).value_or(jupyter::Header{});
    const auto id = parent.session + ' ' + parent.msg_id + ' ' + header.msg_id;
    if (question_ && question_->id == id) {  // the local client was asked before
        if (question_->answer && !std::exchange(question_->answered_here, true)) {
            ports_.kernel.send(*question_->answer);
        }
        return;
    }
    const auto* request = requests_.find(parent.session, parent.msg_id);
    if (request == nullptr) {
        log_warning("relay", "a question for input belongs to no request of a local client");
        return;
    }
    question_ = Question{.id = id, .answer = std::nullopt};
    ports_.clients.send({request->identities, message});
}

void Relay::show(const jupyter::Message& message, const jupyter::Header& parent) {
    const auto header = jupyter::parse_header(message.header).value_or(jupyter::Header{});
    // With its parent, because ids that interpreters give are unique within a cell only: they are
    // made of the session, a process id of the host's own namespace, and a number.
    if (!first_time(parent.session + ' ' + parent.msg_id + ' ' + header.msg_id)) {
        return;
    }
    if (!header.session.empty()) {
        session_ = header.session;
    }
    if (header.msg_type == "status" && !parent.msg_id.empty()) {
        const auto state = jupyter::string_field(message.content, "execution_state");
        if ((state == "busy" || state == "idle") &&
            !requests_.show_status(parent, state == "busy")) {
            return;
        }
    }
    publish(message, iopub_topic(message, header.msg_type, options_.kernel.id));
}

bool Relay::first_time(const std::string& output) {
    if (!shown_.insert(output).second) {
        return false;
    }
    shown_order_.push_back(output);
    if (shown_order_.size() > options_.shown_max) {
        shown_.erase(shown_order_.front());
        shown_order_.pop_front();
    }
    return true;
}

void Relay::publish(const jupyter::Message& message) {
    const auto header = jupyter::parse_header(message.header).value_or(jupyter::Header{});
    publish(message, iopub_topic(message, header.msg_type, options_.kernel.id));
}

void Relay::publish(const jupyter::Message& message, std::string topic) {
    jupyter::Addressed addressed{{}, message};
    if (!topic.empty()) {  // stock's welcome to a subscription to everything has none
        addressed.identities.emplace_back(std::move(topic));
    }
    if (has_subscriber_ || message.channel != Channel::kIopub) {
        ports_.clients.send(addressed);
        return;
    }
    held_.push_back(std::move(addressed));
    if (held_.size() > options_.held_messages_max) {
        held_.pop_front();
    }
}

void Relay::gone(const std::string& why) {
    if (ending_) {
        return;
    }
    ending_ = true;
    log_error("relay", "the kernel is gone: {}", why);
    for (const auto& request : requests_.take_all()) {
        refuse(request, "KernelGone", why);
    }
    publish(ports_.factory.error(session_, "", "KernelGone", why));
    publish(ports_.factory.status(session_, "", "dead"));
    end(1);
}

// ---- the process ----

void Relay::interrupt() {
    if (!open_) {
        log_warning("relay", "the gateway is away: an interrupt was not passed on");
        return;
    }
    ports_.kernel.send(
        ports_.factory.make(Channel::kControl, "interrupt_request", options_.session, "", "{}"));
}

void Relay::terminate() {
    if (ending_) {
        return;  // what a client asked for is under way
    }
    ending_ = true;
    if (!options_.kernel.ends_with_relay) {
        end(0);
        return;
    }
    ports_.kernel.remove([this](const Status& status) {
        if (!status) {
            log_error("relay", "the kernel was not deleted: {}", status.error().what);
        }
        end(status ? 0 : 1);
    });
}

void Relay::end(int exit_code) {
    if (!std::exchange(ended_, true)) {
        ports_.end(exit_code);
    }
}

}  // namespace nbos::relay
