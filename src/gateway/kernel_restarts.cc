// From one incarnation of a kernel to the next: what was asked before a restart ends without a
// result, and how is the log's word, so that every gateway gives the same answer.
#include <utility>

#include "gateway/kernel_channels.h"

namespace nbos::gateway {
namespace {

constexpr std::chrono::seconds kPatience{2};  // with hosts that cannot say how a cell ended

bool may_have_begun(const PendingCell& cell) {
    return cell.busy || cell.foreign || !cell.sent_to.value.empty();
}

}  // namespace

bool KernelChannels::between_incarnations() const { return restarting_ || entering_; }

std::uint64_t KernelChannels::asking_incarnation() const {
    if (restarting_) {
        return restart_target_;
    }
    return entering_ ? entering_->incarnation : incarnation_.value_or(0);
}

// Restarted by us or by someone else. The hosts have told of most cells how they end; of the others
// they are asked, and until then the new incarnation waits.
void KernelChannels::enter_incarnation(std::uint64_t incarnation, const std::string& session) {
    const auto newest = entering_ ? entering_->incarnation : incarnation_.value_or(0);
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
    std::set<std::string> askers;
    for (const auto& cell : cells_.all()) {
        if (cell.incarnation < incarnation && !cell.held_end && may_have_begun(cell)) {
            askers.insert(cell.session);
        }
    }
    entering_ = Entering{.incarnation = incarnation,
                         .session = session,
                         .deadline = now() + kPatience,
                         .unanswered = askers.size()};
    if (askers.empty()) {
        finish_entering();
        return;
    }
    for (const auto& asker : askers) {
        shared_.actions.recall(
            kernel_, asker, [this, alive = std::weak_ptr<bool>(alive_), incarnation](Status) {
                const bool waits =
                    !alive.expired() && entering_ && entering_->incarnation == incarnation;
                if (waits && --entering_->unanswered == 0) {
                    finish_entering();
                    pump();
                }
            });
    }
}

// Cells that nobody has told of have no end in the log, or one too old to be told again.
void KernelChannels::finish_entering() {
    const auto entered = *std::exchange(entering_, std::nullopt);
    incarnation_ = entered.incarnation;
    std::vector<PendingCell*> old;
    for (auto& cell : cells_.all()) {
        if (cell.incarnation < entered.incarnation) {
            old.push_back(&cell);
        }
    }
    for (auto* cell : old) {
        const auto told = cell->held_end;  // its outputs were waited for
        end_cell(*cell, told.value_or(cluster::CellEnded{
                            .kernel = kernel_,
                            .session = cell->session,
                            .msg_id = cell->msg_id,
                            .ending = may_have_begun(*cell) ? replica::Ending::kReset
                                                            : replica::Ending::kCancelled}));
    }
    stdin_host_.reset();
    close_comms(comms_.take_all(), "");
    if (!entered.session.empty()) {
        session_ = entered.session;  // the old cells have ended in the one that they ran in
    }
}

void KernelChannels::begin_restart() {
    restarting_ = true;
    restart_target_ = asking_incarnation() + 1;
    for (auto& request : requests_) {
        if (request.sent) {
            end_request(request, "the kernel was restarted");
        }
    }
    forget_done_requests();
}

void KernelChannels::end_restart(const std::string& session) {
    failure_.clear();
    restarting_ = false;
    if (!incarnation_) {
        incarnation_ = 0;
    }
    enter_incarnation(restart_target_, session);
    pump();
}

void KernelChannels::abandon_restart() {
    restarting_ = false;
    status_changed();
}

}  // namespace nbos::gateway
