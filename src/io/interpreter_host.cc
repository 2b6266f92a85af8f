#include "io/interpreter_host.h"

#include <fmt/core.h>
#include <signal.h>

#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.h"
#include "io/event_loop.h"
#include "io/interpreter_owner.h"
#include "io/interpreter_process.h"
#include "io/zygote.h"
#include "jupyter/json_field.h"
#include "jupyter/json_text.h"

namespace nbos::io {
namespace {

using agent::InterpreterId;

constexpr std::chrono::milliseconds kProbePause{50};
constexpr std::chrono::milliseconds kAwayPause{300};
constexpr std::chrono::seconds kRefillPause{1};
constexpr std::chrono::seconds kWarmRetry{5};

}  // namespace

class InterpreterHost::Impl : public std::enable_shared_from_this<Impl> {
public:
    Impl(EventLoop& loop, InterpreterHostOptions options)
        : loop_(loop), options_(std::move(options)) {}

    void listen(agent::InterpreterListener& listener) {
        listener_ = &listener;
        find_survivors();
        state_path_ = options_.directory + "/state.sock";
        listening_ = std::make_unique<StateListener>(
            loop_, state_path_,
            [this](std::unique_ptr<StateSocket> socket) { greet(std::move(socket)); });
        keep_warm(options_.default_spec);
    }

    void close() {
        listener_ = nullptr;
        listening_.reset();
        strangers_.clear();
        processes_.clear();
        buried_.clear();
        zygotes_.clear();
    }

    InterpreterId start(const agent::Adoption& adoption) {
        const auto spec = adoption.spec.empty() ? options_.default_spec : adoption.spec;
        if (const auto survivor = claim_survivor(adoption)) {
            return *survivor;
        }
        for (auto& [id, slot] : processes_) {
            if (slot.spec == spec && !slot.adoption && slot.process->warm()) {
                slot.adoption = adoption;
                slot.process->adopt(adoption, options_.workspace);
                refill_soon(spec);
                return id;
            }
        }
        const auto id = launch(spec, adoption);
        refill_soon(spec);
        return id;
    }

    InterpreterProcess* find(InterpreterId id) {
        const auto found = processes_.find(id);
        return found == processes_.end() ? nullptr : found->second.process.get();
    }

    void discard(InterpreterId id) { bury(id); }
    void discard_survivors(KernelId kernel, ReplicaId replica) {
        std::vector<InterpreterId> orphans;
        for (const auto& [id, slot] : processes_) {
            if (slot.owner && slot.owner->kernel == kernel && slot.owner->replica == replica &&
                !slot.claimed) {
                orphans.push_back(id);
            }
        }
        for (const auto id : orphans) {
            bury(id);
        }
    }

    bool survives(InterpreterId id) const {
        const auto found = processes_.find(id);
        return found != processes_.end() && found->second.owner;
    }

    void resume(InterpreterId id) {
        if (const auto found = processes_.find(id); found != processes_.end()) {
            found->second.owner.reset();
            found->second.process->resume();
        }
    }

private:
    struct Slot {
        std::string spec;
        std::optional<agent::Adoption> adoption;  // empty: warm, or becoming warm
        std::unique_ptr<InterpreterProcess> process;
        std::optional<InterpreterOwner> owner =
            {};                                    // it outlived its agent, and is not resumed yet
        bool claimed = false;                      // by its replica
        std::optional<agent::Survivor> back = {};  // has said what it has
    };

    // ---- what outlived an agent before this one ----

    void find_survivors() {
        std::error_code ignored;
        for (const auto& entry : std::filesystem::directory_iterator(options_.directory, ignored)) {
            const auto path = entry.path().string();
            auto owner = read_owner(path);
            if (!owner) {
                std::filesystem::remove_all(path, ignored);
                continue;
            }
            const InterpreterId id{++last_id_};
            log_info("interpreters", "process {} of kernel {} has outlived its agent", owner->pid,
                     owner->kernel.value.str());
            auto process = std::make_unique<InterpreterProcess>(
                loop_, zmq_, entry.path().filename(), path, options_.takes_outputs, callbacks(id),
                owner->pid);
            const auto spec = owner->spec;
            processes_[id] = {spec, agent::Adoption{}, std::move(process), std::move(owner)};
        }
        if (!processes_.empty()) {
            loop_.after(options_.survivors_wait,
                        [self = shared_from_this()] { self->end_unclaimed(); });
            watch_away();
        }
    }

