#include "policy/placement.h"

#include <fmt/core.h>

#include <algorithm>
#include <tuple>

namespace nbos::policy {
namespace {

class LeastSubscribed final : public PlacementPolicy {
public:
    std::string_view name() const override { return "least-subscribed"; }

    Result<Placement> place(const PlacementRequest& request,
                            const std::vector<HostView>& hosts) const override {
        std::vector<HostView> fit;
        std::size_t unusable = 0;
        std::size_t excluded = 0;
        for (const auto& host : hosts) {
            if (!host.usable) {
                ++unusable;
            } else if (request.excluded.contains(host.id)) {
                ++excluded;
            } else {
                fit.push_back(host);
            }
        }
        if (fit.size() < request.replicas) {
            return Error{Errc::kExhausted, Certainty::kDidNotHappen,
                         fmt::format("{} more host{} needed, and {} of {} can take one ({} not "
                                     "reachable, {} hold a replica of this kernel already)",
                                     request.replicas, request.replicas == 1 ? " is" : "s are",
                                     fit.size(), hosts.size(), unusable, excluded)};
        }
        // Ties by id, so that the same view gives the same answer.
        std::sort(fit.begin(), fit.end(), [](const HostView& a, const HostView& b) {
            return std::tie(a.subscribed, a.id) < std::tie(b.subscribed, b.id);
        });
        Placement placement;
        for (std::size_t i = 0; i < request.replicas; ++i) {
            placement.why += fmt::format("{}{} ({} replicas)", i == 0 ? "least subscribed: " : ", ",
                                         fit[i].id.value, fit[i].subscribed);
            placement.hosts.push_back(fit[i].id);
        }
        return placement;
    }
};

}  // namespace

Result<std::unique_ptr<PlacementPolicy>> make_placement_policy(std::string_view name) {
    if (name == "least-subscribed") {
        return std::unique_ptr<PlacementPolicy>(std::make_unique<LeastSubscribed>());
    }
    return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                 fmt::format("unknown placement policy '{}'; known: least-subscribed", name)};
}

}  // namespace nbos::policy
