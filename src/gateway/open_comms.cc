#include "gateway/open_comms.h"

#include <utility>

#include "base/log.h"

namespace nbos::gateway {

std::vector<std::string> OpenComms::used(const std::string& id, const Home& at) {
    if (id.empty() || id.size() > kCommIdBytesMax) {
        return {};
    }
    auto dead = home() && *home() != at ? take_all() : std::vector<std::string>();
    home_ = at;
    if (ids_.size() < kOpenCommsMax) {
        ids_.insert(id);
    } else if (!ids_.contains(id)) {
        log_warning("gateway", "more than {} comms are open in one kernel: {} is not watched",
                    kOpenCommsMax, id);
    }
    return dead;
}

std::vector<std::string> OpenComms::take_all() {
    home_.reset();
    const auto ids = std::exchange(ids_, {});
    return {ids.begin(), ids.end()};
}

}  // namespace nbos::gateway
