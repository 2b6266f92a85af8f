// The process of `nbos kernel-relay`: sockets, signals and calls around relay::Relay.
#pragma once

#include <string>

#include "cli/relay_gateway.h"
#include "jupyter/connection_file.h"

namespace nbos::cli {

// Until the kernel ends; the process's exit code. `file` is for messages only.
int run_kernel_relay(const jupyter::ConnectionFile& connection, const std::string& file,
                     const GatewayPlace& place, const KernelWanted& wanted);

}  // namespace nbos::cli
