// What a kernel's outputs may cost its clients (output_gate.h).
#include <utility>

#include "base/log.h"
#include "gateway/kernel_channels.h"
#include "jupyter/json_text.h"

namespace nbos::gateway {
namespace {

constexpr std::size_t kLagBytes = 4U << 20U;  // that a client has not taken: its streams are merged

bool can_be_left_out(std::string_view type) {
    return type == "stream" || type == "display_data" || type == "execute_result" ||
           type == "update_display_data";
}

std::size_t bytes_of(const jupyter::Message& message) {
    auto bytes = message.content.size();
    for (const auto& buffer : message.buffers) {
        bytes += buffer.size();
    }
    return bytes;
}

}  // namespace

void KernelChannels::show_output(PendingCell& cell, const std::string& id, const std::string& type,
                                 const jupyter::Message& output) {
    const auto bytes = bytes_of(output);
    if (can_be_left_out(type)) {
        const bool too_much = rate_.too_many_bytes(now(), cell.shown_bytes, shared_.outputs) ||
                              (!cell.held.empty() && cell.held.bytes() + bytes > kHeldBytesMax);
        if (cell.elided_bytes > 0 || (too_much && bytes > 0)) {
            elide(cell, bytes);
            return;
        }
    }
    rate_.came(now(), bytes);
    cell.shown_bytes += bytes;
    const bool hold = !cell.held.empty() || rate_.too_many_messages(now(), shared_.outputs) ||
                      (type == "stream" && a_client_lags());
    if (hold) {
        cell.held.add(id, output);
        return;
    }
    rate_.left(now());
    deliver(cell, {id, output});
}

// `all`: its end is due, and nothing may come behind that.
void KernelChannels::release_held(PendingCell& cell, bool all) {
    while (!cell.held.empty() && (all || !rate_.too_many_messages(now(), shared_.outputs))) {
        rate_.left(now());
        deliver(cell, *cell.held.take());
    }
}

bool KernelChannels::a_client_lags() const {
    for (const auto& [id, client] : clients_.clients()) {
        if (client.socket->queued_bytes() > kLagBytes) {
            return true;
        }
    }
    return false;
}

// One line for all that is left out: shown at once, and with the amount when the cell ends.
void KernelChannels::elide(PendingCell& cell, std::size_t bytes) {
    cell.elided_bytes += bytes;
    if (cell.elided_display_id.empty()) {
        log_warning("gateway", "kernel {}: a cell writes more than {} MiB/s: the rest is left out",
                    kernel_.value.str(), shared_.outputs.mib_per_s);
        release_held(cell, true);
        cell.elided_display_id = shared_.factory.new_uuid().str();
        say_elided(cell, "display_data");
    }
}

void KernelChannels::say_elided(const PendingCell& cell, std::string_view type) {
    const bool final = type == "update_display_data";
    const auto line = fmt::format(
        "[NotebookOS] {} of this cell's output {} left out: it writes more than {} MiB/s for {} s. "
        "`nbos gateway --iopub-mib` sets the limit (0: none); write large results to a file.",
        final ? fmt::format("{} KiB", (cell.elided_bytes + 1023) >> 10U) : "the rest",
        final ? "were" : "is", shared_.outputs.mib_per_s, kOutputWindow.count());
    const auto content = fmt::format(
        R"({{"data": {{"text/plain": {}}}, "metadata": {{}}, "transient": {{"display_id": "{}"}}}})",
        jupyter::json_quoted(line), cell.elided_display_id);
    broadcast(cell, shared_.factory.make(jupyter::Channel::kIopub, type, speaker(cell), cell.parent,
                                         content));
}

}  // namespace nbos::gateway
