// `nbos down`: stops a cluster. What was computed stays in its data directory.
#include <fmt/core.h>

#include <boost/json.hpp>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/complaint.h"
#include "cli/running_cluster.h"
#include "local/control.h"
#include "local/supervisor.h"

namespace nbos::cli {
namespace {

constexpr std::chrono::seconds kAskLimit{5};
constexpr std::chrono::seconds kStopLimit{40};  // longer than the supervisor's own patience

struct Given {
    std::string data;
    bool json = false;
};

int say(const Given& given, bool stopped, std::size_t killed, const std::string& text) {
    if (given.json) {
        fmt::print("{}\n", boost::json::serialize(
                               boost::json::object{{"stopped", stopped}, {"killed", killed}}));
    } else {
        fmt::print("{}\n", text);
    }
    return 0;
}

int run(const Given& given) {
    const auto layout = local::layout_of(given.data);
    const auto record = local::read_run_record(layout.run_file());
    if (!record) {
        return complain(record.error());
    }
    if (!*record) {
        return say(given, false, 0,
                   fmt::format("Nothing is running from {}.", layout.data.string()));
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
    return say(
        given, true, killed,
        killed > 0 ? fmt::format("Stopped; {} processes had to be killed.", killed) : "Stopped.");
}

}  // namespace

void add_down(Command& root) {
    auto given = std::make_shared<Given>();
    root.add("down", "Stop the cluster; what was computed is kept.")
        .option("--data", given->data, "the cluster's directory (NBOS_DATA; ~/.local/share/nbos)")
        .flag("--json", given->json, "print JSON")
        .does([given] { return run(*given); });
}

}  // namespace nbos::cli
