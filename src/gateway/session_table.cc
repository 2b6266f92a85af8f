#include "gateway/session_table.h"

#include <algorithm>
#include <utility>

namespace nbos::gateway {

Session& SessionTable::put(Session session) {
    const auto id = session.model.id;
    return sessions_[id] = std::move(session);
}

bool SessionTable::remove(const std::string& id) { return sessions_.erase(id) > 0; }

Session* SessionTable::find(const std::string& id) {
    const auto found = sessions_.find(id);
    return found == sessions_.end() ? nullptr : &found->second;
}

std::string SessionTable::path_of(KernelId kernel) const {
    const auto found = std::find_if(sessions_.begin(), sessions_.end(), [&](const auto& session) {
        return session.second.kernel == kernel;
    });
    return found == sessions_.end() ? std::string() : found->second.model.path;
}

}  // namespace nbos::gateway
