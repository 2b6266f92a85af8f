// From one incarnation of a kernel to the next: what was asked before a restart ends without a
// result, and how is the log's word, so that every gateway gives the same answer.
#include <algorithm>
#include <utility>

#include "gateway/kernel_channels.h"

namespace nbos::gateway {
namespace {

constexpr std::chrono::seconds kPatience{2};  // with hosts that cannot say how a cell ended

}  // namespace

bool KernelChannels::between_incarnations() const { return restarting_ || entering_; }

std::uint64_t KernelChannels::newest_incarnation() const {
    return entering_ ? entering_->incarnation : incarnation_.value_or(0);
}

// Under a restart it is not known: others may have restarted the kernel, too.
std::uint64_t KernelChannels::asking_incarnation() const {
    return restarting_ ? replica::kAnyIncarnation : newest_incarnation();
}

// Restarted by us or by someone else. The hosts have told of most cells how they end. The others
// are sent once more, as of the time before: they never run, and the log has their end. Until then
// the new incarnation waits.
void KernelChannels::enter_incarnation(std::uint64_t incarnation, const std::string& session) {
    const auto newest = newest_incarnation();
    if (incarnation <= newest) {
        if (incarnation == newest && !session.empty()) {
            (entering_ ? entering_->session : session_) = session;
        }
        return;
    }
    for (auto& request : requests_) {
        if (request.sent && request.incarnation < incarnation) {
            request.connection = 0;  // as if with its connection: asked again, or ended
        }
    }
    close_comms(comms_.take_all(), "");
    entering_ =
        Entering{.incarnation = incarnation, .session = session, .deadline = now() + kPatience};
    for (auto* cell : old_cells()) {
        cell->may_have_begun |= cell->busy || cell->foreign || !cell->sent_to.value.empty();
        cell->sent_to = HostId{};
        if (cell->foreign && !cell->is_recalled) {
            ask_how_it_ends(*cell);
        }
    }
    enter_when_ready();
}

std::vector<PendingCell*> KernelChannels::old_cells() {
    std::vector<PendingCell*> old;
    for (auto& cell : cells_.all()) {
        if (cell.incarnation < entering_->incarnation) {
            old.push_back(&cell);
        }
    }
    return old;
}

void KernelChannels::pump_old_cells(const HostId& target) {
    for (auto* cell : old_cells()) {
        if (PendingCells::due(*cell, target, false, shared_.hosts, view_, now())) {
            send_cell(*cell, target);
        }
    }
}

void KernelChannels::enter_when_ready() {
    if (entering_ && (old_cells().empty() || now() >= entering_->deadline)) {
        finish_entering();
        if (const auto why = view_.failure(); !why.empty() && !restarting_) {
            fail(why);
        }
        pump();
    }
}

// The log may have no end of the cells that are left.
void KernelChannels::finish_entering() {
    const auto old = old_cells();
    const auto entered = *std::exchange(entering_, std::nullopt);
    incarnation_ = entered.incarnation;
    for (auto* cell : old) {
        const auto told = cell->held_end;  // its outputs were waited for
        end_cell(*cell, told.value_or(cluster::CellEnded{
                            .kernel = kernel_,
                            .session = cell->session,
                            .msg_id = cell->msg_id,
                            .ending = cell->may_have_begun ? replica::Ending::kReset
                                                           : replica::Ending::kCancelled}));
    }
    stdin_host_.reset();
    if (!entered.session.empty()) {
        session_ = entered.session;  // the old cells have ended in the one that they ran in
    }
}

void KernelChannels::begin_restart() {
    restarting_ = true;
    restart_target_ = newest_incarnation() + 1;
    for (auto& request : requests_) {
        if (request.sent) {
            end_request(request, "the kernel was restarted");
        }
    }
    forget_done_requests();
}

void KernelChannels::end_restart(const std::string& session) {
    failure_.clear();
    if (!incarnation_) {
        incarnation_ = 0;
    }
    // Its host has reported before it answered; the leader perhaps not.
    auto newest = restart_target_;
    auto its_session = session;
    for (const auto& [id, status] : view_.replicas()) {
        if (status.incarnation > newest ||
            (status.incarnation == newest && status.incarnation > 0)) {
            newest = status.incarnation;
            its_session = status.options.session;
        }
    }
    enter_incarnation(newest, its_session);
    restarting_ = false;
    name_incarnation();
    pump();
}

void KernelChannels::abandon_restart() {
    restarting_ = false;
    name_incarnation();
    if (!failure_.empty()) {
        answer_all(std::string(failure_));
    }
    status_changed();
}

// Of what was asked under the restart.
void KernelChannels::name_incarnation() {
    for (auto& cell : cells_.all()) {
        if (cell.incarnation == replica::kAnyIncarnation) {
            cell.incarnation = newest_incarnation();
        }
    }
}

}  // namespace nbos::gateway
