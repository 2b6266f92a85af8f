// `nbos host list|kill|start`: the hosts of the cluster.
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
    std::string host;
    bool json = false;
};

json::array list_of(const json::value& answer, std::string_view name) {
    const auto* object = answer.if_object();
    const auto* list = object == nullptr ? &answer : object->if_contains(name);
    return list != nullptr && list->is_array() ? list->get_array() : json::array{};
}

// What the gateway sees, with what the supervisor knows of each host's process.
json::array merge(const json::array& seen, const json::array& processes) {
    json::array merged;
    for (const auto& host : seen) {
        json::object row = host.is_object() ? host.get_object() : json::object{};
        for (const auto& process : processes) {
            if (text_of(process, "name") == text_of(host, "id")) {
                row["process"] = process.at("state");
                row["pid"] = process.at("pid");
            }
        }
        merged.emplace_back(std::move(row));
    }
    return merged;
}

int list(const Given& given) {
    const auto cluster = RunningCluster::find(given.data);
    if (!cluster) {
        return complain(cluster.error());
    }
    const auto seen = cluster->get("/api/nbos/hosts");
    if (!seen) {
        return complain(seen.error());
    }
    const auto supervisor = cluster->supervisor(json::object{{"op", "status"}});
    const auto hosts = merge(list_of(*seen, "hosts"),
                             supervisor ? list_of(*supervisor, "processes") : json::array{});
    if (given.json) {
        fmt::print("{}\n", json::serialize(json::object{{"hosts", hosts}}));
        return 0;
    }
    std::vector<std::vector<std::string>> rows{{"HOST", "STATE", "PROCESS", "REPLICAS", "ADDRESS"}};
    for (const auto& host : hosts) {
        rows.push_back({text_of(host, "id"), text_of(host, "state"), text_of(host, "process"),
                        text_of(host, "replicas"), text_of(host, "address")});
    }
    fmt::print("{}", as_table(rows));
    return 0;
}

int order(const Given& given, const char* op, const char* done) {
    const auto cluster = RunningCluster::find(given.data);
    if (!cluster) {
        return complain(cluster.error());
    }
    const auto answer = cluster->supervisor(json::object{{"op", op}, {"host", given.host}});
    if (!answer) {
        return complain(answer.error());
    }
    if (given.json) {
        fmt::print("{}\n", json::serialize(json::object{{"host", given.host}, {"state", done}}));
    } else {
        fmt::print("{} {}.\n", given.host, done);
    }
    return 0;
}

}  // namespace

void add_host(Command& root) {
    auto given = std::make_shared<Given>();
    auto host = root.add("host", "List, kill and start the hosts of the cluster.");
    const auto add = [&](const char* name, const char* help) {
        auto command = host.add(name, help);
        command.option("--data", given->data, "the cluster's directory (NBOS_DATA)");
        command.flag("--json", given->json, "print JSON");
        return command;
    };
    add("list", "List the hosts.").does([given] { return list(*given); });
    add("kill", "End everything on a host at once, as if its power had failed.")
        .required("host", given->host, "its id, such as host-1")
        .does([given] { return order(*given, "host-kill", "killed"); });
    add("start", "Start a host that was killed.")
        .required("host", given->host, "its id, such as host-1")
        .does([given] { return order(*given, "host-start", "started"); });
}

}  // namespace nbos::cli
