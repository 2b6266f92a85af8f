// What a client is told in a cell that cannot begin because hosts of its kernel are away.
#include "gateway/kernel_channels.h"
#include "jupyter/json_field.h"

namespace nbos::gateway {
namespace {

constexpr std::chrono::seconds kPatience{3};  // most absences are over before

}  // namespace

void KernelChannels::hold_up(const std::string& why) {
    if (why.empty()) {
        held_up_since_.reset();
        return;
    }
    held_up_since_ = held_up_since_.value_or(now());
    if (now() - *held_up_since_ < kPatience || cells_.empty() || cells_.running() != nullptr) {
        return;
    }
    auto& first = cells_.all().front();
    const bool silent = jupyter::bool_field(first.request.content, "silent", false);
    if (first.foreign || silent || std::exchange(first.told_why_it_waits, true)) {
        return;
    }
    broadcast(first, shared_.factory.stream(speaker(first), first.parent,
                                            "[NotebookOS] This cell waits: " + why + ".\n"));
}

// Nothing of the notebook says later that it once waited.
void KernelChannels::take_back_why_it_waits(PendingCell& cell) {
    if (std::exchange(cell.told_why_it_waits, false)) {
        broadcast(cell, shared_.factory.make(jupyter::Channel::kIopub, "clear_output",
                                             speaker(cell), cell.parent, R"({"wait": false})"));
    }
}

}  // namespace nbos::gateway
