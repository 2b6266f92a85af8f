// `nbos gateway`: Jupyter's face of a cluster. `nbos up` starts one; by hand only for clusters that
// span machines.
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/run_gateway.h"

namespace nbos::cli {

void add_gateway(Command& root) {
    struct Given {
        GatewayOptions options;
        std::string python;
    };
    auto given = std::make_shared<Given>();
    auto& options = given->options;
    root.add("gateway", "Run the gateway that Jupyter clients connect to.")
        .option("--id", options.id,
                "its id, as in its certificate; begins with 'gateway', and is another one for each "
                "gateway")
        .required("--listen", options.listen, "IP:PORT for Jupyter clients")
        .required("--pki", options.pki_dir, "the authority, and its own certificate and key")
        .required("--hosts", options.hosts_file, "the list of all hosts, a JSON file")
        .required("--token-file", options.token_file, "one line: what clients must present")
        .option("--workspace", options.workspace, "where kernels start")
        .option("--base-path", options.base_path, "all addresses begin with it: /base")
        .list("--kernelspecs", options.kernelspec_dirs, "further kernelspecs: DIR/NAME/kernel.json")
        .option("--replicas", options.replicas, "of a kernel: 1, 3 or 5")
        .option("--system-replicas", options.system_replicas,
                "on how many hosts the cluster's own tables are kept: 1, 3 or 5")
        .option("--parked-for", options.parked_for,
                "how long a kernel that was shut down can be taken up again: 24h, 30m, 90s; 0 "
                "deletes it at once")
        .option("--iopub-messages", options.iopub_messages,
                "outputs a second and kernel, before they are merged; 0: no limit")
        .option("--iopub-mib", options.iopub_mib,
                "MiB of outputs a second and kernel, before the rest of the cell's is left out; 0: "
                "no limit")
        .option("--connections-per-address", options.connections_per_address,
                "above it an address is answered 429")
        .option("--python", given->python, "accepted and not used: hosts start the interpreters")
        .does([given] { return run_gateway(given->options); });
}

}  // namespace nbos::cli
