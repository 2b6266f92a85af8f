// `nbos status`: whether the cluster runs, and how it is.
#include <fmt/core.h>

#include <boost/json.hpp>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/complaint.h"
#include "cli/running_cluster.h"
#include "cli/table.h"

namespace nbos::cli {
namespace {

namespace json = boost::json;

struct Given {
    std::string data;
    bool json = false;
};

// Whichever of the two answers; a gateway that is being restarted is no reason to say nothing.
json::object collect(const RunningCluster& cluster) {
    json::object all{{"running", true},
                     {"data", cluster.layout().data.string()},
                     {"gateway", cluster.record().gateway_url},
                     {"lab", cluster.record().lab_url},
                     {"workspace", cluster.record().workspace}};
    const auto supervisor = cluster.supervisor(json::object{{"op", "status"}});
    all["processes"] = supervisor ? supervisor->at("processes") : json::value(json::array{});
    all["isolated_hosts"] = supervisor ? supervisor->at("isolated") : json::value(nullptr);
    const auto status = cluster.get("/api/nbos/status");
    all["cluster"] = status ? *status : json::value(nullptr);
    if (!supervisor || !status) {
        all["error"] = !supervisor ? supervisor.error().what : status.error().what;
    }
    return all;
}

// Who keeps the cluster's own tables, and which gateways the hosts see.
void print_system(const json::object& all) {
    const auto* cluster = all.at("cluster").if_object();
    const auto* system = cluster == nullptr ? nullptr : cluster->if_contains("system");
    const auto* gateways = cluster == nullptr ? nullptr : cluster->if_contains("gateways");
    if (system == nullptr || !system->is_object() || gateways == nullptr || !gateways->is_array()) {
        return;
    }
    std::string members;
    for (const auto& member : system->at("members").as_array()) {
        const auto host = text_of(member, "host");
        const auto* mark = host == text_of(*system, "leader_host") ? " (leads)"
                           : member.at("up").as_bool()             ? ""
                                                                   : " (away)";
        members += (members.empty() ? "" : ", ") + host + mark;
    }
    fmt::print("{:<10} {}\n", "tables", members.empty() ? "none yet" : members);
    if (const auto why = text_of(*system, "problem"); !why.empty()) {
        fmt::print("{:<10} {}\n", "", why);
    }
    std::string names;
    for (const auto& gateway : gateways->get_array()) {
        names += (names.empty() ? "" : ", ") + text_of(gateway, "id") +
                 (gateway.at("acts").as_bool() ? " (looks after the cluster)" : "");
    }
    fmt::print("{:<10} {}\n", "gateways", names);
}

void print(const json::object& all) {
    const json::value value(all);
    fmt::print("data       {}\n", text_of(value, "data"));
    fmt::print("workspace  {}\n", text_of(value, "workspace"));
    if (const auto lab = text_of(value, "lab"); !lab.empty()) {
        fmt::print("JupyterLab {}\n", lab);
    }
    fmt::print("gateway    {}\n", text_of(value, "gateway"));
    if (const auto* cluster = all.at("cluster").if_object(); cluster != nullptr) {
        for (const auto& [name, field] : *cluster) {
            if (!field.is_array() && !field.is_object()) {
                fmt::print("{:<10} {}\n", std::string_view(name), text_of(all.at("cluster"), name));
            }
        }
    }
    print_system(all);
    std::vector<std::vector<std::string>> rows{{"PROCESS", "STATE", "PID", "ADDRESS"}};
    for (const auto& process : all.at("processes").as_array()) {
        rows.push_back({text_of(process, "name"), text_of(process, "state"),
                        text_of(process, "pid"), text_of(process, "address")});
    }
    fmt::print("\n{}", as_table(rows));
    if (const auto problem = text_of(value, "error"); !problem.empty()) {
        fmt::print("\nproblem: {}\n", problem);
    }
}

int run(const Given& given) {
    const auto cluster = RunningCluster::find(given.data);
    if (!cluster) {
        return complain(cluster.error());
    }
    const auto all = collect(*cluster);
    if (given.json) {
        fmt::print("{}\n", json::serialize(all));
    } else {
        print(all);
    }
    return all.contains("error") ? 1 : 0;
}

}  // namespace

void add_status(Command& root) {
    auto given = std::make_shared<Given>();
    root.add("status", "Show whether the cluster runs, and its processes.")
        .option("--data", given->data, "the cluster's directory (NBOS_DATA; ~/.local/share/nbos)")
        .flag("--json", given->json, "print JSON")
        .does([given] { return run(*given); });
}

}  // namespace nbos::cli
