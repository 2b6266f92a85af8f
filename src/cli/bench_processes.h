// The forked processes of a benchmark, each at the other end of two pipes.
//
// Threads  Fork before any thread is started.
// Errors   A process that has ended answers nothing: false.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace nbos::cli {

class BenchProcesses {
public:
    // The body of a process; its result is the exit code. The pipe from here ends when this object
    // does: then the process must end, too.
    using Body = std::function<int(int from_parent, int to_parent)>;

    BenchProcesses() = default;
    ~BenchProcesses();  // kills those that are left
    BenchProcesses(const BenchProcesses&) = delete;
    BenchProcesses& operator=(const BenchProcesses&) = delete;

    void fork(const Body& body);
    void kill(std::size_t n);  // at once, as a lost host would be
    bool alive(std::size_t n) const { return children_[n].pid > 0; }
    std::size_t size() const { return children_.size(); }
    bool write(std::size_t n, char command);
    bool read(std::size_t n, void* data, std::size_t size);  // waits for all of it

private:
    struct Child {
        pid_t pid = -1;
        int to_child = -1;
        int from_child = -1;
    };
    std::vector<Child> children_;
};

bool write_all(int fd, const void* data, std::size_t size);

std::string free_loopback_address();  // "127.0.0.1:port", free a moment ago

}  // namespace nbos::cli
