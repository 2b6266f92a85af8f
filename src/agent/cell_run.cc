#include "agent/cell_run.h"

#include <utility>

#include "jupyter/json_field.h"

namespace nbos::agent {
namespace {

std::string encoded(const jupyter::Message& message) {
    Writer out;
    jupyter::encode(out, message);
    return out.take();
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

CellRun::Relay CellRun::take(const jupyter::Message& message) {
    const auto type = type_of(message);
    if (message.channel == jupyter::Channel::kShell) {
        if (type == "execute_reply") {
            reply_ = message;
            return Relay::kHeld;
        }
        return Relay::kNow;
    }
    if (message.channel == jupyter::Channel::kIopub) {
        if (type == "status") {
            // The gateway says busy when the claim stands, and idle when the result is committed.
            idle_ = idle_ || jupyter::string_field(message.content, "execution_state") == "idle";
            return Relay::kHeld;
        }
        keep_output(message);
    }
    return Relay::kNow;
}

void CellRun::keep_output(const jupyter::Message& message) {
    auto output = encoded(message);
    if (output.size() > limits_.outputs_bytes_max) {
        return;
    }
    outputs_bytes_ += output.size();
    outputs_.push_back(std::move(output));
    while (outputs_bytes_ > limits_.outputs_bytes_max || outputs_.size() > limits_.outputs_max) {
        outputs_bytes_ -= outputs_.front().size();
        outputs_.pop_front();
    }
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
