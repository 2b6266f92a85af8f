// What the rows of the shared tables mean: "kernel/ID" and "session/ID" (docs/design/0009).
//
// Errors   Rows come from other gateways, of other versions perhaps: what does not decode is
//          nullopt, and left alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "cluster/rpc.h"
#include "gateway/session_table.h"
#include "model/ids.h"
#include "model/membership.h"

namespace nbos::gateway {

struct KernelRow {
    enum class State : std::uint8_t {
        kOpen,
        kParked,   // shut down: its replicas stay, nobody sees it
        kDeleted,  // its replicas are stopped, wherever they show up
    };
    State state = State::kOpen;
    std::string spec;
    std::chrono::microseconds until{};  // wall clock: parked until then; deleted at that time
    std::string path;  // of the notebook that takes a parked one up again; empty: who knows its id
    // What its first members are started with, until they have been seen to work: whoever comes
    // after a gateway that died in between starts them.
    struct Start {
        Membership members;
        replica::KernelOptions options;
        bool operator==(const Start&) const = default;
    };
    std::optional<Start> start;
    bool operator==(const KernelRow&) const = default;
};

Bytes encode(const KernelRow& row);
std::optional<KernelRow> decode_kernel_row(std::string_view bytes);
Bytes encode(const Session& session);  // without its id, which is in the key
std::optional<Session> decode_session_row(const std::string& id, std::string_view bytes);

std::string kernel_key(KernelId kernel);
std::string session_key(const std::string& session);
std::optional<KernelId> kernel_of(std::string_view key);
std::optional<std::string> session_of(std::string_view key);

}  // namespace nbos::gateway