    // One that ends before it has connected again is not missed by its socket.
    void watch_away() {
        std::vector<InterpreterId> gone;
        bool any = false;
        for (const auto& [id, slot] : processes_) {
            any = any || slot.process->away();
            if (slot.process->away() && !read_owner(slot.process->directory())) {
                gone.push_back(id);
            }
        }
        for (const auto id : gone) {
            end(id, "it ended while its agent was being started again");
        }
        if (any && listener_ != nullptr) {
            loop_.after(kAwayPause, [self = shared_from_this()] { self->watch_away(); });
        }
    }

    std::optional<InterpreterId> claim_survivor(const agent::Adoption& adoption) {
        for (auto& [id, slot] : processes_) {
            if (slot.owner && slot.owner->kernel == adoption.kernel &&
                slot.owner->replica == adoption.replica && !slot.claimed) {
                slot.claimed = true;
                slot.adoption = adoption;
                if (slot.back) {
                    later([this, id = id] { came_back(id, *processes_.at(id).back); });
                }
                return id;
            }
        }
        return std::nullopt;
    }

    void came_back(InterpreterId id, const agent::Survivor& survivor) {
        const auto found = processes_.find(id);
        if (found == processes_.end()) {
            return;
        }
        found->second.back = survivor;
        if (found->second.claimed && listener_ != nullptr) {
            listener_->interpreter_resumed(id, survivor);
        }
    }

    void end_unclaimed() {
        std::vector<InterpreterId> unclaimed;
        for (const auto& [id, slot] : processes_) {
            if (slot.owner && !(slot.claimed && slot.back)) {
                unclaimed.push_back(id);
            }
        }
        for (const auto id : unclaimed) {
            end(id, "it outlived its agent, but did not answer the next one");
        }
    }

    // ---- starting ----

    InterpreterId launch(const std::string& spec, std::optional<agent::Adoption> adoption) {
        const InterpreterId id{++last_id_};
        const auto token = fmt::format("{}i{}", life_, id.value);
        auto process = std::make_unique<InterpreterProcess>(loop_, zmq_, token,
                                                            options_.directory + "/" + token,
                                                            options_.takes_outputs, callbacks(id));
        auto& slot = processes_[id] = {spec, std::move(adoption), std::move(process)};
        if (auto* zygote = zygote_of(spec)) {
            zygote->fork(token, slot.process->directory(), state_path_);
            loop_.after(options_.start_timeout,
                        [self = shared_from_this(), id] { self->give_up_starting(id); });
        } else {
            later([this, id, spec] {
                end(id, fmt::format("no kernelspec named '{}' on this host", spec));
            });
        }
        return id;
    }

    InterpreterProcess::Callbacks callbacks(InterpreterId id) {
        return {
            .warm = [this, id] { became_warm(id); },
            .back = [this, id](const agent::Survivor& survivor) { came_back(id, survivor); },
            .adopted = [this, id](bool ok, const std::string& error) { adopted(id, ok, error); },
            .frame = [this, id](StateFrame type, const std::string& header,
                                Bytes body) { frame(id, type, header, std::move(body)); },
            .message =
                [this, id](jupyter::Message message) {
                    if (listener_ != nullptr) {
                        listener_->interpreter_message(id, std::move(message));
                    }
                },
            // The zygote says how it ended; should that word not come, this is the end.
            .closed =
                [this, id] {
                    loop_.after(std::chrono::seconds(1), [self = shared_from_this(), id] {
                        self->end(id, "it has ended, and its exit status is not known");
                    });
                }};
    }

    Zygote* zygote_of(const std::string& spec) {
        const auto command = options_.zygotes.find(spec);
        if (command == options_.zygotes.end()) {
            return nullptr;
        }
        auto& zygote = zygotes_[spec];
        if (!zygote) {
            const auto directory =
                fmt::format("{}/{}z{}", options_.directory, life_, zygotes_.size());
            std::filesystem::create_directories(directory);
            zygote = std::make_unique<Zygote>(
                loop_, command->second, directory, options_.lifeline,
                Zygote::Callbacks{
                    .child_ended = [this](
                                       const std::string& token, const std::string& why,
                                       const std::string& tail) { child_ended(token, why, tail); },
                    .ended = [this, spec](const std::string& why) { zygote_ended(spec, why); }});
        }
        return zygote.get();
    }

