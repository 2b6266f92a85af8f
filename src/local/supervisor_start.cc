// Supervisor: from a data directory to a cluster that answers.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <csignal>
#include <thread>
#include <utility>

#include "io/event_loop.h"
#include "io/hosts_file.h"
#include "io/http_client.h"
#include "io/pki.h"
#include "local/files.h"
#include "local/supervisor.h"

namespace nbos::local {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kFreeBytesMin = 512U << 20U;
constexpr milliseconds kHealthPoll{50};
constexpr std::chrono::seconds kHealthLimit{120};
constexpr milliseconds kProbeLimit{2000};
constexpr std::size_t kLogLinesShown = 15;
constexpr mode_t kOwnerOnly = 0600;
constexpr const char* kGateway = "gateway";
constexpr const char* kLab = "lab";

Error said(Errc code, std::string what) {
    return {code, Certainty::kDidNotHappen, std::move(what)};
}

std::map<std::string, std::string> previous_hosts(const Layout& layout) {
    std::map<std::string, std::string> found;
    if (const auto hosts = io::read_hosts_file(layout.hosts_file())) {
        for (const auto& [id, address] : *hosts) {
            found.emplace(id.value, address);
        }
    }
    return found;
}

std::string describe_exit(int status) {
    return WIFSIGNALED(status) ? fmt::format("was killed by signal {}", WTERMSIG(status))
                               : fmt::format("ended with code {}", WEXITSTATUS(status));
}

// JupyterLab asks each new user about news from the network; the answer here is no.
Status write_lab_settings(const Layout& layout) {
    const auto directory = layout.lab() / "settings" / "@jupyterlab" / "apputils-extension";
    const auto file = directory / "notification.jupyterlab-settings";
    if (std::filesystem::exists(file)) {
        return ok();
    }
    if (auto made = make_private_directory(directory); !made) {
        return made;
    }
    return write_small_file(file, "{\"checkForUpdates\": false, \"fetchNews\": \"false\"}\n",
                            kOwnerOnly);
}

}  // namespace

Status Supervisor::start(const Report& report) {
    report(0, "preparing");
    auto started = prepare();
    if (started) {
        started = launch_all(report);
    }
    if (started) {
        started = wait_until_healthy(report);
    }
    if (!started) {
        stop_all();
        return started;
    }
    record_.ready = true;
    write_record();
    report(100, "ready");
    return ok();
}

Status Supervisor::prepare() {
    const auto& layout = options_.layout;
    for (const auto& directory : {layout.data, layout.data / "logs", layout.kernelspecs(),
                                  layout.lab() / "config", layout.lab() / "runtime"}) {
        if (auto made = make_private_directory(directory); !made) {
            return made;
        }
    }
    if (auto locked = lock(); !locked) {
        return locked;
    }
    if (auto space = require_free_space(layout.data, kFreeBytesMin); !space) {
        return space;
    }
    // Left by a supervisor that was killed: its processes hold ports and files that we need.
    if (auto before = read_run_record(layout.run_file()); before && *before) {
        kill_recorded(**before);
    }
    if (auto secrets = prepare_secrets(); !secrets) {
        return secrets;
    }
    return plan_children();
}

Status Supervisor::lock() {
    const auto& layout = options_.layout;
    lock_ = open(layout.lock_file().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kOwnerOnly);
    if (lock_ >= 0 && flock(lock_, LOCK_EX | LOCK_NB) == 0) {
        return ok();
    }
    std::string where;
    if (auto running = read_run_record(layout.run_file()); running && *running) {
        where = (*running)->lab_url.empty() ? (*running)->gateway_url : (*running)->lab_url;
        where = ", at " + where;
    }
    return said(Errc::kExhausted,
                fmt::format("a cluster is running from {} already{}. `nbos status` shows it, `nbos "
                            "down` stops it; for a second one give another directory with --data.",
                            layout.data.string(), where));
}

