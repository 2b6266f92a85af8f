// `nbos kernelspec install|remove`: makes the cluster a kernel of the Jupyter that is installed
// here.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/complaint.h"
#include "cli/running_cluster.h"
#include "gateway/kernelspecs.h"
#include "io/http_client.h"
#include "jupyter/json_text.h"
#include "local/files.h"

namespace nbos::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr mode_t kReadable = 0644;
constexpr const char* kFile = "kernel.json";

struct Given {
    bool user = false;
    bool json = false;
    std::string prefix;
    std::string name = "nbos";
    std::string display_name = "Python 3 (NotebookOS)";
    std::string gateway;
    std::string token_file;
    std::string spec;
    std::string data;
};

Error said(Errc code, std::string what) {
    return {code, Certainty::kDidNotHappen, std::move(what)};
}

std::string environment(const char* name) {
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
    return value == nullptr ? std::string() : std::string(value);
}

// Where Jupyter looks for what a user, or an environment at `prefix`, has installed.
Result<fs::path> jupyter_data(const Given& given) {
    if (!given.prefix.empty()) {
        if (given.user) {
            return said(Errc::kInvalid, "give --user or --prefix DIR, not both");
        }
        std::error_code error;
        if (!fs::is_directory(given.prefix, error)) {
            return said(Errc::kNotFound, "--prefix " + given.prefix +
                                             " is no directory; give that of a Python "
                                             "environment, as `python -c 'import sys; "
                                             "print(sys.prefix)'` says it");
        }
        return fs::absolute(given.prefix) / "share" / "jupyter";
    }
    if (auto directory = environment("JUPYTER_DATA_DIR"); !directory.empty()) {
        return fs::absolute(directory);
    }
    if (auto directory = environment("XDG_DATA_HOME"); !directory.empty()) {
        return fs::absolute(directory) / "jupyter";
    }
    if (auto home = environment("HOME"); !home.empty()) {
        return fs::path(home) / ".local" / "share" / "jupyter";
    }
    return said(Errc::kInvalid, "HOME is not set; say where with --prefix DIR");
}

Result<fs::path> folder_of(const Given& given) {
    const auto good = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    };
    if (given.name.empty() || given.name.front() == '.' || !std::ranges::all_of(given.name, good)) {
        return said(Errc::kInvalid,
                    "--name may have small letters, digits and the signs - _ . only");
    }
    const auto data = jupyter_data(given);
    if (!data) {
        return data.error();
    }
    return *data / "kernels" / given.name;
}

std::string kernel_json(const Given& given) {
    std::error_code ignored;
    json::array argv{fs::read_symlink("/proc/self/exe", ignored).string(), "kernel-relay", "-f",
                     "{connection_file}"};
    const auto add = [&](const char* option, const std::string& value) {
        if (!value.empty()) {
            argv.emplace_back(option);
            argv.emplace_back(value);
        }
    };
    add("--gateway", given.gateway);
    add("--token-file",
        given.token_file.empty() ? "" : fs::absolute(given.token_file, ignored).string());
    add("--spec", given.spec);
    add("--data", given.data.empty() ? "" : fs::absolute(given.data, ignored).string());
    return json::serialize(json::object{{"argv", std::move(argv)},
                                        {"display_name", given.display_name},
                                        {"language", "python"},
                                        {"interrupt_mode", "message"},
                                        {"metadata", json::object{{"debugger", false}}}}) +
           "\n";
}

bool is_ours(const fs::path& folder) {
    const auto text = local::read_small_file(folder / kFile);
    return text && *text && (*text)->find("\"kernel-relay\"") != std::string::npos;
}

// nullopt-like: ok() when the folder is free or an older kernelspec of ours.
Status check_free(const fs::path& folder) {
    std::error_code error;
    if (fs::exists(folder, error) && !is_ours(folder)) {
        return said(Errc::kInvalid, folder.string() +
                                        " is a kernelspec of something else; choose another "
                                        "--name");
    }
    return ok();
}

