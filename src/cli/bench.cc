// `nbos bench cell|start|raft|idle`: what things cost here, next to what they cost without
// NotebookOS.
#include <fmt/core.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/bench_idle.h"
#include "cli/bench_raft.h"
#include "cli/commands.h"
#include "cli/complaint.h"
#include "cli/running_cluster.h"
#include "local/plan.h"

namespace nbos::cli {
namespace {

struct Given {
    std::uint32_t count = 0;
    std::string code = "pass";
    bool json = false;
};

// The clients are Jupyter's own, so these two are Python programs, below bench/.
int run_script(const std::string& script, std::vector<std::string> arguments, const Given& given) {
    const auto installation = local::find_installation(false);
    if (!installation) {
        return complain(installation.error());
    }
    const auto root = installation->python.parent_path().parent_path().parent_path();
    const auto path = root / "bench" / script;
    if (!std::filesystem::exists(path)) {
        return complain({Errc::kNotFound, Certainty::kDidNotHappen,
                         path.string() + " is missing; run `nbos bench` from a source directory"});
    }
    arguments.insert(arguments.begin(), {installation->python.string(), path.string()});
    if (given.json) {
        arguments.emplace_back("--json");
    }
    // The scripts start clusters of their own with this very program.
    setenv("NBOS_BIN", installation->nbos.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
    setenv("NBOS_HOME", root.c_str(), 1);               // NOLINT(concurrency-mt-unsafe)
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (auto& argument : arguments) {
        argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    return complain({Errc::kIo, Certainty::kDidNotHappen, "cannot start " + arguments.front()});
}

void add_cell(Command& bench) {
    auto given = std::make_shared<Given>();
    given->count = 500;
    bench.add("cell", "A trivial cell from execute_request to idle, against stock Jupyter.")
        .option("--cells", given->count, "cells measured for each target")
        .option("--code", given->code, "the cell")
        .flag("--json", given->json, "end with one line of JSON")
        .does([given] {
            return run_script("cell.py",
                              {"--cells", std::to_string(given->count), "--code", given->code},
                              *given);
        });
}

void add_start(Command& bench) {
    auto given = std::make_shared<Given>();
    given->count = 20;
    bench.add("start", "A kernel from its creation to its first reply, against stock Jupyter.")
        .option("--runs", given->count, "starts measured for each target")
        .flag("--json", given->json, "end with one line of JSON")
        .does([given] {
            return run_script("start.py", {"--runs", std::to_string(given->count)}, *given);
        });
}

void add_raft(Command& bench) {
    auto options = std::make_shared<BenchRaftOptions>();
    bench.add("raft", "Commits a second and their latency, against the disk's own fdatasync.")
        .option("--directory", options->directory, "for the logs; a new one here if not given")
        .list("--bytes", options->bytes, "of a proposal: one row each")
        .list("--groups", options->groups, "one row each")
        .option("--seconds", options->seconds, "measured, a row")
        .option("--depth", options->depth, "proposals in flight per group")
        .flag("--json", options->json, "end with one line of JSON")
        .does([options] { return bench_raft(*options); });
}

void add_idle(Command& bench) {
    auto options = std::make_shared<BenchIdleOptions>();
    bench.add("idle", "What kernels cost that nobody uses, and what it takes to wake one.")
        .option("--directory", options->directory, "for the logs; a new one here if not given")
        .option("--groups", options->groups, "kernels, each with a replica on all three agents")
        .option("--seconds", options->seconds, "for which they are left alone")
        .option("--wakes", options->wakes, "cells on each agent, each in a kernel that sleeps")
        .flag("--json", options->json, "end with one line of JSON")
        .does([options] { return bench_idle(*options); });
}

}  // namespace

void add_bench(Command& root) {
    auto bench = root.add("bench", "Measure: cells, kernel starts, commits, idle kernels.");
    add_cell(bench);
    add_start(bench);
    add_raft(bench);
    add_idle(bench);
}

}  // namespace nbos::cli
