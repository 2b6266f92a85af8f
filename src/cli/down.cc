// `nbos down`: stops a cluster. What was computed stays in its data directory.
#include <fmt/core.h>

#include <boost/json.hpp>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/running_cluster.h"
#include "local/control.h"
#include "local/supervisor.h"

namespace nbos::cli {
namespace {

constexpr std::chrono::seconds kAskLimit{5};
constexpr std::chrono::seconds kStopLimit{40};  // longer than the supervisor's own patience

int run(const std::string& data) {
    const auto layout = local::layout_of(data);
    const auto record = local::read_run_record(layout.run_file());
    if (!record) {
        return complain(record.error());
    }
    if (!*record) {
        fmt::print("Nothing is running from {}.\n", layout.data.string());
        return 0;
    }
    const auto* supervisor = (*record)->find("supervisor");
    const bool asked =
        local::control_call(layout.socket(), R"({"op":"down"})", kAskLimit).has_value();
    if (asked && supervisor != nullptr) {
        local::wait_until_gone(supervisor->id, kStopLimit);
    }
    // What is alive now has lost its supervisor, or that one hangs.
    const auto killed = local::kill_recorded(**record);
    std::error_code ignored;
    std::filesystem::remove(layout.run_file(), ignored);
    std::filesystem::remove(layout.socket(), ignored);
    if (killed > 0) {
        fmt::print("Stopped; {} processes had to be killed.\n", killed);
    } else {
        fmt::print("Stopped.\n");
    }
    return 0;
}

}  // namespace

void add_down(Command& root) {
    auto data = std::make_shared<std::string>();
    root.add("down", "Stop the cluster; what was computed is kept.")
        .option("--data", *data, "the cluster's directory (NBOS_DATA; ~/.local/share/nbos)")
        .does([data] { return run(*data); });
}

}  // namespace nbos::cli
