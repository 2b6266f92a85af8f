// Jupyter sessions: which notebook path has which kernel, as the shared tables say. Only direct
// clients use them; behind a jupyter_server that server keeps its own.
#pragma once

#include <map>
#include <string>

#include "jupyter/rest_models.h"
#include "model/ids.h"

namespace nbos::gateway {

struct Session {
    jupyter::SessionModel model;
    KernelId kernel;
};

class SessionTable {
public:
    Session& put(Session session);  // replaces one of the same id
    bool remove(const std::string& id);
    Session* find(const std::string& id);
    std::string path_of(KernelId kernel) const;  // empty: it has no session
    const std::map<std::string, Session>& all() const { return sessions_; }

private:
    std::map<std::string, Session> sessions_;
};

}  // namespace nbos::gateway
