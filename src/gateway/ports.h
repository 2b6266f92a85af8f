// What the gateway needs from the outside, as interfaces that io/ and cli/ implement and tests
// fake. All calls on the loop thread.
#pragma once

#include <string>

#include "cluster/rpc.h"
#include "model/ids.h"

namespace nbos::gateway {

// Messages to agents: best effort, in order while a connection lasts.
class AgentLink {
public:
    virtual ~AgentLink() = default;
    virtual void send(const HostId& host, const cluster::Rpc& rpc) = 0;
    // It is connected, but has not said a word for a second: slow, or about to be lost.
    virtual bool hesitates(const HostId&) const { return false; }
};

// Folders that new kernels may start in.
class Workspace {
public:
    virtual ~Workspace() = default;
    // `folder` (relative to the workspace, or absolute) as an absolute path; the workspace itself
    // when there is no such folder.
    virtual std::string resolve(const std::string& folder) const = 0;
};

}  // namespace nbos::gateway
