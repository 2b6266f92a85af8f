// What a local cluster consists of: who listens where, and the command line of each process.
//
// Values and port probing; nothing is started here. No secret is on any command line: the token
// goes to the gateway as a file and to JupyterLab in its environment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "local/layout.h"
#include "local/spawn.h"

namespace nbos::local {

// What is installed: by the launcher, or beside the binary.
struct Installation {
    std::filesystem::path nbos;         // this program
    std::filesystem::path python;       // runs interpreters
    std::filesystem::path jupyter_lab;  // may be missing with --no-lab
};

// NBOS_HOME's .venv, or what the binary's own place suggests. kNotFound says what to run.
Result<Installation> find_installation(bool with_lab);

struct UpOptions {
    Layout layout;
    Installation installation;
    std::filesystem::path workspace;
    std::uint32_t hosts = 4;
    std::uint16_t port = 8888;
    bool port_is_given = false;  // then it is that one or an error
    bool lab = true;
    std::string token;
    std::uint32_t interpreter_mib = 0;                // of memory for a kernel's code; 0: no limit
    std::uint32_t warm = 2;                           // interpreters kept ready on each host
    std::vector<std::string> gateway_arguments = {};  // further ones: limits
    std::uint32_t gateways = 1;
};

struct Plan {
    std::map<std::string, std::string> hosts;  // "host-1" -> "127.0.1.1:PORT"
    std::uint16_t gateway_port = 0;
    std::uint16_t lab_port = 0;                        // 0: no lab
    std::vector<std::uint16_t> further_gateways = {};  // ports of the second one and so on

    std::string gateway_url() const;
    // Process name -> "ip:port": "gateway", "gateway-2", ...
    std::map<std::string, std::string> gateways() const;
    std::string lab_url() const;  // empty: no lab
};

constexpr std::uint32_t kHostsMax = 200;  // one loopback address each
constexpr std::uint32_t kGatewaysMax = 5;

// Ports that are free now; a host keeps the one of `previous` if it can. kExhausted: the port that
// was asked for is taken.
Result<Plan> make_plan(const UpOptions& options,
                       const std::map<std::string, std::string>& previous);

std::string hosts_json(const Plan& plan);

Program agent_program(const UpOptions& options, const Plan& plan, const std::string& host);
Program gateway_program(const UpOptions& options, const Plan& plan, const std::string& name);
Program lab_program(const UpOptions& options, const Plan& plan);

// Whether /tmp can be a host's own: not when anything that hosts share lies below it.
bool tmp_can_be_private(const UpOptions& options);

}  // namespace nbos::local
