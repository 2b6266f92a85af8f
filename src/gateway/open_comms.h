// The comms (Jupyter's channels between widgets and their Python objects) that are open in one
// kernel, and the process that they live in.
//
// A comm is no part of the replicated state: it ends with its interpreter, and a widget that is not
// told so looks alive and does nothing. Hence this table: whoever sees that the process is another
// one takes the ids and closes them towards the clients.
//
// Limits   kOpenCommsMax of a kernel, kCommIdBytesMax of an id: what is above is not remembered.
// Threads  The loop thread.
#pragma once

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "model/ids.h"

namespace nbos::gateway {

constexpr std::size_t kOpenCommsMax = 10'000;
constexpr std::size_t kCommIdBytesMax = 128;

class OpenComms {
public:
    struct Home {
        HostId host;
        std::string process;  // cluster::KernelStatus::process
        bool operator==(const Home&) const = default;
    };

    // A message of the comm went to `at` or came from there. Returned: those that lived elsewhere
    // before; they are forgotten.
    std::vector<std::string> used(const std::string& id, const Home& at);
    void closed(const std::string& id) { ids_.erase(id); }
    std::vector<std::string> take_all();
    // Empty when no comm is open.
    std::optional<Home> home() const { return ids_.empty() ? std::nullopt : home_; }

private:
    std::optional<Home> home_;
    std::set<std::string> ids_;
};

}  // namespace nbos::gateway
