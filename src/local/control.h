// How the command line talks to a running supervisor: one JSON object a line each way, over a Unix
// socket of mode 0600 in the data directory.
//
// Requests  {"op": "status"} | {"op": "down"} | {"op": "host-kill" or "host-start", "host": ID}
// Answers   {"ok": true, ...} | {"ok": false, "error": TEXT}
// Limits    A line is at most 64 KiB; a peer that stalls for two seconds is dropped.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace nbos::local {

class ControlServer {
public:
    // kIo: the socket cannot be made (a path of 108 bytes or more, for one).
    static Result<ControlServer> open(const std::filesystem::path& socket);
    ControlServer(ControlServer&& other) noexcept;
    ControlServer& operator=(ControlServer&& other) noexcept;
    ControlServer(const ControlServer&) = delete;
    ControlServer& operator=(const ControlServer&) = delete;
    ~ControlServer();

    int descriptor() const { return fd_; }  // readable: call serve_one()
    // Answers one request; `answer` maps a line to a line.
    void serve_one(const std::function<std::string(std::string_view)>& answer);

private:
    explicit ControlServer(int fd) : fd_(fd) {}
    int fd_ = -1;
};

// kNotFound: no supervisor listens there. kTimeout: it did not answer in time.
Result<std::string> control_call(const std::filesystem::path& socket, std::string_view request,
                                 std::chrono::milliseconds limit);

}  // namespace nbos::local
