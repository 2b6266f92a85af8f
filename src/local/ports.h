// Which TCP ports of this machine can be listened on, now. Another program may take one at any
// moment after; whoever listens then still has to say so.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace nbos::local {

bool can_listen(const std::string& ip, std::uint16_t port);
// One that the system chooses; nullopt when the address is none of this machine.
std::optional<std::uint16_t> unused_port(const std::string& ip);

}  // namespace nbos::local
