#include "tests/cluster/register_machine.h"

#include "base/wire.h"

namespace nbos::testing {
namespace {

constexpr std::uint32_t kMagic = 0x52474D31;  // the log also has entries that are not ours

}  // namespace

Bytes encode(const RegisterCommand& command) {
    Writer out;
    out.put(kMagic).put(command.client).put(command.number);
    out.put(command.call.action).put(command.call.key);
    out.put(command.call.value).put(command.call.expected);
    return out.take_bytes();
}

std::optional<RegisterCommand> decode_register_command(std::string_view data) {
    Reader in(data);
    const bool is_ours = in.get<std::uint32_t>() == kMagic;
    RegisterCommand command;
    command.client = in.get<std::uint32_t>();
    command.number = in.get<std::uint32_t>();
    command.call.action = in.get<RegisterAction>();
    command.call.key = in.get<RegisterKey>();
    command.call.value = in.get<RegisterValue>();
    command.call.expected = in.get<RegisterValue>();
    return is_ours && in.done() ? std::optional(command) : std::nullopt;
}

std::optional<RegisterMachine::Answer> RegisterMachine::apply(const raft::Entry& entry) {
    applied_ = entry.index;
    if (entry.kind != raft::EntryKind::kCommand) {
        return std::nullopt;
    }
    const auto command = decode_register_command(entry.data.view());
    if (!command) {
        return std::nullopt;
    }
    auto& session = sessions_[command->client];
    if (once_ && command->number < session.number) {
        return std::nullopt;
    }
    if (once_ && command->number == session.number) {
        return Answer{*command, {0, session.is_set}, true};
    }
    const auto result = RegisterModel::apply(command->call, values_[command->call.key]);
    session = {command->number, result.is_set};
    return Answer{*command, result, false};
}

RegisterValue RegisterMachine::value(RegisterKey key) const {
    const auto it = values_.find(key);
    return it == values_.end() ? RegisterModel::initial() : it->second;
}

std::optional<RegisterResult> RegisterMachine::answer(std::uint32_t client,
                                                      std::uint32_t number) const {
    const auto it = sessions_.find(client);
    if (it == sessions_.end() || it->second.number != number) {
        return std::nullopt;
    }
    return RegisterResult{0, it->second.is_set};
}

Bytes RegisterMachine::snapshot() const {
    Writer out;
    out.put(static_cast<std::uint32_t>(values_.size()));
    for (const auto& [key, value] : values_) {
        out.put(key).put(value);
    }
    out.put(static_cast<std::uint32_t>(sessions_.size()));
    for (const auto& [client, session] : sessions_) {
        out.put(client).put(session.number).put(session.is_set);
    }
    return out.take_bytes();
}

void RegisterMachine::restore(const raft::Snapshot& snapshot, bool with_sessions) {
    values_.clear();
    sessions_.clear();
    applied_ = snapshot.index;
    Reader in(snapshot.state.view());
    for (auto left = in.get<std::uint32_t>(); left > 0 && in.ok(); --left) {
        const auto key = in.get<RegisterKey>();
        values_[key] = in.get<RegisterValue>();
    }
    for (auto left = in.get<std::uint32_t>(); left > 0 && in.ok(); --left) {
        const auto client = in.get<std::uint32_t>();
        const auto number = in.get<std::uint32_t>();
        sessions_[client] = {number, in.get<bool>()};
    }
    if (!with_sessions) {
        sessions_.clear();
    }
}

}  // namespace nbos::testing
