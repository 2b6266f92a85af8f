// A Jupyter connection file: where a kernel binds its sockets, and the key that signs messages.
//
// Source   jupyter_client documentation, "Making kernels for Jupyter", connection files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace nbos::jupyter {

struct ConnectionFile {
    std::string transport = "tcp";  // or "ipc"
    std::string ip = "127.0.0.1";   // for ipc: the path that endpoints begin with
    std::uint16_t shell_port = 0;
    std::uint16_t iopub_port = 0;
    std::uint16_t stdin_port = 0;
    std::uint16_t control_port = 0;
    std::uint16_t hb_port = 0;
    std::string key;  // a secret; empty: messages are not signed
    bool operator==(const ConnectionFile&) const = default;

    // "tcp://127.0.0.1:5555", "ipc:///path-5"
    std::string endpoint(std::uint16_t port) const;
};

// kInvalid, naming the field that is missing or wrong. Never quotes the key.
Result<ConnectionFile> parse_connection_file(std::string_view json);

}  // namespace nbos::jupyter
