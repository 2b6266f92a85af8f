// `nbos agent`: one host of a cluster. `nbos up` starts these; by hand only for clusters that span
// machines.
#include <cstdint>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/run_agent.h"

namespace nbos::cli {

void add_agent(Command& root) {
    struct Given {
        AgentOptions options;
        std::uint32_t warm = 2;
    };
    auto given = std::make_shared<Given>();
    auto& options = given->options;
    root.add("agent", "Run one host of a cluster.")
        .required("--host", options.host, "its id, as in its certificate")
        .required("--listen", options.listen, "IP:PORT for the other hosts and the gateway")
        .required("--data", options.data_dir, "where its log is kept")
        .required("--pki", options.pki_dir, "the authority, and this host's certificate and key")
        .option("--hosts", options.hosts_file,
                "the list of all hosts, a JSON file; if not given, gateways say")
        .required("--python", options.python, "runs the interpreters")
        .list("--kernelspecs", options.kernelspec_dirs, "further kernelspecs: DIR/NAME/kernel.json")
        .option("--workspace", options.workspace, "where kernels start")
        .option("--warm", given->warm, "interpreters kept ready")
        .option("--interpreter-mib", options.interpreter_mib,
                "of memory that the code of one kernel may take here (0: no limit)")
        .does([given] {
            given->options.warm = static_cast<int>(given->warm);
            return run_agent(given->options);
        });
}

}  // namespace nbos::cli