    void greet(std::unique_ptr<StateSocket> socket) {
        auto* stranger = socket.get();
        strangers_[stranger] = std::move(socket);
        stranger->start({.frame = [this, stranger](StateFrame type, const std::string& header,
                                                   Bytes) { recognise(stranger, type, header); },
                         .closed = [this, stranger] { strangers_.erase(stranger); }});
    }

    void recognise(StateSocket* stranger, StateFrame type, const std::string& header) {
        auto known = strangers_.extract(stranger);
        if (type != StateFrame::kHello || known.empty()) {
            return;
        }
        const auto token = jupyter::string_field(header, "token");
        for (auto& [id, slot] : processes_) {
            if (slot.process->token() == token) {
                if (slot.process->hello(std::move(known.mapped()), header)) {
                    probe_later(id);
                }
                return;
            }
        }
    }

    void probe_later(InterpreterId id) {
        loop_.after(kProbePause, [self = shared_from_this(), id] {
            auto* process = self->find(id);
            if (process != nullptr && process->connecting()) {
                process->probe();
                self->probe_later(id);
            }
        });
    }

    void became_warm(InterpreterId id) {
        auto& slot = processes_.at(id);
        if (slot.adoption) {
            slot.process->adopt(*slot.adoption, options_.workspace);
        }
    }

    void adopted(InterpreterId id, bool ok, const std::string& error) {
        if (!ok) {
            later([this, id, error] { end(id, "it could not be set up: " + error); });
        } else if (listener_ != nullptr) {
            listener_->interpreter_ready(id);
        }
    }

    void give_up_starting(InterpreterId id) {
        auto* process = find(id);
        if (process != nullptr && !process->adopted() && !process->warm()) {
            end(id,
                fmt::format("it did not start within {} s", options_.start_timeout.count() / 1000));
        }
    }

    // ---- the warm ones ----

    // Not at once: the kernel that took the warm one is starting, and a user waits for it.
    void refill_soon(const std::string& spec) {
        loop_.after(kRefillPause, [self = shared_from_this(), spec] { self->keep_warm(spec); });
    }

    void keep_warm(const std::string& spec) {
        if (listener_ == nullptr || !options_.zygotes.contains(spec)) {
            return;
        }
        int spare = 0;
        for (const auto& [id, slot] : processes_) {
            spare += slot.spec == spec && !slot.adoption ? 1 : 0;
        }
        for (; spare < options_.warm; ++spare) {
            launch(spec, std::nullopt);
        }
    }

    // ---- what they say ----

    void frame(InterpreterId id, StateFrame type, const std::string& header, Bytes body) {
        if (listener_ == nullptr) {
            return;
        }
        if (type == StateFrame::kApplied) {
            listener_->interpreter_applied(id, Sequence{jupyter::uint_field(header, "sequence")},
                                           jupyter::bool_field(header, "ok", false),
                                           jupyter::string_field(header, "error"));
        } else if (type == StateFrame::kDelta) {
            listener_->interpreter_delta(id, CellNumber{jupyter::uint_field(header, "cell")},
                                         Epoch{jupyter::uint_field(header, "epoch")},
                                         std::move(body), jupyter::string_field(header, "error"));
        }
    }

    // ---- ends ----

    void child_ended(const std::string& token, const std::string& why, const std::string& tail) {
        for (const auto& [id, slot] : processes_) {
            if (slot.process->token() == token) {
                // Once it is a user's, what others wrote since is none of that user's business.
                end(id, slot.process->adopted() ? why : why + tail);
                return;
            }
        }
    }

    void zygote_ended(const std::string& spec, const std::string& why) {
        log_warning("interpreters", "the zygote of '{}' ended: {}", spec, why);
        std::vector<InterpreterId> lost;
        for (const auto& [id, slot] : processes_) {
            if (slot.spec == spec) {
                lost.push_back(id);
            }
        }
        for (const auto id : lost) {
            end(id, why);
        }
    }

    void end(InterpreterId id, const std::string& why) {
        const auto found = processes_.find(id);
        if (found == processes_.end()) {
            return;
        }
        const auto spec = found->second.spec;
        const bool owned = found->second.adoption.has_value();
        bury(id);
        if (owned && listener_ != nullptr) {
            listener_->interpreter_ended(id, why);
        } else {
            loop_.after(kWarmRetry, [self = shared_from_this(), spec] { self->keep_warm(spec); });
        }
    }