Status Supervisor::prepare_secrets() {
    const auto& layout = options_.layout;
    if (options_.token.empty()) {
        if (auto kept = read_small_file(layout.token_file()); kept && *kept) {
            options_.token = (*kept)->substr(0, (*kept)->find('\n'));
        }
    }
    if (options_.token.empty()) {
        options_.token = fmt::format("{:016x}{:016x}{:016x}", io::random_u64(), io::random_u64(),
                                     io::random_u64());
    }
    if (auto written = write_small_file(layout.token_file(), options_.token + "\n", kOwnerOnly);
        !written) {
        return written;
    }
    return io::ensure_authority(layout.pki());
}

Status Supervisor::plan_children() {
    const auto& layout = options_.layout;
    auto plan = make_plan(options_, previous_hosts(layout));
    if (!plan) {
        return std::move(plan).error();
    }
    plan_ = std::move(*plan);
    if (auto written = write_small_file(layout.hosts_file(), hosts_json(plan_), kOwnerOnly);
        !written) {
        return written;
    }
    isolated_ = can_isolate();
    for (const auto& [id, address] : plan_.hosts) {
        if (auto made = io::issue(layout.pki(), id); !made) {
            return std::move(made).error();
        }
        if (auto made = make_private_directory(layout.host(id) / "tmp"); !made) {
            return made;
        }
        const HostShell shell{.isolated = isolated_,
                              .private_tmp = isolated_ && tmp_can_be_private(options_)
                                                 ? layout.host(id) / "tmp"
                                                 : std::filesystem::path()};
        children_.emplace(id, Child{.program = agent_program(options_, plan_, id),
                                    .shell = shell,
                                    .address = address});
    }
    for (const auto& [name, address] : plan_.gateways()) {
        if (auto made = io::issue(layout.pki(), name == kGateway ? "gateway-1" : name); !made) {
            return std::move(made).error();
        }
        children_.emplace(name, Child{.program = gateway_program(options_, plan_, name),
                                      .shell = std::nullopt,  // it starts nothing
                                      .address = address});
    }
    if (options_.lab) {
        if (auto written = write_lab_settings(layout); !written) {
            return written;
        }
        children_.emplace(kLab, Child{.program = lab_program(options_, plan_),
                                      .shell = HostShell{},
                                      .address = fmt::format("127.0.0.1:{}", plan_.lab_port)});
    }
    record_.gateway_url = plan_.gateway_url();
    record_.lab_url = plan_.lab_url();
    record_.workspace = options_.workspace;
    return ok();
}

Status Supervisor::launch_all(const Report& report) {
    sigset_t watched;
    sigemptyset(&watched);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) {
        sigaddset(&watched, signal);
    }
    sigprocmask(SIG_BLOCK, &watched, nullptr);
    signals_ = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    prctl(PR_SET_CHILD_SUBREAPER, 1);  // what a killed host leaves behind comes here
    auto control = ControlServer::open(options_.layout.socket());
    if (!control) {
        return std::move(control).error();
    }
    control_ = std::move(*control);
    constexpr int kPercentForLaunch = 20;
    int launched = 0;
    for (const auto& [name, child] : children_) {
        report(kPercentForLaunch * launched++ / static_cast<int>(children_.size()),
               "starting " + name);
        if (auto started = launch(name); !started) {
            return started;
        }
    }
    return ok();
}

Status Supervisor::launch(const std::string& name) {
    Child& child = children_.at(name);
    std::error_code ignored;
    if (is_host(name)) {  // sockets of an earlier life
        for (const auto& old :
             std::filesystem::directory_iterator(options_.layout.host(name) / "tmp", ignored)) {
            std::filesystem::remove_all(old.path(), ignored);
        }
    }
    const auto log_size = std::filesystem::file_size(child.program.log, ignored);
    child.log_began = ignored ? 0 : log_size;
    auto process = child.shell ? spawn_host(child.program, *child.shell) : spawn(child.program);
    if (!process) {
        return std::move(process).error().in(name);
    }
    child.process = *process;
    child.started = steady_clock::now();
    write_record();
    return ok();
}

