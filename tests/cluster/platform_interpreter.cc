#include "tests/cluster/platform_interpreter.h"

#include <fmt/core.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "jupyter/json_field.h"
#include "jupyter/json_text.h"
#include "tests/support/delta.h"

namespace nbos::testing {
namespace {

using agent::InterpreterListener;
using jupyter::Channel;

constexpr milliseconds kRunWait{10'000};  // RUN_WAIT_S of python/nbos_kernel/interpreter.py

jupyter::Header header_of(const jupyter::Message& message) {
    return jupyter::parse_header(message.header).value_or(jupyter::Header{});
}

}  // namespace

SimInterpreter::SimInterpreter(agent::InterpreterId id, std::string who, agent::Adoption adoption,
                               InterpreterOptions options, Ports& ports)
    : id_(id),
      who_(std::move(who)),
      adoption_(std::move(adoption)),
      options_(options),
      ports_(ports) {}

void SimInterpreter::later(milliseconds delay, std::function<void()> work) {
    ports_.time.after(delay, [alive = weak_from_this(), work = std::move(work)] {
        if (const auto self = alive.lock()) {
            work();
        }
    });
}

milliseconds SimInterpreter::up_to(int most_ms) {
    return milliseconds(ports_.rng.below(static_cast<std::uint64_t>(most_ms) + 1));
}

std::chrono::microseconds SimInterpreter::on_its_way() {
    return std::chrono::microseconds(
        50 + ports_.rng.below(static_cast<std::uint64_t>(options_.socket_us_max)));
}

void SimInterpreter::start() {
    later(milliseconds(5) + up_to(options_.start_ms_max), [this] {
        adopted_ = true;
        sequence_ = Sequence{0};
        busy_ = false;
        report(kState, [id = id_](auto& agent) { agent.interpreter_ready(id); });
        work_on();
    });
}

// ---- what it says ----

// In order per socket. A message, on Jupyter's sockets, is for an agent that has it adopted; one
// that is not there, or not yet, misses it.
void SimInterpreter::report(Socket socket, Report report) {
    if (link_ == Link::kGone) {
        return;
    }
    said_[socket] = std::max(said_[socket], ports_.time.now() + on_its_way());
    ports_.time.at(said_[socket], [this, alive = weak_from_this(), socket, report,
                                   connection = connection_] {
        const auto self = alive.lock();
        const bool heard = self && connection == connection_ &&
                           (link_ == Link::kServed || (link_ == Link::kBack && socket == kState));
        if (heard) {
            ports_.to_agent(report);
        }
    });
}

void SimInterpreter::say(Socket socket, std::string_view type, const std::string& parent,
                         std::string content) {
    const auto channel = socket == kShell   ? Channel::kShell
                         : socket == kStdin ? Channel::kStdin
                                            : Channel::kIopub;
    publish(socket,
            ports_.factory.make(channel, type, adoption_.session, parent, std::move(content)));
}

void SimInterpreter::publish(Socket socket, jupyter::Message message) {
    if (kept_) {
        const auto parent = jupyter::parse_header(message.parent_header);
        if (parent && parent->msg_id == kept_->order.msg_id) {
            kept_->messages.push_back(message);
        }
    }
    report(socket, [id = id_, message = std::move(message)](auto& agent) {
        agent.interpreter_message(id, message);
    });
}

void SimInterpreter::report_applied(Sequence sequence, bool ok) {
    report(kState, [id = id_, sequence, ok](auto& agent) {
        agent.interpreter_applied(id, sequence, ok, ok ? "" : "malformed, or on another state");
    });
}

void SimInterpreter::report_delta(const agent::RunOrder& order, const Bytes& delta,
                                  const std::string& error) {
    report(kState, [id = id_, order, delta, error](auto& agent) {
        agent.interpreter_delta(id, order.cell, order.epoch, delta, error);
    });
}

// ---- what it is told ----

void SimInterpreter::frame(std::function<void()> serve) {
    heard_[kState] = std::max(heard_[kState], ports_.time.now() + on_its_way());
    ports_.time.at(heard_[kState], [this, alive = weak_from_this(), connection = connection_,
                                    serve = std::move(serve)] {
        if (const auto self = alive.lock()) {
            frames_.emplace_back(connection, serve);
            work_on();
        }
    });
}

void SimInterpreter::send(const jupyter::Message& message) {
    const auto socket = message.channel == Channel::kStdin ? kStdin : kShell;
    heard_[socket] = std::max(heard_[socket], ports_.time.now() + on_its_way());
    ports_.time.at(heard_[socket],
                   [this, alive = weak_from_this(), connection = connection_, socket, message] {
                       const auto self = alive.lock();
                       if (!self || (connection != connection_ && !transit_survives_)) {
                           return;
                       }
                       if (socket == kShell) {
                           shell_.push_back(message);
                           work_on();
                       } else if (running_ && std::exchange(running_->asks, false)) {
                           std::erase_if(kept_->messages, [](const auto& one) {
                               return one.channel == Channel::kStdin;
                           });
                           running_->changed = true;
                           later(running_->rest, [this, number = running_->number] {
                               if (running_ && running_->number == number) {
                                   end("");
                               }
                           });
                       }
                   });
}

// The main thread: one thing at a time, frames and requests as they come.
void SimInterpreter::work_on() {
    if (busy_) {
        return;
    }
    const bool may_serve = !shell_.empty() && !awaits_run_;
    if (!frames_.empty() && (!may_serve || ports_.rng.chance(0.7))) {
        const auto [connection, serve] = std::move(frames_.front());
        frames_.pop_front();
        if (connection == connection_ || options_.obeys_void_frames) {
            serve();
        } else {
            work_on();
        }
    } else if (may_serve) {
        const auto request = std::move(shell_.front());
        shell_.pop_front();
        serve(request);
    }
}

void SimInterpreter::occupied(milliseconds duration, std::function<void()> then) {
    busy_ = true;
    later(duration, [this, then = std::move(then)] {
        busy_ = false;
        then();
        work_on();
    });
}

void SimInterpreter::load(Sequence sequence, Bytes table) {
    frame([this, sequence, table = std::move(table)] {
        kept_.reset();
        sequence_.reset();
        occupied(up_to(options_.command_ms_max), [this, sequence, table] {
            table_.clear();
            const bool good = table_.apply(table.view()).has_value();
            if (good) {
                sequence_ = sequence;
            }
            report_applied(sequence, good);
        });
    });
}

void SimInterpreter::apply(Sequence base, Sequence sequence, Bytes delta) {
    frame([this, base, sequence, delta = std::move(delta)] {
        const bool fits = sequence_ == base;
        kept_.reset();
        sequence_.reset();
        occupied(up_to(options_.command_ms_max), [this, fits, sequence, delta] {
            const bool good =
                fits && (options_.standby_skips_deltas || table_.apply(delta.view()).has_value());
            if (good) {
                sequence_ = sequence;
            }
            report_applied(sequence, good);
        });
    });
}

void SimInterpreter::run(const agent::RunOrder& order) {
    frame([this, order] {
        ordered_ = order;
        if (awaits_run_ && header_of(*awaits_run_).msg_id == order.msg_id) {
            begin(*std::exchange(awaits_run_, std::nullopt));
        } else {
            work_on();
        }
    });
}

void SimInterpreter::interrupt() {
    later(milliseconds(1), [this] {
        if (running_) {
            end("KeyboardInterrupt");
        }
    });
}

void SimInterpreter::crash() {
    later(milliseconds(1), [this] { ports_.ended(id_, "killed by signal 9"); });
}

// ---- its agent comes and goes ----

void SimInterpreter::agent_gone() {
    link_ = Link::kGone;
    ++connection_;
    transit_survives_ = ports_.rng.chance(0.5);
    if (!options_.obeys_gone_agents) {
        ordered_.reset();
    }
    if (awaits_run_) {
        drop(*std::exchange(awaits_run_, std::nullopt));
        work_on();
    }
    later(adoption_.outlives_agent, [this, connection = connection_] {
        if (link_ == Link::kGone && connection == connection_) {
            ports_.ended(id_, "its agent did not come back in time");
        }
    });
}

// Its hello, and a probe of its sockets, take a moment each.
void SimInterpreter::agent_listens(std::function<void(const agent::Survivor&)> back) {
    later(up_to(options_.hello_ms_max), [this, connection = connection_, back = std::move(back)] {
        if (link_ != Link::kGone || connection != connection_) {
            return;
        }
        link_ = Link::kBack;
        ++connection_;
        later(up_to(options_.hello_ms_max), [this, again = connection_, has = survivor(), back] {
            if (again == connection_) {
                back(has);
            }
        });
    });
}

std::optional<agent::Survivor::Run> SimInterpreter::kept_run() const {
    if (!kept_ || options_.forgets_its_cell) {
        return std::nullopt;
    }
    return agent::Survivor::Run{
        .cell = kept_->order.cell, .epoch = kept_->order.epoch, .base = kept_->order.base};
}

agent::Survivor SimInterpreter::survivor() const {
    return {.session = adoption_.session,
            .sequence = sequence_,
            .run = kept_run(),
            .expects = expects_};
}

void SimInterpreter::resume() {
    link_ = Link::kServed;
    later(milliseconds(1), [this] {
        if (!kept_ || options_.repeats_nothing) {
            return;
        }
        for (const auto& message : kept_->messages) {
            report(kState,
                   [id = id_, message](auto& agent) { agent.interpreter_message(id, message); });
        }
        if (kept_->delta) {
            report_delta(kept_->order, *kept_->delta, "");
        }
    });
}

void SimInterpreter::settled(CellNumber cell) {
    later(milliseconds(1), [this, cell] {
        if (kept_ && kept_->order.cell == cell) {
            kept_.reset();
        }
    });
}

// Also while it is busy, and what was sent before its agent was gone.
void SimInterpreter::expect(const agent::Survivor::Claim& claim) {
    heard_[kState] = std::max(heard_[kState], ports_.time.now() + on_its_way());
    ports_.time.at(heard_[kState],
                   [this, alive = weak_from_this(), connection = connection_, claim] {
                       const auto self = alive.lock();
                       if (self && (connection == connection_ || link_ == Link::kGone)) {
                           expects_ = claim;
                       }
                   });
}

// ---- requests ----

void SimInterpreter::serve(const jupyter::Message& request) {
    const auto header = header_of(request);
    if (header.msg_type == "execute_request") {
        expect_run(request);
    } else {
        occupied(up_to(options_.question_ms_max),
                 [this, request, type = header.msg_type] { answer(request, type); });
    }
}

void SimInterpreter::answer(const jupyter::Message& request, const std::string& type) {
    constexpr std::string_view kRequest = "request";
    say(kIopub, "status", request.header, R"({"execution_state": "busy"})");
    if (type.ends_with(kRequest)) {
        say(kShell, type.substr(0, type.size() - kRequest.size()) + "reply", request.header,
            R"({"status": "ok"})");
    } else {
        const auto header = header_of(request);
        ports_.began(header.session, header.msg_id, who_);
    }
    say(kIopub, "status", request.header, R"({"execution_state": "idle"})");
}

void SimInterpreter::expect_run(const jupyter::Message& request) {
    if (ordered_ && ordered_->msg_id == header_of(request).msg_id) {
        begin(request);
        return;
    }
    awaits_run_ = request;
    later(kRunWait, [this, wait = ++waits_] {
        if (awaits_run_ && wait == waits_) {
            drop(*std::exchange(awaits_run_, std::nullopt));
            work_on();
        }
    });
    work_on();
}

void SimInterpreter::refuse(const jupyter::Message& request) {
    say(kIopub, "status", request.header, R"({"execution_state": "busy"})");
    say(kShell, "execute_reply", request.header,
        R"({"status": "error", "ename": "NotebookOSError", "execution_count": 0})");
    say(kIopub, "status", request.header, R"({"execution_state": "idle"})");
}

// Of an agent that is gone.
void SimInterpreter::drop(const jupyter::Message& request) {
    say(kIopub, "status", request.header, R"({"execution_state": "busy"})");
    say(kIopub, "status", request.header, R"({"execution_state": "idle"})");
}

// ---- cells ----

std::string SimInterpreter::value(const std::string& key) const {
    const auto found = table_.entries().find(key);
    if (found == table_.entries().end()) {
        return {};
    }
    Reader in(found->second.view());
    in.get<std::uint32_t>();
    in.get<std::uint8_t>();
    return in.string();
}

void SimInterpreter::begin(const jupyter::Message& request) {
    const auto order = *std::exchange(ordered_, std::nullopt);
    if (order.base != sequence_) {
        report_delta(order, {}, "the interpreter has another state");
        refuse(request);
        work_on();
        return;
    }
    busy_ = true;
    const auto header = header_of(request);
    Running cell{.number = ++last_cell_, .order = order, .parent = request.header};
    std::istringstream words(jupyter::string_field(request.content, "code"));
    words >> cell.op >> cell.name >> cell.tag;
    const auto before = value("x:count");
    const auto spent = options_.forgets_spent_counts ? 0 : order.spent_counts;
    cell.count = (before.empty() ? 0 : std::stoull(before)) + spent + 1;
    const auto half = up_to(options_.cell_ms_max / 2);
    cell.rest = up_to(options_.cell_ms_max / 2) + milliseconds(1);
    running_ = cell;
    kept_ = Kept{.order = order, .messages = {}, .delta = {}};
    ports_.began(header.session, header.msg_id, who_);
    say(kIopub, "status", cell.parent, R"({"execution_state": "busy"})");
    say(kIopub, "execute_input", cell.parent,
        fmt::format(R"({{"code": "", "execution_count": {}}})", cell.count));
    say(kIopub, "stream", cell.parent,
        fmt::format(R"({{"name": "stdout", "text": "by {}\n"}})", who_));
    const auto same = [this, number = cell.number] {
        return running_ && running_->number == number;
    };
    later(half, [this, same] {
        if (same()) {
            middle();
        }
    });
    if (cell.op != "input") {
        later(half + cell.rest, [this, same] {
            if (same()) {
                end(running_->op == "fail" ? "UserError" : "");
            }
        });
    }
}

void SimInterpreter::middle() {
    if (running_->op == "die") {
        crash();
        return;
    }
    if (running_->op == "input") {
        running_->asks = true;
        say(kStdin, "input_request", running_->parent, R"({"prompt": "?", "password": false})");
        return;
    }
    running_->changed = true;
    say(kIopub, "stream", running_->parent,
        fmt::format(R"({{"name": "stdout", "text": "by {}\n"}})", who_));
}

std::string SimInterpreter::holds(const Running& cell) const {
    std::string text = cell.op == "read" ? "holds-all" : "holds";
    for (const auto& [key, unused] : table_.entries()) {
        const bool shown = key.starts_with("n:") && (cell.op == "read" || key == "n:" + cell.name);
        text += shown ? " " + key.substr(2) + "=" + value(key) : "";
    }
    return text;
}

std::string SimInterpreter::delta_of(const Running& cell) const {
    const auto key = "n:" + cell.name;
    const auto before = value(key);
    Delta delta;
    delta.put("x:count", std::to_string(cell.count));
    if (cell.changed && cell.op == "add") {
        delta.put(key, std::to_string((before.empty() ? 0 : std::stoull(before)) + 1));
    } else if (cell.changed && cell.op != "read") {
        delta.put(key, before + (before.empty() ? "" : ",") + cell.tag);
    }
    return delta.str();
}

void SimInterpreter::end(std::string_view ename) {
    const auto cell = *std::exchange(running_, std::nullopt);
    const auto delta = delta_of(cell);
    (void)table_.apply(delta);
    sequence_ = Sequence{cell.order.base.value + 1};
    say(kIopub, "stream", cell.parent,
        fmt::format(R"({{"name": "stdout", "text": "{}\n"}})", holds(cell)));
    if (!ename.empty()) {
        say(kIopub, "error", cell.parent,
            fmt::format(R"({{"ename": "{}", "evalue": "", "traceback": []}})", ename));
    }
    if (kept_) {
        kept_->delta = Bytes(delta);
    }
    report_delta(cell.order, Bytes(delta), "");
    const auto content =
        ename.empty()
            ? fmt::format(R"({{"status": "ok", "execution_count": {}}})", cell.count)
            : fmt::format(R"({{"status": "error", "ename": "{}", "execution_count": {}}})", ename,
                          cell.count);
    auto reply = ports_.factory.make(Channel::kShell, "execute_reply", adoption_.session,
                                     cell.parent, content);
    ports_.replied(adoption_.kernel, reply);
    publish(kShell, std::move(reply));
    say(kIopub, "status", cell.parent, R"({"execution_state": "idle"})");
    busy_ = false;
    work_on();
}

}  // namespace nbos::testing
