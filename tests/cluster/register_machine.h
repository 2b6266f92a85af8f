// A replicated map of registers, as an application of the Raft simulator: commands are applied from
// the log, and a client's request takes effect once however often it was proposed.
//
// A client has one request under way at a time and numbers them from 1. The machine keeps the last
// one of each client with its answer; one with the same number is a repeat, one with a lower number
// is late and void. This is the application's share; of the copies of one proposal the core takes
// care (raft::ProposalId), and with `once` off it is left to the core alone.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "model/ids.h"
#include "raft/messages.h"
#include "tests/cluster/register_model.h"

namespace nbos::testing {

struct RegisterCommand {
    std::uint32_t client = 0;
    std::uint32_t number = 0;
    RegisterCall call;
};

Bytes encode(const RegisterCommand& command);
std::optional<RegisterCommand> decode_register_command(std::string_view data);

class RegisterMachine {
public:
    explicit RegisterMachine(bool once) : once_(once) {}

    struct Answer {
        RegisterCommand command;
        RegisterResult result;
        bool is_repeat = false;
    };
    // nullopt: void, or not a command of ours.
    std::optional<Answer> apply(const raft::Entry& entry);

    Index applied() const { return applied_; }
    RegisterValue value(RegisterKey key) const;
    // The answer to this request, if it is the client's last one.
    std::optional<RegisterResult> answer(std::uint32_t client, std::uint32_t number) const;

    Bytes snapshot() const;
    void restore(const raft::Snapshot& snapshot, bool with_sessions = true);

private:
    struct Session {
        std::uint32_t number = 0;
        bool is_set = false;  // all that there is to a result of a command
    };

    bool once_;
    Index applied_;
    std::map<RegisterKey, RegisterValue> values_;
    std::map<std::uint32_t, Session> sessions_;
};

}  // namespace nbos::testing