    // Out of the table now, destroyed from the loop: a callback of its own may be on the stack.
    void bury(InterpreterId id) {
        auto slot = processes_.extract(id);
        if (slot.empty()) {
            return;
        }
        slot.mapped().process->signal(SIGKILL);
        buried_.push_back(std::move(slot.mapped().process));
        loop_.post([self = shared_from_this()] { self->buried_.clear(); });
    }

    void later(std::function<void()> work) {
        loop_.post([self = shared_from_this(), work = std::move(work)] {
            if (self->listener_ != nullptr) {
                work();
            }
        });
    }

    EventLoop& loop_;
    InterpreterHostOptions options_;
    agent::InterpreterListener* listener_ = nullptr;
    ZmqContext zmq_;
    std::string state_path_;
    std::unique_ptr<StateListener> listening_;
    std::map<StateSocket*, std::unique_ptr<StateSocket>> strangers_;  // not yet recognised
    std::map<std::string, std::unique_ptr<Zygote>> zygotes_;
    std::map<InterpreterId, Slot> processes_;
    // Here, not in the loop's queue: a loop that ends first would leave their sockets open, and
    // the ZeroMQ context waits for every socket.
    std::vector<std::unique_ptr<InterpreterProcess>> buried_;
    std::uint64_t last_id_ = 0;
    // Part of every name: what an earlier agent of this directory started has others.
    const std::string life_ = fmt::format("{:06x}", random_u64() & 0xffffffU);
};

InterpreterHost::InterpreterHost(EventLoop& loop, InterpreterHostOptions options)
    : impl_(std::make_shared<Impl>(loop, std::move(options))) {}

InterpreterHost::~InterpreterHost() { impl_->close(); }

void InterpreterHost::listen(agent::InterpreterListener& listener) { impl_->listen(listener); }

InterpreterId InterpreterHost::start(const agent::Adoption& adoption) {
    return impl_->start(adoption);
}

bool InterpreterHost::survives(InterpreterId id) const { return impl_->survives(id); }
std::string InterpreterHost::process_name(InterpreterId id) const {
    const auto* process = impl_->find(id);
    return process == nullptr ? std::string() : process->token();
}

void InterpreterHost::resume(InterpreterId id) { impl_->resume(id); }

void InterpreterHost::settled(InterpreterId id, CellNumber cell) {
    if (auto* process = impl_->find(id)) {
        process->settled(cell);
    }
}

void InterpreterHost::expect(InterpreterId id, const agent::Survivor::Claim& claim) {
    if (auto* process = impl_->find(id)) {
        process->expect(claim);
    }
}

void InterpreterHost::load(InterpreterId id, Sequence sequence, Bytes table) {
    if (auto* process = impl_->find(id)) {
        process->send_frame(StateFrame::kLoad, fmt::format(R"({{"sequence": {}}})", sequence.value),
                            std::move(table));
    }
}

void InterpreterHost::apply(InterpreterId id, Sequence base, Sequence sequence, Bytes delta) {
    if (auto* process = impl_->find(id)) {
        process->send_frame(
            StateFrame::kApply,
            fmt::format(R"({{"sequence": {}, "base": {}}})", sequence.value, base.value),
            std::move(delta));
    }
}

void InterpreterHost::run(InterpreterId id, const agent::RunOrder& order) {
    if (auto* process = impl_->find(id)) {
        process->send_frame(
            StateFrame::kRun,
            fmt::format(
                R"({{"cell": {}, "epoch": {}, "msg_id": {}, "base": {}, "spent_counts": {}}})",
                order.cell.value, order.epoch.value, jupyter::json_quoted(order.msg_id),
                order.base.value, order.spent_counts));
    }
}

void InterpreterHost::send(InterpreterId id, const jupyter::Message& message) {
    if (auto* process = impl_->find(id)) {
        process->send_message(message);
    }
}

void InterpreterHost::interrupt(InterpreterId id) {
    if (auto* process = impl_->find(id)) {
        process->signal(SIGINT);
    }
}

void InterpreterHost::crash(InterpreterId id) {
    if (auto* process = impl_->find(id)) {
        process->signal(SIGKILL);
    }
}

void InterpreterHost::discard(InterpreterId id) { impl_->discard(id); }
void InterpreterHost::discard_survivors(KernelId kernel, ReplicaId replica) {
    impl_->discard_survivors(kernel, replica);
}

}  // namespace nbos::io
