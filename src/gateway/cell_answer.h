// What a client is told at the end of a cell that brings no reply: one rule, whoever asked and
// through whichever gateway.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cluster/rpc.h"

namespace nbos::gateway {

struct CellFailure {
    std::string_view ename;
    std::string evalue;
};

// nullopt: no user code of it has begun, and it is answered as aborted.
std::optional<CellFailure> failure_of(const cluster::CellEnded& ended);

}  // namespace nbos::gateway
