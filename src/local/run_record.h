// What is running, written down: DATA/run.json. The command line finds the gateway by it, and
// `nbos down` finds every process, even after the supervisor has been killed.
//
// Written whole and renamed into place, mode 0600. It holds no secret.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "local/process.h"

namespace nbos::local {

struct RunningProcess {
    std::string name;  // "supervisor", "gateway", "lab", "host-1"
    ProcessId id;
    std::string address;  // where it listens, "ip:port"; empty for the supervisor
};

struct RunRecord {
    std::string gateway_url;  // http://127.0.0.1:PORT, without the token
    std::string lab_url;      // empty without JupyterLab
    std::string workspace;
    bool ready = false;  // everything has answered once
    std::vector<RunningProcess> processes;

    const RunningProcess* find(std::string_view name) const;
};

std::string to_json(const RunRecord& record);
Result<RunRecord> parse_run_record(std::string_view text);

Status write_run_record(const std::filesystem::path& file, const RunRecord& record);
// nullopt: there is no such file, so nothing has been started here, or it was stopped.
Result<std::optional<RunRecord>> read_run_record(const std::filesystem::path& file);

}  // namespace nbos::local
