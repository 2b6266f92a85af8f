// What a broken invariant does in the consensus core: it stops the group, not the process.
//
// InvariantBroken is the one exception of ours: a process holds hundreds of groups, and the owner
// of a Node (GroupHost, or the simulator) catches it around each call, drops that node and says so.
#pragma once

#include <stdexcept>

namespace nbos::raft {

class InvariantBroken : public std::logic_error {
public:
    using std::logic_error::logic_error;
};

inline void require(bool holds, const char* what) {
    if (!holds) [[unlikely]] {
        throw InvariantBroken(what);
    }
}

}  // namespace nbos::raft
