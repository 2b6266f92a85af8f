#include "tests/cluster/platform_interpreters.h"

#include <fmt/core.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "jupyter/json_field.h"
#include "jupyter/json_text.h"
#include "tests/support/delta.h"

namespace nbos::testing {

using agent::InterpreterId;
using agent::InterpreterListener;
using jupyter::Channel;

void PlatformInterpreters::with(InterpreterId id, const std::function<void(Process&)>& work) {
    if (const auto found = processes_.find(id); found != processes_.end()) {
        work(found->second);
    }
}

void PlatformInterpreters::later(InterpreterId id, milliseconds delay,
                                 std::function<void(Process&)> work) {
    ports_.time.after(delay, [this, id, work = std::move(work)] { with(id, work); });
}

void PlatformInterpreters::command(InterpreterId id, std::function<void(Process&)> work) {
    with(id, [&](Process& process) {
        process.commands.push_back(std::move(work));
        next_command(process);
    });
}

void PlatformInterpreters::next_command(Process& process) {
    if (process.works || process.commands.empty()) {
        return;
    }
    process.works = true;
    auto work = std::move(process.commands.front());
    process.commands.pop_front();
    const auto took = ports_.rng.below(static_cast<std::uint64_t>(options_.command_ms_max) + 1);
    later(process.id, milliseconds(took), std::move(work));
}

void PlatformInterpreters::done(Process& process) {
    process.works = false;
    next_command(process);
}

// In order per socket; the process may be gone when it arrives.
void PlatformInterpreters::report(Process& process, Socket socket, Report report) {
    auto& last = process.said[socket];
    const auto delay = std::chrono::microseconds(
        50 + ports_.rng.below(static_cast<std::uint64_t>(options_.socket_us_max)));
    last = std::max(last, ports_.time.now() + delay);
    ports_.time.at(last, [this, id = process.id, report = std::move(report)] {
        if (processes_.contains(id)) {
            ports_.to_agent(report);
        }
    });
}

void PlatformInterpreters::say(Process& process, Socket socket, std::string_view type,
                               const std::string& parent, std::string content) {
    const auto channel = socket == kShell ? Channel::kShell : Channel::kIopub;
    auto message = ports_.factory.make(channel, type, process.session, parent, std::move(content));
    report(process, socket, [id = process.id, message = std::move(message)](auto& agent) {
        agent.interpreter_message(id, message);
    });
}

// ---- commands ----

InterpreterId PlatformInterpreters::start(const agent::Adoption& adoption) {
    const InterpreterId id{++last_id_};
    auto& process = processes_[id];
    process.id = id;
    process.kernel = adoption.kernel;
    process.session = adoption.session;
    const auto took = 5 + ports_.rng.below(static_cast<std::uint64_t>(options_.start_ms_max));
    later(id, milliseconds(took), [this, id](Process& started) {
        report(started, kState, [id](auto& agent) { agent.interpreter_ready(id); });
        done(started);
    });
    return id;
}

void PlatformInterpreters::load(InterpreterId id, Sequence sequence, Bytes table) {
    command(id, [this, id, sequence, table = std::move(table)](Process& process) {
        process.table.clear();
        const bool good = process.table.apply(table.view()).has_value();
        report(process, kState, [=](auto& agent) {
            agent.interpreter_applied(id, sequence, good, good ? "" : "malformed");
        });
        done(process);
    });
}

void PlatformInterpreters::apply(InterpreterId id, Sequence, Sequence sequence, Bytes delta) {
    command(id, [this, id, sequence, delta = std::move(delta)](Process& process) {
        const bool good =
            options_.standby_skips_deltas || process.table.apply(delta.view()).has_value();
        report(process, kState, [=](auto& agent) {
            agent.interpreter_applied(id, sequence, good, good ? "" : "malformed");
        });
        done(process);
    });
}

void PlatformInterpreters::run(InterpreterId id, const agent::RunOrder& order) {
    command(id, [this, order](Process& process) {
        process.order = order;
        done(process);
    });
}

void PlatformInterpreters::send(InterpreterId id, const jupyter::Message& message) {
    command(id, [this, message](Process& process) {
        const auto header = jupyter::parse_header(message.header).value_or(jupyter::Header{});
        if (header.msg_type == "execute_request") {
            begin(process, message);
        } else {
            answer(process, message, header.msg_type);
        }
    });
}

void PlatformInterpreters::answer(Process& process, const jupyter::Message& request,
                                  const std::string& type) {
    if (!type.ends_with("_request")) {
        done(process);
        return;
    }
    say(process, kIopub, "status", request.header, R"({"execution_state": "busy"})");
    say(process, kShell, type.substr(0, type.size() - 7) + "reply", request.header,
        R"({"status": "ok"})");
    say(process, kIopub, "status", request.header, R"({"execution_state": "idle"})");
    done(process);
}

void PlatformInterpreters::interrupt(InterpreterId id) {
    later(id, milliseconds(1), [this](Process& process) {
        if (process.running) {
            end(process, "KeyboardInterrupt");
        }
    });
}

void PlatformInterpreters::crash(InterpreterId id) {
    later(id, milliseconds(1), [this, id](Process&) {
        processes_.erase(id);
        ports_.to_agent([id](auto& agent) { agent.interpreter_ended(id, "killed by signal 9"); });
    });
}

void PlatformInterpreters::kill_all(const std::string& why) {
    for (const auto& [id, process] : std::exchange(processes_, {})) {
        ports_.to_agent([id = id, why](auto& agent) { agent.interpreter_ended(id, why); });
    }
}

void PlatformInterpreters::discard(InterpreterId id) { processes_.erase(id); }

std::size_t PlatformInterpreters::running_cells() const {
    return static_cast<std::size_t>(
        std::count_if(processes_.begin(), processes_.end(),
                      [](const auto& entry) { return entry.second.running.has_value(); }));
}

// ---- cells ----

std::string PlatformInterpreters::value(const Process& process, const std::string& key) const {
    const auto found = process.table.entries().find(key);
    if (found == process.table.entries().end()) {
        return {};
    }
    Reader in(found->second.view());
    in.get<std::uint32_t>();
    in.get<std::uint8_t>();
    return in.string();
}

void PlatformInterpreters::begin(Process& process, const jupyter::Message& request) {
    const auto header = jupyter::parse_header(request.header).value_or(jupyter::Header{});
    Running cell{.number = ++last_cell_, .parent = request.header};
    std::istringstream words(jupyter::string_field(request.content, "code"));
    words >> cell.op >> cell.name >> cell.tag;
    const auto before = value(process, "x:count");
    const auto spent = options_.forgets_spent_counts ? 0 : process.order.spent_counts;
    cell.count = (before.empty() ? 0 : std::stoull(before)) + spent + 1;
    process.running = cell;
    ports_.began(header.session, header.msg_id, who(process));
    say(process, kIopub, "status", cell.parent, R"({"execution_state": "busy"})");
    say(process, kIopub, "execute_input", cell.parent,
        fmt::format(R"({{"code": "", "execution_count": {}}})", cell.count));
    say(process, kIopub, "stream", cell.parent,
        fmt::format(R"({{"name": "stdout", "text": "by {}\n"}})", who(process)));
    const auto most = static_cast<std::uint64_t>(options_.cell_ms_max);
    const auto half = ports_.rng.below(most / 2 + 1);
    const auto rest = ports_.rng.below(most / 2 + 1);
    const auto same = [number = cell.number](const Process& p) {
        return p.running && p.running->number == number;
    };
    later(process.id, milliseconds(half), [this, same](Process& p) {
        if (same(p)) {
            middle(p);
        }
    });
    later(process.id, milliseconds(half + rest + 1), [this, same](Process& p) {
        if (same(p)) {
            end(p, p.running->op == "fail" ? "UserError" : "");
        }
    });
}

void PlatformInterpreters::middle(Process& process) {
    if (process.running->op == "die") {
        crash(process.id);
        return;
    }
    process.running->changed = true;
    say(process, kIopub, "stream", process.running->parent,
        fmt::format(R"({{"name": "stdout", "text": "by {}\n"}})", who(process)));
}

std::string PlatformInterpreters::holds(const Process& process, const Running& cell) const {
    std::string text = cell.op == "read" ? "holds-all" : "holds";
    for (const auto& [key, unused] : process.table.entries()) {
        const bool shown = key.starts_with("n:") && (cell.op == "read" || key == "n:" + cell.name);
        text += shown ? " " + key.substr(2) + "=" + value(process, key) : "";
    }
    return text;
}

void PlatformInterpreters::end(Process& process, std::string_view ename) {
    const auto cell = *std::exchange(process.running, std::nullopt);
    const auto key = "n:" + cell.name;
    Delta delta;
    delta.put("x:count", std::to_string(cell.count));
    const auto before = value(process, key);
    if (cell.changed && cell.op == "add") {
        delta.put(key, std::to_string((before.empty() ? 0 : std::stoull(before)) + 1));
    } else if (cell.changed && (cell.op == "append" || cell.op == "fail")) {
        delta.put(key, before + (before.empty() ? "" : ",") + cell.tag);
    }
    const auto bytes = delta.str();
    (void)process.table.apply(bytes);
    say(process, kIopub, "stream", cell.parent,
        fmt::format(R"({{"name": "stdout", "text": "{}\n"}})", holds(process, cell)));
    if (!ename.empty()) {
        say(process, kIopub, "error", cell.parent,
            fmt::format(R"({{"ename": "{}", "evalue": "", "traceback": []}})", ename));
    }
    report(process, kState,
           [id = process.id, order = process.order, bytes = Bytes(bytes)](auto& agent) {
               agent.interpreter_delta(id, order.cell, order.epoch, bytes, "");
           });
    const auto content =
        ename.empty()
            ? fmt::format(R"({{"status": "ok", "execution_count": {}}})", cell.count)
            : fmt::format(R"({{"status": "error", "ename": "{}", "execution_count": {}}})", ename,
                          cell.count);
    auto reply = ports_.factory.make(Channel::kShell, "execute_reply", process.session, cell.parent,
                                     content);
    ports_.replied(process.kernel, reply);
    report(process, kShell, [id = process.id, reply = std::move(reply)](auto& agent) {
        agent.interpreter_message(id, reply);
    });
    say(process, kIopub, "status", cell.parent, R"({"execution_state": "idle"})");
    done(process);
}

}  // namespace nbos::testing
