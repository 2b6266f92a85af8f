#include "tests/support/fake_interpreters.h"

#include <sstream>
#include <utility>

#include "base/wire.h"
#include "jupyter/json_field.h"

namespace nbos::testing {

using agent::InterpreterId;
using jupyter::Channel;

Bytes delta_binding(const std::string& name, const std::string& value) {
    Writer inner;
    inner.put(std::uint32_t{1}).put(std::uint8_t{0}).put(value);
    Writer out;
    out.put(std::uint8_t{1}).put(std::uint32_t{1}).put(std::uint8_t{1}).put("n:" + name);
    out.put(inner.take());
    return out.take_bytes();
}

std::map<std::string, std::string> bindings_in(const Bytes& delta) {
    std::map<std::string, std::string> out;
    if (delta.empty()) {
        return out;
    }
    Reader in(delta.view());
    in.get<std::uint8_t>();
    for (auto n = in.count(1); n > 0 && in.ok(); --n) {
        in.get<std::uint8_t>();
        const auto key = in.string();
        Reader value(in.text());
        value.get<std::uint32_t>();
        value.get<std::uint8_t>();
        out[key.substr(2)] = value.string();
    }
    return out;
}

bool FakeInterpreters::pump() {
    auto now = std::exchange(queue_, {});
    for (auto& [id, work] : now) {
        if (processes_.contains(id)) {
            work();
        }
    }
    return !now.empty();
}

std::optional<std::string> FakeInterpreters::value(KernelId kernel, const std::string& name) const {
    for (const auto& [id, process] : processes_) {
        if (process.kernel == kernel && process.names.contains(name)) {
            return process.names.at(name);
        }
    }
    return std::nullopt;
}

void FakeInterpreters::later(InterpreterId id, std::function<void()> work) {
    queue_.emplace_back(id, std::move(work));
}

InterpreterId FakeInterpreters::start(const agent::Adoption& adoption) {
    const InterpreterId id{++last_id_};
    processes_[id].kernel = adoption.kernel;
    later(id, [this, id] { listener_->interpreter_ready(id); });
    return id;
}

void FakeInterpreters::merge(InterpreterId id, Sequence sequence, const Bytes& delta) {
    for (auto& [name, value] : bindings_in(delta)) {
        processes_[id].names[name] = value;
    }
    listener_->interpreter_applied(id, sequence, true, "");
}

void FakeInterpreters::load(InterpreterId id, Sequence sequence, Bytes table) {
    later(id, [this, id, sequence, table] {
        processes_[id].names.clear();
        merge(id, sequence, table);
    });
}

void FakeInterpreters::apply(InterpreterId id, Sequence, Sequence sequence, Bytes delta) {
    later(id, [this, id, sequence, delta] { merge(id, sequence, delta); });
}

void FakeInterpreters::run(InterpreterId id, const agent::RunOrder& order) {
    processes_[id].cell = order.cell;
    processes_[id].epoch = order.epoch;
}

void FakeInterpreters::send(InterpreterId id, const jupyter::Message& message) {
    if (message.channel == Channel::kShell) {
        later(id, [this, id, message] {
            execute(id, message.header, jupyter::string_field(message.content, "code"));
        });
    }
}

void FakeInterpreters::execute(InterpreterId id, const std::string& header,
                               const std::string& code) {
    auto& process = processes_[id];
    std::istringstream words(code);
    std::string command;
    std::string name;
    std::string value;
    words >> command >> name >> value;
    say(id, Channel::kIopub, "status", header, R"({"execution_state": "busy"})");
    if (command == "set") {
        process.names[name] = value;
        end_cell(id, header, true, "set " + name, delta_binding(name, value));
    } else if (command == "mute") {
        say(id, Channel::kIopub, "status", header, R"({"execution_state": "idle"})");
    } else if (command == "hang") {
        process.hanging = header;
        process.catches_interrupts = name == "on";
    } else {
        const bool found = command == "get" && process.names.contains(name);
        end_cell(id, header, found, found ? process.names[name] : "no " + name, Bytes());
    }
}

void FakeInterpreters::end_cell(InterpreterId id, const std::string& header, bool good,
                                const std::string& printed, Bytes delta) {
    say(id, Channel::kIopub, "stream", header, R"({"name": "stdout", "text": ")" + printed + "\"}");
    listener_->interpreter_delta(id, processes_[id].cell, processes_[id].epoch, std::move(delta),
                                 "");
    say(id, Channel::kShell, "execute_reply", header,
        std::string(R"({"status": ")") + (good ? "ok" : "error") + R"("})");
    say(id, Channel::kIopub, "status", header, R"({"execution_state": "idle"})");
}

void FakeInterpreters::say(InterpreterId id, Channel channel, const std::string& type,
                           const std::string& parent, const std::string& content) {
    jupyter::Message message;
    message.channel = channel;
    message.header =
        R"({"msg_id": "m)" + std::to_string(++messages_) + R"(", "msg_type": ")" + type + "\"}";
    message.parent_header = parent;
    message.metadata = "{}";
    message.content = content;
    listener_->interpreter_message(id, std::move(message));
}

void FakeInterpreters::print(const std::string& text) {
    for (const auto& [id, process] : processes_) {
        if (process.hanging) {
            say(id, Channel::kIopub, "stream", *process.hanging,
                R"({"name": "stdout", "text": ")" + text + "\"}");
        }
    }
}

void FakeInterpreters::drop_request(const std::string& header) {
    for (const auto& [id, process] : processes_) {
        later(id, [this, id = id, header] {
            say(id, Channel::kIopub, "status", header, R"({"execution_state": "busy"})");
            say(id, Channel::kShell, "execute_reply", header, R"({"status": "error"})");
            say(id, Channel::kIopub, "status", header, R"({"execution_state": "idle"})");
        });
    }
}

void FakeInterpreters::finish_hanging() {
    for (auto& [id, process] : processes_) {
        if (const auto header = std::exchange(process.hanging, std::nullopt)) {
            later(id, [this, id = id, header] { end_cell(id, *header, true, "done", Bytes()); });
        }
    }
}

void FakeInterpreters::interrupt(InterpreterId id) {
    if (const auto header = std::exchange(processes_[id].hanging, std::nullopt)) {
        const bool well = processes_[id].catches_interrupts;
        later(id,
              [this, id, header, well] { end_cell(id, *header, well, "interrupted", Bytes()); });
    }
}

void FakeInterpreters::crash(InterpreterId id) {
    later(id, [this, id] {
        processes_.erase(id);
        listener_->interpreter_ended(id, "killed by the test");
    });
}

void FakeInterpreters::crash_all() {
    for (const auto& [id, process] : processes_) {
        crash(id);
    }
}

void FakeInterpreters::drop_all() {
    processes_.clear();
    queue_.clear();
}

void FakeInterpreters::discard(InterpreterId id) { processes_.erase(id); }

}  // namespace nbos::testing
