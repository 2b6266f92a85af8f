// Where should a kernel's replicas run? A function of a view, shared by the gateway and the
// simulator.
//
// Units    A subscription is one replica on a host, whether it computes or not.
// Source   The paper's least-loaded placement, without GPUs for now: docs/design/0005-gateway.md.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/ids.h"

namespace nbos::policy {

struct HostView {
    HostId id;
    std::uint32_t subscribed = 0;  // replicas on it
    std::uint32_t cpus = 0;
    bool usable = true;  // reachable, and not being drained
};

struct PlacementRequest {
    std::uint32_t replicas = 3;
    std::set<HostId> excluded;  // hosts that hold a replica of this kernel already
};

struct Placement {
    std::vector<HostId> hosts;  // distinct; size == request.replicas
    std::string why;            // one line for the log and the CLI
};

class PlacementPolicy {
public:
    virtual ~PlacementPolicy() = default;

    virtual std::string_view name() const = 0;
    // Decides; does not act. Deterministic, whatever the order of `hosts`. kExhausted: too few
    // hosts, with how many there are and why the others do not count.
    virtual Result<Placement> place(const PlacementRequest& request,
                                    const std::vector<HostView>& hosts) const = 0;
};

// kInvalid, listing the known names, for an unknown one. Known: "least-subscribed".
Result<std::unique_ptr<PlacementPolicy>> make_placement_policy(std::string_view name);

}  // namespace nbos::policy
