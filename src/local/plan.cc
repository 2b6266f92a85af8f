#include "local/plan.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <utility>

#include "local/ports.h"

namespace nbos::local {
namespace {

constexpr const char* kLoopback = "127.0.0.1";
constexpr std::uint16_t kPortsTried = 20;

std::filesystem::path install_root() {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread, start-up
    if (const char* home = std::getenv("NBOS_HOME"); home != nullptr) {
        return home;
    }
    std::error_code failed;
    auto binary = std::filesystem::read_symlink("/proc/self/exe", failed);
    // ROOT/build/PRESET/src/apps/nbos
    constexpr int kLevels = 5;
    for (int i = 0; i < kLevels; ++i) {
        binary = binary.parent_path();
    }
    return binary;
}

Error taken(std::uint16_t port) {
    return {Errc::kExhausted, Certainty::kDidNotHappen,
            fmt::format("port {} is in use by another program. Choose another one with --port, or "
                        "end that program (`ss -ltnp` names it).",
                        port)};
}

// The first free port of 127.0.0.1 from `first` on.
Result<std::uint16_t> free_from(std::uint16_t first) {
    for (std::uint16_t i = 0; i < kPortsTried; ++i) {
        const auto port = static_cast<std::uint16_t>(first + i);
        if (port != 0 && can_listen(kLoopback, port)) {
            return port;
        }
    }
    return taken(first);
}

Result<std::uint16_t> front_port(const UpOptions& options) {
    if (options.port_is_given) {
        return can_listen(kLoopback, options.port) ? Result<std::uint16_t>(options.port)
                                                   : taken(options.port);
    }
    return free_from(options.port);
}

Result<std::string> host_address(std::uint32_t number, const std::string& previous) {
    const std::string ip = fmt::format("127.0.1.{}", number);
    if (const auto colon = previous.rfind(':'); previous.starts_with(ip + ":")) {
        const auto port = std::strtoul(previous.c_str() + colon + 1, nullptr, 10);
        if (port > 0 && port <= UINT16_MAX && can_listen(ip, static_cast<std::uint16_t>(port))) {
            return previous;
        }
    }
    const auto port = unused_port(ip);
    if (!port) {
        return Error{Errc::kIo, Certainty::kDidNotHappen,
                     fmt::format("no port can be had on {}: is the loopback interface up?", ip)};
    }
    return fmt::format("{}:{}", ip, *port);
}

}  // namespace

Result<Installation> find_installation(bool with_lab) {
    std::error_code failed;
    const auto root = install_root();
    Installation found{.nbos = std::filesystem::read_symlink("/proc/self/exe", failed),
                       .python = root / ".venv" / "bin" / "python",
                       .jupyter_lab = root / ".venv" / "bin" / "jupyter-lab"};
    for (const auto& [path, needed] :
         {std::pair(found.python, true), std::pair(found.jupyter_lab, with_lab)}) {
        if (needed && !std::filesystem::exists(path)) {
            return Error{
                Errc::kNotFound, Certainty::kDidNotHappen,
                fmt::format("{} is missing. Start NotebookOS through ./nbos at the root of "
                            "its directory, which installs it.",
                            path.string())};
        }
    }
    return found;
}

std::string Plan::gateway_url() const {
    return fmt::format("http://{}:{}", kLoopback, gateway_port);
}

std::map<std::string, std::string> Plan::gateways() const {
    std::map<std::string, std::string> all{
        {"gateway", fmt::format("{}:{}", kLoopback, gateway_port)}};
    for (std::size_t i = 0; i < further_gateways.size(); ++i) {
        all.emplace(fmt::format("gateway-{}", i + 2),
                    fmt::format("{}:{}", kLoopback, further_gateways[i]));
    }
    return all;
}

std::string Plan::lab_url() const {
    return lab_port == 0 ? "" : fmt::format("http://{}:{}/lab", kLoopback, lab_port);
}

Result<Plan> make_plan(const UpOptions& options,
                       const std::map<std::string, std::string>& previous) {
    const auto front = front_port(options);
    if (!front) {
        return front.error();
    }
    Plan plan{.gateway_port = *front};
    if (options.lab) {
        const auto behind = free_from(static_cast<std::uint16_t>(*front + 1));
        if (!behind) {
            return behind.error();
        }
        plan.lab_port = *front;
        plan.gateway_port = *behind;
    }
    auto last = plan.gateway_port;
    for (std::uint32_t number = 2; number <= options.gateways; ++number) {
        const auto next = free_from(static_cast<std::uint16_t>(last + 1));
        if (!next) {
            return next.error();
        }
        last = *next;
        plan.further_gateways.push_back(last);
    }
    for (std::uint32_t number = 1; number <= options.hosts; ++number) {
        const std::string id = fmt::format("host-{}", number);
        const auto known = previous.find(id);
        auto address = host_address(number, known == previous.end() ? "" : known->second);
        if (!address) {
            return std::move(address).error();
        }
        plan.hosts.emplace(id, std::move(*address));
    }
    return plan;
}

std::string hosts_json(const Plan& plan) {
    std::string text = "{\"hosts\": {";
    for (const auto& [id, address] : plan.hosts) {
        text += fmt::format("{}\n  \"{}\": \"{}\"", text.back() == '{' ? "" : ",", id, address);
    }
    return text + "\n}}\n";
}

Program agent_program(const UpOptions& options, const Plan& plan, const std::string& host) {
    const auto& layout = options.layout;
    const auto directory = layout.host(host);
    return {
        .argv = {options.installation.nbos,
                 "agent",
                 "--host",
                 host,
                 "--listen",
                 plan.hosts.at(host),
                 "--data",
                 directory,
                 "--pki",
                 layout.pki(),
                 "--hosts",
                 layout.hosts_file(),
                 "--python",
                 options.installation.python,
                 "--workspace",
                 options.workspace,
                 "--interpreter-mib",
                 std::to_string(options.interpreter_mib),
                 "--warm",
                 std::to_string(options.warm),
                 "--kernelspecs",
                 layout.kernelspecs()},
        .env = {{"TMPDIR", tmp_can_be_private(options) ? "/tmp" : (directory / "tmp").string()}},
        .directory = options.workspace,
        .log = layout.log(host)};
}

Program gateway_program(const UpOptions& options, const Plan& plan, const std::string& name) {
    const auto& layout = options.layout;
    const std::string id = name == "gateway" ? "gateway-1" : name;
    Program program{.argv = {options.installation.nbos, "gateway", "--id", id, "--listen",
                             plan.gateways().at(name), "--pki", layout.pki(), "--hosts",
                             layout.hosts_file(), "--token-file", layout.token_file(), "--python",
                             options.installation.python, "--kernelspecs", layout.kernelspecs()},
                    .env = {},
                    .directory = options.workspace,
                    .log = layout.log(name)};
    program.argv.insert(program.argv.end(), options.gateway_arguments.begin(),
                        options.gateway_arguments.end());
    return program;
}

Program lab_program(const UpOptions& options, const Plan& plan) {
    const auto lab = options.layout.lab();
    Program program{
        .argv = {options.installation.jupyter_lab, "--no-browser", "--ServerApp.ip=127.0.0.1",
                 fmt::format("--ServerApp.port={}", plan.lab_port), "--ServerApp.port_retries=0",
                 "--ServerApp.root_dir=" + options.workspace.string(),
                 "--ServerApp.kernel_websocket_connection_class="
                 "nbos_jupyter_server.connection.Connection"},
        .env = {{"JUPYTER_TOKEN", options.token},
                {"JUPYTER_GATEWAY_URL", plan.gateway_url()},
                {"JUPYTER_GATEWAY_AUTH_TOKEN", options.token},
                // The user's own Jupyter settings are for the user's own Jupyter.
                {"JUPYTER_CONFIG_DIR", lab / "config"},
                {"JUPYTER_RUNTIME_DIR", lab / "runtime"},
                {"JUPYTERLAB_SETTINGS_DIR", lab / "settings"},
                {"JUPYTERLAB_WORKSPACES_DIR", lab / "workspaces"}},
        .directory = options.workspace,
        .log = options.layout.log("lab")};
    if (geteuid() == 0) {
        program.argv.emplace_back("--allow-root");
    }
    return program;
}

bool tmp_can_be_private(const UpOptions& options) {
    const auto& [nbos, python, lab] = options.installation;
    // The folder of an interpreter, not the interpreter: that may be a link to one elsewhere.
    const std::array shared{options.layout.data, options.workspace, nbos, python.parent_path()};
    return geteuid() == 0 && std::ranges::none_of(shared, [](const std::filesystem::path& path) {
               std::error_code failed;
               const auto real = std::filesystem::weakly_canonical(path, failed).string();
               return real == "/tmp" || real.starts_with("/tmp/");
           });
}

}  // namespace nbos::local
