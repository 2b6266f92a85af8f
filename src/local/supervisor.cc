#include "local/supervisor.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <csignal>
#include <utility>

#include "base/log.h"
#include "local/files.h"

namespace nbos::local {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPoll{200};
constexpr milliseconds kRestartPauseMin{200};
constexpr milliseconds kRestartPauseMax{10'000};
constexpr std::chrono::seconds kStableAfter{60};  // then earlier failures are forgotten
constexpr milliseconds kPatience{5000};           // between SIGTERM and SIGKILL
constexpr milliseconds kDeathLimit{5000};         // a SIGKILL takes this long at most

std::string error_line(std::string_view what) {
    return json::serialize(json::object{{"ok", false}, {"error", what}});
}

}  // namespace

Supervisor::Supervisor(UpOptions options) : options_(std::move(options)) {}

Supervisor::~Supervisor() {
    for (const int fd : {lock_, signals_}) {
        if (fd >= 0) {
            close(fd);
        }
    }
}

void Supervisor::serve() {
    while (!stopping_ && !stop_requested()) {
        std::array<pollfd, 2> watched{
            pollfd{.fd = signals_, .events = POLLIN, .revents = 0},
            pollfd{.fd = control_->descriptor(), .events = POLLIN, .revents = 0}};
        poll(watched.data(), watched.size(), static_cast<int>(kPoll.count()));
        if ((watched[1].revents & POLLIN) != 0) {
            control_->serve_one([this](std::string_view request) { return answer(request); });
        }
        reap();
        restart_due();
    }
    stop_all();
}

bool Supervisor::stop_requested() {
    signalfd_siginfo info{};
    bool asked = false;
    while (signals_ >= 0 && read(signals_, &info, sizeof info) == sizeof info) {
        asked = asked || info.ssi_signo == SIGINT || info.ssi_signo == SIGTERM;
    }
    return asked;
}

void Supervisor::reap() {
    int status = 0;
    bool changed = false;
    for (pid_t ended = waitpid(-1, &status, WNOHANG); ended > 0;
         ended = waitpid(-1, &status, WNOHANG)) {
        const auto found = std::ranges::find_if(
            children_, [ended](const auto& entry) { return entry.second.process.pid == ended; });
        if (found == children_.end()) {
            continue;  // left behind by something below; this process is its reaper
        }
        auto& [name, child] = *found;
        const auto now = steady_clock::now();
        child.failures = now - child.started > kStableAfter ? 1 : child.failures + 1;
        child.restart_at =
            now + std::min(kRestartPauseMax, kRestartPauseMin * (1 << std::min(child.failures, 8)));
        child.process = {};
        child.last_status = status;
        changed = true;
        if (child.wanted && !stopping_) {
            log_warning("up", "{} has ended (status {:#x})", name, status);
        }
    }
    if (changed) {
        write_record();
    }
}

void Supervisor::restart_due() {
    const auto now = steady_clock::now();
    for (auto& [name, child] : children_) {
        if (child.wanted && child.process.pid == 0 && now >= child.restart_at) {
            log_info("up", "starting {} again", name);
            if (const auto started = launch(name); !started) {
                log_error("up", "{}", started.error().what);
                child.restart_at = now + kRestartPauseMax;
            }
        }
    }
}

void Supervisor::write_record() {
    record_.processes = {{"supervisor", identify(getpid()), ""}};
    for (const auto& [name, child] : children_) {
        if (child.process.pid != 0) {
            record_.processes.push_back({name, child.process, child.address});
        }
    }
    if (const auto written = write_run_record(options_.layout.run_file(), record_); !written) {
        log_error("up", "{}", written.error().what);
    }
}

std::string Supervisor::answer(std::string_view request) {
    boost::system::error_code malformed;
    const auto value = json::parse(json::string_view(request.data(), request.size()), malformed);
    if (malformed || !value.is_object()) {
        return error_line("the request is no JSON object");
    }
    const auto text = [&value](const char* name) {
        const auto* field = value.get_object().if_contains(name);
        return field != nullptr && field->is_string() ? std::string(field->get_string().c_str())
                                                      : std::string();
    };
    const std::string op = text("op");
    if (op == "status") {
        return answer_status();
    }
    Status done = ok();
    if (op == "down") {
        stopping_ = true;
    } else if (op == "host-kill") {
        done = kill_host(text("host"));
    } else if (op == "host-start") {
        done = start_host(text("host"));
    } else {
        return error_line("unknown request " + op);
    }
    return done ? "{\"ok\":true}" : error_line(done.error().what);
}

std::string Supervisor::answer_status() const {
    json::array processes;
    for (const auto& [name, child] : children_) {
        const char* state = child.process.pid != 0 ? "running"
                            : child.wanted         ? "restarting"
                                                   : "killed";
        processes.push_back(json::object{{"name", name},
                                         {"state", state},
                                         {"pid", child.process.pid},
                                         {"address", child.address}});
    }
    return json::serialize(
        json::object{{"ok", true}, {"isolated", isolated_}, {"processes", std::move(processes)}});
}

Status Supervisor::kill_host(const std::string& id) {
    const auto found = children_.find(id);
    if (found == children_.end() || !is_host(id)) {
        return Error{Errc::kNotFound, Certainty::kDidNotHappen,
                     fmt::format("there is no host {}; `nbos host list` names them", id)};
    }
    Child& child = found->second;
    child.wanted = false;
    if (child.process.pid == 0) {
        return ok();  // down already; asking twice is no error
    }
    const ProcessId process = child.process;
    kill_tree(process);
    if (!wait_until_gone(process, kDeathLimit)) {
        return Error{Errc::kTimeout, Certainty::kUnknown, id + " does not die"};
    }
    reap();
    log_info("up", "killed {}", id);
    return ok();
}

Status Supervisor::start_host(const std::string& id) {
    const auto found = children_.find(id);
    if (found == children_.end() || !is_host(id)) {
        return Error{Errc::kNotFound, Certainty::kDidNotHappen,
                     fmt::format("there is no host {}; `nbos host list` names them", id)};
    }
    Child& child = found->second;
    child.wanted = true;
    child.failures = 0;
    return child.process.pid != 0 ? ok() : launch(id);
}

// Clients first: nobody should be told that their kernel has died because hosts go.
void Supervisor::stop_all() {
    stopping_ = true;
    stop_children(false, kPatience);
    stop_children(true, kPatience);
    record_.processes.clear();
    control_.reset();
    std::error_code ignored;
    if (lock_ >= 0 && signals_ >= 0) {  // else they are another supervisor's
        std::filesystem::remove(options_.layout.run_file(), ignored);
        std::filesystem::remove(options_.layout.socket(), ignored);
    }
}

void Supervisor::stop_children(bool hosts, milliseconds patience) {
    std::vector<ProcessId> going;
    for (auto& [name, child] : children_) {
        if (is_host(name) == hosts && child.process.pid != 0) {
            child.wanted = false;
            send_signal(child.process, SIGTERM);
            going.push_back(child.process);
        }
    }
    const auto deadline = steady_clock::now() + patience;
    for (const auto& process : going) {
        const auto left = std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now());
        if (!wait_until_gone(process, std::max(left, milliseconds(0)))) {
            kill_tree(process);
            wait_until_gone(process, kDeathLimit);
        }
    }
    reap();
}

std::size_t kill_recorded(const RunRecord& record) {
    std::size_t killed = 0;
    for (const auto& process : record.processes) {
        // The supervisor first, as it is written: it would start the others again.
        if (is_alive(process.id)) {
            kill_tree(process.id);
            wait_until_gone(process.id, kDeathLimit);
            ++killed;
        }
    }
    return killed;
}

}  // namespace nbos::local
