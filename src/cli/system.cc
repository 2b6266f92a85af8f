// `nbos system begin-anew`: the tables that gateways share, when most of their hosts are lost for
// good.
#include <fmt/core.h>

#include <boost/json.hpp>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/complaint.h"
#include "cli/running_cluster.h"

namespace nbos::cli {
namespace {

namespace json = boost::json;

struct Given {
    std::string data;
    bool json = false;
};

int begin_anew(const Given& given) {
    const auto cluster = RunningCluster::find(given.data);
    if (!cluster) {
        return complain(cluster.error());
    }
    const auto begun = cluster->post("/api/nbos/system/begin-anew", json::object{});
    if (!begun) {
        return complain(begun.error());
    }
    if (given.json) {
        fmt::print("{}\n", json::serialize(*begun));
    } else {
        fmt::print("the cluster's own tables are begun anew with what the gateways know of them\n");
    }
    return 0;
}

}  // namespace

void add_system(Command& root) {
    auto given = std::make_shared<Given>();
    auto system = root.add("system", "The tables that gateways share: kernels and sessions.");
    auto command =
        system.add("begin-anew", "Begin them anew: most of their hosts are lost for good.");
    command.option("--data", given->data, "the cluster's directory (NBOS_DATA)");
    command.flag("--json", given->json, "print JSON");
    command.does([given] { return begin_anew(*given); });
}

}  // namespace nbos::cli
