// Comms of a kernel: what clients are told when the process that they lived in is another one.
#include "base/log.h"
#include "gateway/kernel_channels.h"
#include "jupyter/json_field.h"
#include "jupyter/json_text.h"

namespace nbos::gateway {
namespace {

// For so long their host may be away: an agent that is started again finds its interpreters alive.
constexpr std::chrono::seconds kCommsAwayMax{5};

}  // namespace

void KernelChannels::note_comm(const HostId& at, std::string_view type, std::string_view content) {
    if (type == "comm_close") {
        comms_.closed(jupyter::string_field(content, "comm_id"));
        return;
    }
    const OpenComms::Home home{at, view_.process(at)};
    if (home.process.empty()) {
        return;  // it is gone already, or has not said who it is
    }
    std::vector<std::string> dead;
    if (type == "comm_open" || (type == "comm_msg" && comms_.home() == home)) {
        dead = comms_.used(jupyter::string_field(content, "comm_id"), home);
    } else if (type == "comm_info_reply") {  // a gateway that has just started learns them so
        const auto comms = jupyter::object_field_text(content, "comms");
        for (const auto& [id, target] :
             jupyter::object_fields(comms.value_or("{}"))
                 .value_or(decltype(jupyter::object_fields({}))::value_type{})) {
            const auto old = comms_.used(id, home);
            dead.insert(dead.end(), old.begin(), old.end());
        }
    }
    close_comms(dead, "the process that they lived in is gone");
}

void KernelChannels::watch_comms() {
    const auto home = comms_.home();
    const auto process = home ? view_.process(home->host) : std::string();
    if (!home || (process.empty() ? view_.serves(home->host) : process == home->process)) {
        comms_away_since_.reset();
        return;
    }
    if (!process.empty()) {
        close_comms(comms_.take_all(),
                    "their Python process on host " + home->host.value + " was lost");
        return;
    }
    comms_away_since_ = comms_away_since_.value_or(now());
    if (now() - *comms_away_since_ > kCommsAwayMax) {
        close_comms(comms_.take_all(), "host " + home->host.value + " was lost");
    }
}

// Empty `why`: whoever restarted the kernel needs no notice.
void KernelChannels::close_comms(const std::vector<std::string>& ids, const std::string& why) {
    if (ids.empty()) {
        return;
    }
    log_info("gateway", "kernel {}: {} comms closed: {}", kernel_.value.str(), ids.size(),
             why.empty() ? "it was restarted" : why);
    comms_away_since_.reset();
    for (const auto& id : ids) {
        const auto content =
            fmt::format(R"({{"comm_id": {}, "data": {{}}}})", jupyter::json_quoted(id));
        broadcast(
            shared_.factory.make(jupyter::Channel::kIopub, "comm_close", session_, "{}", content));
    }
    if (why.empty()) {
        return;
    }
    notice_ = fmt::format(
        "Widgets of this notebook were closed ({} comms): {}. Variables are kept; run the cells "
        "that show widgets again.\n",
        ids.size(), why);
    if (const auto* running = cells_.running()) {
        say_notice(*running);
    }
}

// In a cell that a reader sees: clients show no output that belongs to none.
void KernelChannels::say_notice(const PendingCell& cell) {
    const bool all_hear = cell.told.empty();
    if (all_hear && !notice_.empty() &&
        !jupyter::bool_field(cell.request.content, "silent", false)) {
        broadcast(shared_.factory.stream(speaker(cell), cell.parent, notice_));
        notice_.clear();
    }
}

}  // namespace nbos::gateway
