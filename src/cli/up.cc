// `nbos up`: a whole cluster on this machine, with JupyterLab in front.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/complaint.h"
#include "cli/progress.h"
#include "cli/running_cluster.h"
#include "local/files.h"
#include "local/supervisor.h"

namespace nbos::cli {
namespace {

namespace json = boost::json;

struct Given {
    bool detach = false;
    bool no_lab = false;
    std::string port;
    std::string token;
    std::uint32_t hosts = 4;
    std::uint32_t warm = 2;
    std::uint32_t gateways = 1;
    std::uint32_t interpreter_mib = 0;
    std::string data;
    std::string workspace;
    bool json = false;
    std::string parked_for = "24h";
    std::uint32_t iopub_messages = 1000;
    std::uint32_t iopub_mib = 16;
};

constexpr std::uint32_t kInterpreterMibMin = 256;

Error invalid(std::string what) {
    return {Errc::kInvalid, Certainty::kDidNotHappen, std::move(what)};
}

Result<std::uint16_t> port_number(const std::string& text) {
    std::uint16_t port = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), port);
    if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || port == 0) {
        return invalid(fmt::format("--port {} is no port; give one from 1 to 65534", text));
    }
    return port;
}

Status check_token(const std::string& token) {
    const auto good = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_' || c == '.' || c == '~';
    };
    if (!std::ranges::all_of(token, good)) {
        return invalid("a token may have letters, digits and the signs - _ . ~ only");
    }
    return ok();
}

Result<local::UpOptions> options_of(const Given& given) {
    local::UpOptions options{
        .layout = local::layout_of(given.data),
        .hosts = given.hosts,
        .lab = !given.no_lab,
        .token = given.token,
        .interpreter_mib = given.interpreter_mib,
        .warm = given.warm,
        .gateway_arguments = {"--parked-for", given.parked_for, "--iopub-messages",
                              std::to_string(given.iopub_messages), "--iopub-mib",
                              std::to_string(given.iopub_mib)},
        .gateways = given.gateways};
    if (given.gateways == 0 || given.gateways > local::kGatewaysMax) {
        return invalid(fmt::format("--gateways must be from 1 to {}", local::kGatewaysMax));
    }
    if (given.hosts == 0 || given.hosts > local::kHostsMax) {
        return invalid(fmt::format("--hosts must be from 1 to {}", local::kHostsMax));
    }
    if (given.interpreter_mib != 0 && given.interpreter_mib < kInterpreterMibMin) {
        return invalid(
            fmt::format("--interpreter-mib must be 0 (no limit) or at least {}: Python "
                        "with its packages takes that",
                        kInterpreterMibMin));
    }
    if (auto good = check_token(given.token); !good) {
        return std::move(good).error();
    }
    if (!given.port.empty()) {
        const auto port = port_number(given.port);
        if (!port) {
            return port.error();
        }
        options.port = *port;
        options.port_is_given = true;
    }
    std::error_code failed;
    options.workspace =
        std::filesystem::canonical(given.workspace.empty() ? "." : given.workspace, failed);
    if (failed || !std::filesystem::is_directory(options.workspace)) {
        return invalid(
            fmt::format("the workspace {} is no directory; create it, or name another "
                        "with --workspace",
                        given.workspace));
    }
    auto installation = local::find_installation(options.lab);
    if (!installation) {
        return std::move(installation).error();
    }
    options.installation = std::move(*installation);
    return options;
}

// The only place where the token is shown: the terminal of who started it.
void print_where(const local::Layout& layout, const local::RunRecord& record, bool in_json) {
    const auto token = local::read_small_file(layout.token_file());
    const std::string secret =
        token && *token ? (*token)->substr(0, (*token)->find('\n')) : std::string();
    if (in_json) {
        fmt::print("{}\n", json::serialize(json::object{{"data", layout.data.string()},
                                                        {"gateway", record.gateway_url},
                                                        {"lab", record.lab_url},
                                                        {"token", secret}}));
    } else if (record.lab_url.empty()) {
        fmt::print("NotebookOS is running. Jupyter clients connect to\n\n    {}/?token={}\n\n",
                   record.gateway_url, secret);
    } else {
        fmt::print("NotebookOS is running. Open\n\n    {}?token={}\n\n", record.lab_url, secret);
    }
    std::fflush(stdout);
}

int stay(local::UpOptions options, bool in_json) {
    const auto layout = options.layout;
    local::Supervisor supervisor(std::move(options));
    Progress progress;
    const auto started = supervisor.start(
        [&progress](int percent, std::string_view what) { progress.show(percent, what); });
    progress.finish();
    if (!started) {
        return complain(started.error());
    }
    fmt::print(stderr, "{}", supervisor.warning());
    print_where(layout, supervisor.record(), in_json);
    if (!in_json) {
        fmt::print("Ctrl-C stops it; what was computed is kept in {}.\n", layout.data.string());
    }
    std::fflush(stdout);
    supervisor.serve();
    return 0;
}

