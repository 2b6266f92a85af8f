// `nbos kernel list|revive|delete|restart|migrate|kill-replica`: the kernels of the cluster.
#include <fmt/core.h>

#include <boost/json.hpp>
#include <functional>
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
    std::string kernel;
    std::string host;
    bool json = false;
    bool parked = false;
};

std::string replicas_of(const json::value& kernel) {
    std::string text;
    const auto* replicas =
        kernel.if_object() ? kernel.get_object().if_contains("replicas") : nullptr;
    if (replicas == nullptr || !replicas->is_array()) {
        return text;
    }
    for (const auto& replica : replicas->get_array()) {
        text += (text.empty() ? "" : " ") + text_of(replica, "host");
    }
    return text;
}

int list(const Given& given) {
    const auto cluster = RunningCluster::find(given.data);
    if (!cluster) {
        return complain(cluster.error());
    }
    const auto answer =
        cluster->get(given.parked ? "/api/nbos/kernels?parked=1" : "/api/nbos/kernels");
    if (!answer) {
        return complain(answer.error());
    }
    if (given.json) {
        fmt::print("{}\n", json::serialize(*answer));
        return 0;
    }
    const auto* kernels =
        answer->is_object() ? answer->get_object().if_contains("kernels") : &*answer;
    std::vector<std::vector<std::string>> rows{{"KERNEL", "SPEC",
                                                given.parked ? "KEPT UNTIL" : "STATE", "EXECUTOR",
                                                "QUEUED", "REPLICAS"}};
    std::string reasons;
    if (kernels != nullptr && kernels->is_array()) {
        for (const auto& kernel : kernels->get_array()) {
            rows.push_back({text_of(kernel, "id"), text_of(kernel, "name"),
                            text_of(kernel, given.parked ? "parked_until" : "execution_state"),
                            text_of(kernel, "executor_host"), text_of(kernel, "queued"),
                            replicas_of(kernel)});
            if (const auto why = text_of(kernel, "reason"); !why.empty()) {
                reasons += fmt::format("{}: {}\n", text_of(kernel, "id"), why);
            }
        }
    }
    fmt::print("{}", as_table(rows));
    fmt::print("{}", reasons);
    return 0;
}

// Finds the cluster and the kernel, posts, and says what was done.
int order(const Given& given, const std::function<std::string(const std::string& id)>& path,
          const json::object& body, const std::string& done) {
    const auto cluster = RunningCluster::find(given.data);
    if (!cluster) {
        return complain(cluster.error());
    }
    const auto id = cluster->kernel_id(given.kernel, given.parked);
    if (!id) {
        return complain(id.error());
    }
    const auto answer = cluster->post(path(*id), body);
    if (!answer) {
        return complain(answer.error());
    }
    if (given.json) {
        fmt::print("{}\n", json::serialize(json::object{{"kernel", *id}, {"answer", *answer}}));
    } else {
        fmt::print("Kernel {} {}.\n", *id, done);
    }
    return 0;
}

// For good, parked or not.
int remove(const Given& given) {
    const auto cluster = RunningCluster::find(given.data);
    const auto id = cluster ? cluster->kernel_id(given.kernel, true) : cluster.error();
    const auto removed = id ? cluster->remove("/api/nbos/kernels/" + *id) : Status(id.error());
    if (!removed) {
        return complain(removed.error());
    }
    if (given.json) {
        fmt::print("{}\n", json::serialize(json::object{{"kernel", *id}, {"deleted", true}}));
    } else {
        fmt::print("Kernel {} is deleted.\n", *id);
    }
    return 0;
}

std::string below_nbos(const std::string& id, const char* action) {
    return "/api/nbos/kernels/" + id + "/" + action;
}

}  // namespace

void add_kernel(Command& root) {
    auto given = std::make_shared<Given>();
    auto kernel =
        root.add("kernel", "List kernels, restart, move, delete and revive them, try their loss.");
    const auto add = [&](const char* name, const char* help, bool one) {
        auto command = kernel.add(name, help);
        if (one) {
            command.required("kernel", given->kernel, "its id, or how that begins");
        }
        command.option("--data", given->data, "the cluster's directory (NBOS_DATA)");
        command.flag("--json", given->json, "print JSON");
        return command;
    };
    add("list", "List the kernels.", false)
        .flag("--parked", given->parked, "those that were shut down and can be taken up again")
        .does([given] { return list(*given); });
    add("revive", "Take a parked kernel up again, with all its variables.", true).does([given] {
        given->parked = true;
        return order(
            *given, [](const auto& id) { return below_nbos(id, "revive"); }, {}, "is back");
    });
    add("delete", "Delete a kernel for good, its variables and its log.", true).does([given] {
        return remove(*given);
    });
    add("restart", "Start a kernel afresh, with an empty namespace.", true).does([given] {
        return order(
            *given, [](const auto& id) { return "/api/kernels/" + id + "/restart"; }, {},
            "restarted");
    });
    add("migrate", "Make another host the executor of a kernel.", true)
        .option("--to", given->host,
                "the host that is to run the next cells; any other if not given")
        .does([given] {
            return order(
                *given, [](const auto& id) { return below_nbos(id, "migrate"); },
                {{"to", given->host}},
                given->host.empty() ? "now runs on another host" : "now runs on " + given->host);
        });
    add("kill-replica", "Kill a replica's interpreter, as a crash would.", true)
        .option("--host", given->host, "the replica on this host; the executor's if not given")
        .does([given] {
            json::object body;
            if (!given->host.empty()) {
                body["host"] = given->host;
            }
            return order(
                *given, [](const auto& id) { return below_nbos(id, "kill-replica"); }, body,
                "has lost an interpreter");
        });
}

}  // namespace nbos::cli
