// KernelService: which kernels there should be, as the shared tables say.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "gateway/kernel_service.h"

namespace nbos::gateway {
namespace {

constexpr int kTries = 10;  // of an edit that others overtake
constexpr std::chrono::milliseconds kLookEvery{500};
constexpr std::chrono::minutes kForgetEvery{1};
constexpr std::size_t kForgottenAtOnce = 500;

}  // namespace

// ---- what is written ----

// Against the row as it is known here; when another gateway was faster, against that one's.
void KernelService::edit_row(KernelId id, Edit edit, With with, Done done, int tries) {
    const auto key = kernel_key(id);
    const auto* known = ports_.table.find(key);
    const auto decoded = known == nullptr ? std::nullopt : decode_kernel_row(known->value.view());
    if (known != nullptr && !decoded) {
        done(Error{
            Errc::kInvalid, Certainty::kDidNotHappen,
            "this gateway cannot read the kernel's row of the shared tables: use a gateway of "
            "the version that wrote it"});
        return;
    }
    const auto* kernel = find(id);
    auto row = decoded.value_or(KernelRow{.spec = kernel == nullptr ? "" : kernel->spec});
    if (!edit(row)) {
        done(ok());
        return;
    }
    replica::TableTransaction transaction{
        .conditions = {{key, known == nullptr ? Index{0} : known->version}},
        .changes = {{key, encode(row)}}};
    if (with == With::kItsSessionsErased) {
        const auto sessions = ports_.belongings(id);
        transaction.changes.insert(transaction.changes.end(), sessions.begin(), sessions.end());
    }
    ports_.table.write(std::move(transaction), [this, id, edit, with, done,
                                                tries](Result<replica::TableOutcome> written) {
        if (!written) {
            done(std::move(written).error());
        } else if (*written == replica::TableOutcome::kDone) {
            done(ok());
        } else if (tries > 0) {
            edit_row(id, edit, with, done, tries - 1);
        } else {
            done(Error{Errc::kExhausted, Certainty::kDidNotHappen,
                       "other gateways change this kernel at the same time; try again"});
        }
    });
}

// Whoever waits is told before its clients are closed: one of them may be who asked.
void KernelService::leave(KernelId id, bool for_good, Edit edit, Done done) {
    const auto number = ++last_leaving_;
    leaving_.push_back({id, number, for_good, std::move(done)});
    edit_row(
        id, std::move(edit), With::kItsSessionsErased,
        [this, number](const Status& status) {
            const auto found =
                std::find_if(leaving_.begin(), leaving_.end(),
                             [number](const auto& one) { return one.number == number; });
            if (found != leaving_.end()) {
                const auto answer = std::move(found->done);
                leaving_.erase(found);
                answer(status);
            }
        },
        kTries);
}

void KernelService::answer_leaving(KernelId id, bool for_good) {
    std::vector<Done> answers;
    for (auto at = leaving_.begin(); at != leaving_.end();) {
        if (at->kernel == id && (for_good || !at->for_good)) {
            answers.push_back(std::move(at->done));
            at = leaving_.erase(at);
        } else {
            ++at;
        }
    }
    for (const auto& answer : answers) {
        answer(ok());
    }
}

void KernelService::park(KernelId id, const std::string& path, Done done) {
    auto* kernel = find_open(id);
    if (kernel == nullptr) {
        done(ok());
        return;
    }
    if (options_.parked_for.count() == 0 || kernel->channels.failed()) {
        shut_down(id, std::move(done));
        return;
    }
    const auto until = ports_.clock.wall() + options_.parked_for;
    leave(
        id, false,
        [until, path](KernelRow& row) {
            if (row.state != KernelRow::State::kOpen) {
                return false;
            }
            row.state = KernelRow::State::kParked;
            row.until = until;
            row.path = path;
            return true;
        },
        std::move(done));
}

void KernelService::revive(KernelId id, Done done) {
    const auto* kernel = find(id);
    if (kernel == nullptr || !kernel->parked) {
        done(kernel != nullptr
                 ? ok()
                 : Status(Error{Errc::kNotFound, Certainty::kDidNotHappen, "no such kernel"}));
        return;
    }
    const auto edit = [](KernelRow& row) {
        if (row.state != KernelRow::State::kParked) {
            return false;
        }
        row.state = KernelRow::State::kOpen;
        row.until = {};
        row.path.clear();
        return true;
    };
    edit_row(
        id, edit, With::kNothing,
        [this, id, done = std::move(done)](const Status& status) {
            done(status && find(id) == nullptr
                     ? Status(Error{Errc::kNotFound, Certainty::kUnknown, "the kernel was deleted"})
                     : status);
        },
        kTries);
}

void KernelService::shut_down(KernelId id, Done done) {
    const auto edit = [when = ports_.clock.wall()](KernelRow& row) {
        if (row.state == KernelRow::State::kDeleted) {
            return false;
        }
        row = KernelRow{.state = KernelRow::State::kDeleted, .spec = row.spec, .until = when};
        return true;
    };
    leave(id, true, edit, std::move(done));
}

// ---- what has been written ----

void KernelService::row_changed(KernelId id) {
    const auto* row = ports_.table.find(kernel_key(id));
    if (row == nullptr) {
        deleted_.erase(id);
        if (auto* kernel = find(id)) {
            kernel->has_row = false;
        }
        return;
    }
    const auto decoded = decode_kernel_row(row->value.view());
    if (!decoded) {
        log_error("gateway",
                  "kernel {}: its row of the shared tables cannot be read: is another "
                  "gateway of a newer version?",
                  id.value.str());
    } else if (decoded->state == KernelRow::State::kDeleted) {
        take_deleted(id, *decoded);
    } else {
        take_open(id, *decoded);
        if (decoded->state == KernelRow::State::kParked) {
            take_parked(id, *decoded);
        }
    }
}

void KernelService::take_open(KernelId id, const KernelRow& row) {
    deleted_.erase(id);
    auto* kernel = find(id);
    if (kernel == nullptr) {
        kernel = &add(id, row.spec, row.start ? row.start->options.session : "");
    }
    kernel->has_row = true;
    kernel->start = row.start;
    if (row.start && kernel->first.voters.empty()) {
        kernel->first = row.start->members;
    }
    if (row.state == KernelRow::State::kOpen && kernel->parked) {
        kernel->parked.reset();
        if (kernel->leaving.empty() && std::exchange(kernel->being_quieted, false)) {
            ports_.calls.cancel(kernel->quieten_call);  // it would mean new cells, too
        }
        if (!kernel->leaving.empty() || kernel->view.queued() > 0) {
            kernel->channels.take_up();
            kernel->taken_up = ports_.clock.now();
        }
        log_info("gateway", "kernel {} is taken up again", id.value.str());
    }
}

void KernelService::take_parked(KernelId id, const KernelRow& row) {
    auto& kernel = *find(id);
    const bool news = !kernel.parked;
    kernel.parked = Parked{row.until, row.path};
    if (!news) {
        return;
    }
    log_info("gateway", "kernel {} is parked", id.value.str());
    if (!kernel.restarts.empty()) {
        const bool begun = ports_.calls.cancel(kernel.restart_call);
        kernel.channels.abandon_restart();
        answer_restarts(
            kernel, Error{Errc::kNotFound, begun ? Certainty::kUnknown : Certainty::kDidNotHappen,
                          "the kernel was shut down"});
    }
    answer_leaving(id, false);
    const auto pending = kernel.channels.pending();
    kernel.leaving.insert(kernel.leaving.end(), pending.begin(), pending.end());
    kernel.channels.park();
    if (!kernel.leaving.empty()) {
        quieten(kernel);
    }
}

void KernelService::take_deleted(KernelId id, const KernelRow& row) {
    deleted_[id] = row.until;
    expiring_.erase(id);
    const auto found = kernels_.find(id);
    if (found == kernels_.end()) {
        return;
    }
    auto kernel = std::move(found->second);
    kernels_.erase(found);
    auto members = kernel->membership().hosts;
    for (const auto& [replica, status] : kernel->view.replicas()) {
        members[replica] = status.host;
    }
    for (const auto& [replica, host] : members) {
        stop_replica(id, replica, host);
    }
    answer_restarts(*kernel,
                    Error{Errc::kNotFound, Certainty::kDidNotHappen, "the kernel was deleted"});
    answer_leaving(id, true);
    kernel->channels.shut_down();
    ended_.push_back(std::move(kernel));
}

// ---- what one gateway looks after ----

void KernelService::look_after() {
    const auto now = ports_.clock.now();
    if (now - looked_at_ >= kLookEvery) {
        looked_at_ = now;
        for (const auto& [id, kernel] : kernels_) {
            look_after(*kernel);
        }
    }
    delete_expired();
    forget_deleted();
}

void KernelService::look_after(Kernel& kernel) {
    if (kernel.parked && kernel.view.queued() > 0) {
        quieten(kernel);  // also what this gateway does not know of
    }
    if (kernel.row_is_written) {
        return;
    }
    const auto age = ports_.clock.now() - kernel.created;
    const auto* best = kernel.view.best();
    const bool works = best != nullptr && kernel.view.leader() &&
                       best->state != cluster::ExecutionState::kStarting;
    if (!kernel.has_row && best != nullptr && age > options_.rowless_for) {
        write_own(kernel, [](KernelRow& row) { return row.state == KernelRow::State::kOpen; });
    } else if (kernel.start && works) {
        write_own(kernel, [](KernelRow& row) {
            return std::exchange(row.start, std::nullopt).has_value();
        });
    } else if (kernel.start && !kernel.view.leader() && age > options_.start_again &&
               ports_.clock.now() - kernel.started_again > options_.start_again &&
               kernel.starts_pending == 0 && !kernel.channels.failed()) {
        start_again(kernel);
    }
}

void KernelService::write_own(Kernel& kernel, Edit edit) {
    kernel.row_is_written = true;
    edit_row(
        kernel.id, std::move(edit), With::kNothing,
        [this, id = kernel.id](const Status&) {
            if (auto* known = find(id)) {
                known->row_is_written = false;
            }
        },
        kTries);
}

// Its gateway may have ended before all of its first members were asked for. Whoever has one
// answers that; and none of them has worked yet, so that none can have forgotten anything.
void KernelService::start_again(Kernel& kernel) {
    kernel.started_again = ports_.clock.now();
    auto missing = kernel.start->members.hosts;
    for (const auto& [replica, status] : kernel.view.replicas()) {
        missing.erase(replica);
    }
    if (!missing.empty()) {
        log_info("gateway", "kernel {}: {} of its replicas are started again",
                 kernel.id.value.str(), missing.size());
        start_replicas(kernel, missing, *kernel.start);
    }
}

// The time of some is over, or there are too many: then the oldest go.
void KernelService::delete_expired() {
    std::vector<std::pair<std::chrono::microseconds, KernelId>> parked;
    for (const auto& [id, kernel] : kernels_) {
        if (kernel->parked) {
            parked.emplace_back(kernel->parked->until, id);
        }
    }
    std::sort(parked.begin(), parked.end());
    for (std::size_t n = 0; n < parked.size(); ++n) {
        const auto id = parked[n].second;
        const bool over = parked[n].first <= ports_.clock.wall();
        if ((over || parked.size() - n > options_.parked_max) && expiring_.insert(id).second) {
            // Somebody may take it up meanwhile, through another gateway.
            const auto edit = [until = parked[n].first,
                               when = ports_.clock.wall()](KernelRow& row) {
                if (row.state != KernelRow::State::kParked || row.until != until) {
                    return false;
                }
                row =
                    KernelRow{.state = KernelRow::State::kDeleted, .spec = row.spec, .until = when};
                return true;
            };
            leave(id, true, edit, [this, id](const Status&) { expiring_.erase(id); });
        }
    }
}

// So long ago that no host can come back with a replica of it, or too many to remember.
void KernelService::forget_deleted() {
    const auto now = ports_.clock.now();
    if (now - forgot_at_ < kForgetEvery) {
        return;
    }
    forgot_at_ = now;
    std::vector<std::pair<std::chrono::microseconds, KernelId>> oldest;
    for (const auto& [id, when] : deleted_) {
        oldest.emplace_back(when, id);
    }
    std::sort(oldest.begin(), oldest.end());
    replica::TableTransaction forget;
    for (std::size_t n = 0; n < oldest.size() && n < kForgottenAtOnce; ++n) {
        if (oldest[n].first + options_.deleted_for <= ports_.clock.wall() ||
            oldest.size() - n > options_.deleted_max) {
            forget.changes.push_back({kernel_key(oldest[n].second), std::nullopt});
        }
    }
    if (!forget.changes.empty()) {
        ports_.table.write(std::move(forget), [](const Result<replica::TableOutcome>&) {});
    }
}

}  // namespace nbos::gateway