Status install(const Given& given, const fs::path& folder) {
    // A kernelspec is readable by everybody, and the relay's command line comes from it.
    if (given.gateway.find("/t/") != std::string::npos ||
        given.gateway.find_first_of("?@") != std::string::npos) {
        return said(Errc::kInvalid,
                    "the gateway's address must not hold a token: give http://HOST:PORT, and the "
                    "token with --token-file FILE or in NBOS_TOKEN");
    }
    if (!given.gateway.empty() && !io::parse_http_url(given.gateway)) {
        return said(Errc::kInvalid,
                    given.gateway + " is no gateway's address; give http://HOST:PORT");
    }
    std::error_code error;
    if (!given.token_file.empty() && !fs::is_regular_file(given.token_file, error)) {
        return said(Errc::kInvalid,
                    given.token_file + " is no file; write the gateway's token to it");
    }
    if (!jupyter::is_utf8(given.display_name)) {
        return said(Errc::kInvalid, "--display-name is not UTF-8");
    }
    if (auto free = check_free(folder); !free) {
        return free;
    }
    fs::create_directories(folder, error);
    if (error) {
        return said(Errc::kIo, fmt::format("cannot make {}: {}", folder.string(), error.message()));
    }
    const gateway::Kernelspecs specs;
    for (const auto& [file, bytes] : specs.find(specs.default_name())->resources) {
        if (auto written = local::write_small_file(folder / file, bytes, kReadable); !written) {
            return written;
        }
    }
    return local::write_small_file(folder / kFile, kernel_json(given), kReadable);
}

int say(const Given& given, const fs::path& folder, std::string_view done,
        const std::string& text) {
    if (given.json) {
        fmt::print("{}\n",
                   json::serialize(json::object{
                       {"kernelspec", given.name}, {"folder", folder.string()}, {done, true}}));
    } else {
        fmt::print("{}\n", text);
    }
    return 0;
}

int run_install(const Given& given) {
    const auto folder = folder_of(given);
    if (!folder) {
        return complain(folder.error());
    }
    if (const auto installed = install(given, *folder); !installed) {
        return complain(installed.error());
    }
    return say(given, *folder, "installed",
               fmt::format("Installed the kernelspec {} in {}.", given.name, folder->string()));
}

int run_remove(const Given& given) {
    const auto folder = folder_of(given);
    if (!folder) {
        return complain(folder.error());
    }
    std::error_code error;
    if (!fs::exists(*folder, error)) {
        return complain(said(Errc::kNotFound, "there is no kernelspec " + folder->string() +
                                                  "; `jupyter kernelspec list` names them"));
    }
    if (!is_ours(*folder)) {
        return complain(said(Errc::kInvalid,
                             folder->string() + " is a kernelspec of something else; not removed"));
    }
    fs::remove_all(*folder, error);
    if (error) {
        return complain(said(
            Errc::kIo, fmt::format("cannot remove {}: {}", folder->string(), error.message())));
    }
    return say(given, *folder, "removed",
               fmt::format("Removed the kernelspec {} from {}.", given.name, folder->string()));
}

}  // namespace

void add_kernelspec(Command& root) {
    auto given = std::make_shared<Given>();
    auto kernelspec =
        root.add("kernelspec", "Make the cluster a kernel of this machine's own Jupyter.");
    const auto add = [&](const char* name, const char* help) {
        auto command = kernelspec.add(name, help);
        command.flag("--user", given->user, "for this user; the default")
            .option("--prefix", given->prefix, "for the Python environment in this directory")
            .option("--name", given->name, "the kernelspec's name")
            .flag("--json", given->json, "print JSON");
        return command;
    };
    add("install", "Write the kernelspec, over an older one of ours.")
        .option("--display-name", given->display_name, "what users choose")
        .option("--gateway", given->gateway,
                "http://HOST:PORT; default: what `nbos up` runs when the kernel starts")
        .option("--token-file", given->token_file, "a file whose first line is its token")
        .option("--spec", given->spec, "the kernelspec at the gateway, if not its default")
        .option("--data", given->data, "the directory of `nbos up`, if not the default")
        .does([given] { return run_install(*given); });
    add("remove", "Remove it.").does([given] { return run_remove(*given); });
}

}  // namespace nbos::cli
