// `nbos kernel-relay`: a kernel of the cluster as a local Jupyter kernel. Started by Jupyter
// clients through the kernelspec that `nbos kernelspec install` writes.
#include <fmt/core.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/complaint.h"
#include "cli/run_kernel_relay.h"
#include "cli/running_cluster.h"
#include "local/files.h"

namespace nbos::cli {
namespace {

struct Given {
    std::string file;
    std::string gateway;
    std::string token_file;
    std::string data;
    std::string spec;
    bool verbose = false;
};

// KERNEL_* means something to gateways and kernels; the session's name is in __session__.
std::map<std::string, std::string> environment_for_kernel() {
    std::map<std::string, std::string> env;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        const auto equals = text.find('=');
        const auto name = text.substr(0, equals);
        if (equals != std::string_view::npos &&
            (name.starts_with("KERNEL_") || name == "JPY_SESSION_NAME")) {
            env[std::string(name)] = text.substr(equals + 1);
        }
    }
    if (env["KERNEL_WORKING_DIR"].empty()) {
        std::error_code gone;
        env["KERNEL_WORKING_DIR"] = std::filesystem::current_path(gone).string();
    }
    return env;
}

// The same for every relay of a connection file: jupyter_client keeps its path and its key when it
// restarts a kernel, so the next relay finds the kernel of the one before.
std::string kernel_id_of(const std::string& file, const std::string& key) {
    std::error_code ignored;
    const auto text = std::filesystem::absolute(file, ignored).string() + '\n' + key;
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr);
    Uuid id;
    std::memcpy(&id.hi, digest.data(), sizeof id.hi);
    std::memcpy(&id.lo, digest.data() + sizeof id.hi, sizeof id.lo);
    // RFC 9562, version 8: of our own making.
    id.hi = (id.hi & ~0xF000ULL) | 0x8000ULL;
    id.lo = (id.lo & ~(3ULL << 62U)) | (2ULL << 62U);
    return id.str();
}

int run(const Given& given) {
    set_log_name("relay");
    set_log_level(given.verbose ? LogLevel::kInfo : LogLevel::kWarning);
    const auto text = local::read_small_file(given.file);
    if (!text) {
        return complain(text.error());
    }
    if (!*text) {
        return complain({Errc::kNotFound, Certainty::kDidNotHappen,
                         "there is no connection file " + given.file +
                             "; Jupyter clients write one and start this command with it (see "
                             "`nbos kernelspec install`)"});
    }
    auto connection = jupyter::parse_connection_file(**text);
    if (!connection) {
        return complain(std::move(connection).error().in("connection file " + given.file));
    }
    const auto place = find_gateway(given.gateway, given.token_file, given.data);
    if (!place) {
        return complain(place.error());
    }
    KernelWanted wanted{.spec = given.spec, .env = environment_for_kernel()};
    wanted.id = wanted.env["KERNEL_ID"];
    wanted.named = !wanted.id.empty();
    if (wanted.named && !Uuid::parse(wanted.id)) {
        return complain({Errc::kInvalid, Certainty::kDidNotHappen,
                         "KERNEL_ID is " + wanted.id.substr(0, 100) + ", which is no UUID"});
    }
    if (!wanted.named) {
        wanted.id = kernel_id_of(given.file, connection->key);
    }
    return run_kernel_relay(*connection, given.file, *place, wanted);
}

}  // namespace

void add_kernel_relay(Command& root) {
    auto given = std::make_shared<Given>();
    root.add("kernel-relay", "Be a local Jupyter kernel whose work is done by the cluster.")
        .required("-f,--file", given->file, "the connection file")
        .option("--gateway", given->gateway,
                "http://HOST:PORT (NBOS_GATEWAY_URL; default: what `nbos up` runs)")
        .option("--token-file", given->token_file,
                "a file whose first line is the token (NBOS_TOKEN; default: that of `nbos up`)")
        .option("--spec", given->spec, "the kernelspec at the gateway, if not its default")
        .option("--data", given->data, "the directory of `nbos up` (NBOS_DATA)")
        .flag("--verbose", given->verbose, "say on standard error what happens")
        .does([given] { return run(*given); });
}

}  // namespace nbos::cli
