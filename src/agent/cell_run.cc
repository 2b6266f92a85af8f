#include "agent/cell_run.h"

#include <fmt/core.h>

#include <utility>

#include "jupyter/json_field.h"

namespace nbos::agent {
namespace {

std::string encoded(const jupyter::Message& message) {
    Writer out;
    jupyter::encode(out, message);
    return out.take();
}

// In place of an output that is too large for the log: a client that got the real one by then does
// not see it, because it has the same message id. Nothing where no text would do.
std::optional<jupyter::Message> stand_in(const jupyter::Message& output, const std::string& type,
                                         std::size_t bytes) {
    const auto text = fmt::format(
        "({} KiB of output were lost with a connection; run the cell again to see them)",
        bytes >> 10U);
    jupyter::Message out = output;
    out.buffers.clear();
    if (type == "stream") {
        out.content = fmt::format(R"({{"name": "stderr", "text": "{}\n"}})", text);
    } else if (type == "display_data" || type == "execute_result") {
        out.content = fmt::format(
            R"({{"data": {{"text/plain": "{}"}}, "metadata": {{}}, "execution_count": {}}})", text,
            jupyter::uint_field(output.content, "execution_count"));
    } else {
        return std::nullopt;
    }
    return out;
}

std::string type_of(const jupyter::Message& message) {
    const auto header = jupyter::parse_header(message.header);
    return header ? header->msg_type : std::string();
}

}  // namespace

replica::Outcome outcome_of(std::string_view reply_content) {
    const auto status = jupyter::string_field(reply_content, "status");
    if (status == "ok") {
        return replica::Outcome::kOk;
    }
    return status == "aborted" ? replica::Outcome::kAborted : replica::Outcome::kError;
}

CellRun::CellRun(replica::Standing claim, replica::QueuedCell cell, Sequence base,
                 CellRunLimits limits)
    : claim_(claim), cell_(std::move(cell)), base_(base), limits_(limits) {}

bool CellRun::is_repeated(const jupyter::Message& message) {
    const auto header = jupyter::parse_header(message.header);
    return repeats_ && header && !repeats_->insert(header->msg_id).second;
}

CellRun::Relay CellRun::take(const jupyter::Message& message) {
    if (is_repeated(message)) {
        return Relay::kHeld;
    }
    const auto type = type_of(message);
    if (message.channel == jupyter::Channel::kShell) {
        if (type == "execute_reply") {
            reply_ = message;
            return Relay::kHeld;
        }
        return Relay::kNow;
    }
    if (message.channel == jupyter::Channel::kStdin) {
        question_ = message;
    } else if (message.channel == jupyter::Channel::kIopub) {
        if (type == "status") {
            // The gateway says busy when the claim stands, and idle when the result is committed.
            idle_ = idle_ || jupyter::string_field(message.content, "execution_state") == "idle";
            return Relay::kHeld;
        }
        keep_output(message, type);
    }
    return Relay::kNow;
}

// Clients that name no question answer the one that is asked.
bool CellRun::take_answer(const jupyter::Message& input_reply) {
    const auto parent = jupyter::parse_header(input_reply.parent_header);
    if (question_ && parent && parent->msg_type == "input_request") {
        const auto asked = jupyter::parse_header(question_->header);
        if (asked && asked->msg_id != parent->msg_id) {
            return false;
        }
    }
    question_.reset();
    return true;
}

void CellRun::keep_output(const jupyter::Message& message, const std::string& type) {
    auto bytes = message.content.size();
    for (const auto& buffer : message.buffers) {
        bytes += buffer.size();
    }
    std::optional<jupyter::Message> other;
    if (bytes > limits_.outputs_bytes_max / 2) {
        other = stand_in(message, type, bytes);
        if (!other) {
            return;
        }
    }
    auto output = encoded(other ? *other : message);
    outputs_bytes_ += output.size();
    outputs_.push_back(std::move(output));
    while (outputs_bytes_ > limits_.outputs_bytes_max || outputs_.size() > limits_.outputs_max) {
        outputs_bytes_ -= outputs_.front().size();
        outputs_.pop_front();
    }
}

std::vector<jupyter::Message> CellRun::outputs() const {
    std::vector<jupyter::Message> out;
    for (const auto& output : outputs_) {
        Reader in(output);
        if (auto message = jupyter::decode_message(in)) {
            out.push_back(std::move(*message));
        }
    }
    return out;
}

std::vector<replica::CellEntry> CellRun::entries(std::uint64_t digest) {
    proposed_ = true;
    std::vector<replica::CellEntry> out;
    std::string_view rest = delta_->view();
    std::uint32_t parts = 0;
    while (rest.size() > limits_.slice_bytes) {
        out.emplace_back(replica::ResultPart{claim_.cell, claim_.epoch, claim_.replica, parts++,
                                             Bytes::copy(rest.substr(0, limits_.slice_bytes))});
        rest.remove_prefix(limits_.slice_bytes);
    }
    Writer outputs;
    outputs.put(static_cast<std::uint32_t>(outputs_.size()));
    for (const auto& output : outputs_) {
        outputs.raw(output);
    }
    out.emplace_back(replica::Result{.cell = claim_.cell,
                                     .epoch = claim_.epoch,
                                     .replica = claim_.replica,
                                     .base = base_,
                                     .parts = parts,
                                     .delta = Bytes::copy(rest),
                                     .digest = digest,
                                     .outcome = outcome_of(reply_->content),
                                     .reply = Bytes(encoded(*reply_)),
                                     .outputs = outputs.take_bytes()});
    return out;
}

}  // namespace nbos::agent
