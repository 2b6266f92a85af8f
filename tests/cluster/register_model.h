// A map of registers, as the linearizability checker and the clients of the simulator know it.
// 0 is the value of a register that was never written.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "tests/cluster/linearizability.h"

namespace nbos::testing {

using RegisterKey = std::uint32_t;
using RegisterValue = std::uint32_t;

enum class RegisterAction : std::uint8_t { kRead, kWrite, kCompareAndSet };

struct RegisterCall {
    RegisterAction action = RegisterAction::kRead;
    RegisterKey key = 0;
    RegisterValue value = 0;     // kWrite, kCompareAndSet: the new one
    RegisterValue expected = 0;  // kCompareAndSet: the one it replaces
    bool operator==(const RegisterCall&) const = default;
};

struct RegisterResult {
    RegisterValue value = 0;  // kRead
    bool is_set = false;      // kWrite, kCompareAndSet
    bool operator==(const RegisterResult&) const = default;
};

struct RegisterModel {
    using Call = RegisterCall;
    using Result = RegisterResult;
    using State = RegisterValue;

    static RegisterKey key(const Call& call) { return call.key; }
    static State initial() { return 0; }
    static Result apply(const Call& call, State& state) {
        if (call.action == RegisterAction::kRead) {
            return {state, false};
        }
        if (call.action == RegisterAction::kCompareAndSet && state != call.expected) {
            return {0, false};
        }
        state = call.value;
        return {0, true};
    }
    static std::string describe_key(RegisterKey key) { return "register " + std::to_string(key); }
    static std::string describe(const Call& call) {
        switch (call.action) {
            case RegisterAction::kRead:
                return "read";
            case RegisterAction::kWrite:
                return "write " + std::to_string(call.value);
            case RegisterAction::kCompareAndSet:
                break;
        }
        return "set " + std::to_string(call.value) + " if " + std::to_string(call.expected);
    }
    static std::string describe(const Call& call, const Result& result) {
        if (call.action == RegisterAction::kRead) {
            return std::to_string(result.value);
        }
        return result.is_set ? "done" : "refused";
    }
};

using RegisterHistory = History<RegisterModel>;

}  // namespace nbos::testing
