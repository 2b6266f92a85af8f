// Jupyter sessions: which notebook path has which kernel. Only direct clients use them; behind a
// jupyter_server that server keeps its own.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "jupyter/rest_models.h"
#include "model/ids.h"

namespace nbos::gateway {

struct Session {
    jupyter::SessionModel model;
    KernelId kernel;
};

// A kernel that was shut down and can still be taken up again.
struct Parked {
    std::chrono::microseconds until{};  // wall clock; then it is deleted
    std::string path;  // of the notebook that takes it up again; empty: only who knows its id
};

class SessionTable {
public:
    Session& put(Session session);  // replaces one of the same id
    bool remove(const std::string& id);
    Session* find(const std::string& id);
    Session* find_path(const std::string& path);
    std::string path_of(KernelId kernel) const;  // empty: it has no session
    std::size_t remove_kernel(KernelId kernel);  // how many sessions it had
    std::map<std::string, Session>& all() { return sessions_; }
    const std::map<std::string, Session>& all() const { return sessions_; }

private:
    std::map<std::string, Session> sessions_;
};

// What a gateway saves of its own: names that agents do not report, or not while they are away.
struct SavedTables {
    std::map<KernelId, std::string> kernels;  // to the kernelspec; the parked ones, too
    std::map<KernelId, Parked> parked;
    std::set<KernelId> deleted;  // to be stopped when their hosts come back
    std::map<std::string, Session> sessions;
};

std::string to_json(const SavedTables& tables);
// Empty tables for an empty text; nullopt with a malformed one.
std::optional<SavedTables> parse_tables(std::string_view text);

}  // namespace nbos::gateway