// How many hosts the gateway is connected to.
std::size_t Supervisor::hosts_that_answer() const {
    const auto answer = io::http_call({.url = plan_.gateway_url() + "/api/nbos/hosts",
                                       .token = options_.token,
                                       .limit = kProbeLimit});
    if (!answer || answer->status != 200) {
        return 0;
    }
    boost::system::error_code malformed;
    const auto value = boost::json::parse(answer->body, malformed);
    if (malformed) {
        return 0;
    }
    const auto* object = value.if_object();
    const auto* list = object != nullptr ? object->if_contains("hosts") : &value;
    std::size_t up = 0;
    if (list != nullptr && list->is_array()) {
        for (const auto& host : list->get_array()) {
            const auto* fields = host.if_object();
            const auto* state = fields == nullptr ? nullptr : fields->if_contains("state");
            up += state != nullptr && *state == "up" ? 1 : 0;
        }
    }
    return up;
}

bool Supervisor::gateways_serve() const {
    const auto all = plan_.gateways();
    return std::ranges::all_of(all, [this](const auto& gateway) {
        const auto answer = io::http_call({.url = "http://" + gateway.second + "/api/nbos/kernels",
                                           .token = options_.token,
                                           .limit = kProbeLimit});
        return answer && answer->status == 200;
    });
}

bool Supervisor::lab_answers() const {
    const auto answer =
        io::http_call({.url = fmt::format("http://127.0.0.1:{}/api/status", plan_.lab_port),
                       .token = options_.token,
                       .limit = kProbeLimit});
    return answer && answer->status == 200;
}

Error Supervisor::would_not_start(const std::string& name) const {
    const Child& child = children_.at(name);
    return said(
        Errc::kIo,
        fmt::format("{} {}. The end of {}:\n{}", name,
                    child.process.pid == 0 ? describe_exit(child.last_status) : "does not answer",
                    child.program.log.string(),
                    last_lines(child.program.log, kLogLinesShown, child.log_began)));
}

Status Supervisor::wait_until_healthy(const Report& report) {
    constexpr int kBegin = 20;
    const auto deadline = steady_clock::now() + kHealthLimit;
    bool lab_is_up = !options_.lab;
    std::size_t hosts_up = 0;
    bool serves = false;
    std::size_t wanted = plan_.hosts.size();
    while (hosts_up < wanted || !lab_is_up || !serves) {
        reap();
        const auto down = ended_children();
        if (!down.empty() && !can_do_without(down)) {
            return would_not_start(down.front());
        }
        wanted = plan_.hosts.size() - down.size();
        if (stop_requested()) {
            return said(Errc::kIo, "stopped before everything was up");
        }
        if (steady_clock::now() > deadline) {
            return would_not_start(lab_is_up ? kGateway : kLab);
        }
        hosts_up = hosts_that_answer();
        lab_is_up = lab_is_up || lab_answers();
        serves = hosts_up >= wanted && gateways_serve();
        const auto parts = plan_.hosts.size() + (options_.lab ? 2 : 0);
        const auto done = hosts_up + (options_.lab && lab_is_up ? 2 : 0);
        report(kBegin + static_cast<int>(done * (99 - kBegin) / parts),
               fmt::format("{} of {} hosts up{}", hosts_up, plan_.hosts.size(),
                           lab_is_up ? "" : ", JupyterLab is starting"));
        std::this_thread::sleep_for(kHealthPoll);
    }
    for (const auto& name : ended_children()) {
        warning_ += would_not_start(name).what +
                    "\n\nThe other hosts serve without it. `nbos host start " + name +
                    "` tries it again.\n";
    }
    return ok();
}

std::vector<std::string> Supervisor::ended_children() const {
    std::vector<std::string> ended;
    for (const auto& [name, child] : children_) {
        if (child.process.pid == 0) {
            ended.push_back(name);
        }
    }
    return ended;
}

// A minority of the hosts: most kernels have a majority elsewhere, and the others say what they
// wait for.
bool Supervisor::can_do_without(const std::vector<std::string>& children) const {
    return children.size() * 2 < plan_.hosts.size() &&
           std::ranges::all_of(children, [](const auto& name) { return is_host(name); });
}

}  // namespace nbos::local