void write_line(int fd, const std::string& line) {
    [[maybe_unused]] const auto written = write(fd, line.data(), line.size());
}

// The detached supervisor tells the waiting command lines: "PERCENT what", then "ok" (with a
// warning, or nothing) or "error", with the rest of the stream as the text.
[[noreturn]] void be_detached(local::UpOptions options, int to_parent) {
    setsid();
    const auto log = options.layout.log("supervisor");
    if (auto made = local::make_private_directory(log.parent_path()); !made) {
        write_line(to_parent, "error\n" + made.error().what);
        std::_Exit(1);
    }
    const int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    {
        local::Supervisor supervisor(std::move(options));
        const auto started = supervisor.start([to_parent](int percent, std::string_view what) {
            write_line(to_parent, fmt::format("{} {}\n", percent, what));
        });
        write_line(to_parent,
                   started ? "ok\n" + supervisor.warning() : "error\n" + started.error().what);
        close(to_parent);
        if (!started) {
            std::_Exit(1);
        }
        supervisor.serve();
    }
    std::_Exit(0);
}

// Follows the lines of be_detached(). Empty: everything is up; else what went wrong.
Status follow(int from_child, const local::Layout& layout) {
    Progress progress;
    FILE* stream = fdopen(from_child, "r");
    std::string text;
    bool failed = false;
    bool good = false;
    std::array<char, 4096> line{};
    while (std::fgets(line.data(), static_cast<int>(line.size()), stream) != nullptr) {
        const std::string_view got(line.data());
        if (failed || good) {
            text += got;
        } else if (got == "ok\n") {
            good = true;
        } else if (got == "error\n") {
            failed = true;
        } else if (const auto space = got.find(' '); space != std::string_view::npos) {
            progress.show(std::atoi(line.data()), got.substr(space + 1, got.size() - space - 2));
        }
    }
    std::fclose(stream);
    progress.finish();
    if (good) {
        fmt::print(stderr, "{}", text);
        return ok();
    }
    if (!failed) {
        text = "the supervisor has ended. The end of its log:\n" +
               local::last_lines(layout.log("supervisor"), 15);
    }
    return Error{Errc::kIo, Certainty::kUnknown, text};
}

int detach(const local::UpOptions& options, bool in_json) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) {
        return complain(invalid("cannot make a pipe"));
    }
    const pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        std::signal(SIGPIPE, SIG_IGN);  // the waiting command may have been interrupted
        be_detached(options, ends[1]);
    }
    close(ends[1]);
    if (auto started = follow(ends[0], options.layout); !started) {
        return complain(started.error());
    }
    const auto record = local::read_run_record(options.layout.run_file());
    if (!record || !*record) {
        return complain(invalid("it was stopped again"));
    }
    print_where(options.layout, **record, in_json);
    if (!in_json) {
        fmt::print("`nbos down` stops it; what was computed is kept in {}.\n",
                   options.layout.data.string());
    }
    return 0;
}

int run(const Given& given) {
    set_log_name("up");
    auto options = options_of(given);
    if (!options) {
        return complain(options.error());
    }
    return given.detach ? detach(*options, given.json) : stay(std::move(*options), given.json);
}

}  // namespace

void add_up(Command& root) {
    auto given = std::make_shared<Given>();
    root.add("up", "Start a cluster on this machine, with JupyterLab in front of it.")
        .flag("--detach", given->detach, "return when everything answers, and leave it running")
        .flag("--json", given->json, "print JSON, with the token")
        .flag("--no-lab", given->no_lab, "only the gateway, for other Jupyter clients")
        .option("--port", given->port,
                "of JupyterLab (or of the gateway, with --no-lab); 8888 or "
                "the next free one if not given")
        .secret("--token", given->token,
                "what clients must present; made up if not given. "
                "NBOS_TOKEN in the environment does the same, unseen by "
                "other users")
        .option("--hosts", given->hosts, "how many")
        .option("--gateways", given->gateways,
                "how many; each on a port of its own, any of them serves every kernel")
        .option("--data", given->data, "where everything is kept (NBOS_DATA; ~/.local/share/nbos)")
        .option("--workspace", given->workspace,
                "the directory of the notebooks; here if not given")
        .option("--parked-for", given->parked_for,
                "how long a kernel that was shut down can be taken up again (0: not at all)")
        .option("--iopub-messages", given->iopub_messages,
                "a second and kernel, above which outputs are merged (0: no limit)")
        .option("--iopub-mib", given->iopub_mib,
                "a second and kernel, above which a cell's output is left out (0: no limit)")
        .option("--interpreter-mib", given->interpreter_mib,
                "of memory that the code of one kernel may take on each host (0: no limit)")
        .option("--warm", given->warm, "interpreters kept ready on each host")
        .does([given] {
            if (const char* token = std::getenv("NBOS_TOKEN"); token != nullptr) {
                if (given->token.empty()) {
                    given->token = token;
                }
                unsetenv("NBOS_TOKEN");  // NOLINT(concurrency-mt-unsafe): no child gets it
            }
            return run(*given);
        });
}

}  // namespace nbos::cli
