// `nbos gateway`: Jupyter's HTTP and WebSocket face of a cluster, until it is told to stop.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nbos::cli {

struct GatewayOptions {
    std::string id = "gateway-1";  // in its certificate; must begin with "gateway"
    std::string listen;            // "ip:port"
    std::string pki_dir;           // authority, and this gateway's certificate and key (io/pki.h)
    std::string hosts_file;        // the cluster's hosts (io/hosts_file.h); read again on change
    std::string token_file;        // one line: what clients must present
    std::string workspace;         // where kernels start; empty: the working directory
    std::string base_path;         // "" or "/base": all addresses begin with it
    std::vector<std::string> kernelspec_dirs;  // further kernelspecs: DIR/NAME/kernel.json
    std::uint32_t replicas = 3;                // of a kernel
    std::uint32_t system_replicas = 3;         // hosts that keep the cluster's own tables
    std::string parked_for = "24h";            // "30m", "90s", "0": what is shut down goes at once
    std::uint32_t iopub_messages = 1000;       // a second and kernel; 0: no limit
    std::uint32_t iopub_mib = 16;              // likewise
    std::uint32_t connections_per_address = 4000;
};

// The exit status. Runs the event loop on the calling thread.
int run_gateway(const GatewayOptions& options);

}  // namespace nbos::cli
