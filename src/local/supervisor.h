// `nbos up`: starts gateways, the hosts and JupyterLab, and keeps them going.
//
// A gateway, a JupyterLab or an agent that ends by itself is started again, after a growing pause;
// a host that was killed on purpose stays down until it is started on purpose. What runs is written
// to run.json at every change, so that `nbos down` can end it without the supervisor.
//
// Threads  One: it forks (local/spawn.h). The signals it watches must be blocked from start() on;
//          it does that itself.
// Errors   Say what to do, and end with the last lines of the log of what would not start.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "local/control.h"
#include "local/plan.h"
#include "local/run_record.h"

namespace nbos::local {

class Supervisor {
public:
    // How far the start is: percent, and what is going on.
    using Report = std::function<void(int percent, std::string_view what)>;

    explicit Supervisor(UpOptions options);
    ~Supervisor();
    Supervisor(const Supervisor&) = delete;
    Supervisor& operator=(const Supervisor&) = delete;

    // Returns when everything answers. On an error everything has been stopped again.
    Status start(const Report& report);
    // Until SIGINT, SIGTERM or `nbos down`; then stops everything.
    void serve();

    const RunRecord& record() const { return record_; }
    // After start(): what the user should know of hosts that did not start. Empty: all did.
    const std::string& warning() const { return warning_; }

private:
    using Moment = std::chrono::steady_clock::time_point;

    struct Child {
        Program program;
        std::optional<HostShell> shell;  // a host, or what is run below an init
        std::string address;
        ProcessId process;  // pid 0: not running
        bool wanted = true;
        int failures = 0;  // in a row
        Moment started;
        Moment restart_at;
        int last_status = 0;           // as waitpid gave it
        std::uintmax_t log_began = 0;  // of the process's own lines in its log
    };

    Status prepare();
    Status lock();
    Status prepare_secrets();
    Status plan_children();
    Status launch_all(const Report& report);
    Status wait_until_healthy(const Report& report);
    Status launch(const std::string& name);
    std::size_t hosts_that_answer() const;
    bool gateways_serve() const;  // they know all kernels, and not only that they are there
    bool lab_answers() const;
    Error would_not_start(const std::string& name) const;
    std::vector<std::string> ended_children() const;
    bool can_do_without(const std::vector<std::string>& children) const;

    void reap();
    void restart_due();
    void write_record();
    bool stop_requested();  // by a signal
    std::string answer(std::string_view request);
    std::string answer_status() const;
    Status kill_host(const std::string& id);
    Status start_host(const std::string& id);
    void stop_all();
    void stop_children(bool hosts, std::chrono::milliseconds patience);

    static bool is_host(const std::string& name) { return name.starts_with("host-"); }

    UpOptions options_;
    std::string warning_;
    Plan plan_;
    RunRecord record_;
    std::map<std::string, Child> children_;
    std::optional<ControlServer> control_;
    bool isolated_ = false;
    bool stopping_ = false;
    int lock_ = -1;
    int signals_ = -1;
};

// Ends everything that `record` names and is still alive. Returns how many processes that were.
std::size_t kill_recorded(const RunRecord& record);

}  // namespace nbos::local
