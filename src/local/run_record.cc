#include "local/run_record.h"

#include <algorithm>
#include <boost/json.hpp>

#include "local/files.h"

namespace nbos::local {
namespace {

namespace json = boost::json;

constexpr mode_t kOwnerOnly = 0600;

std::string text_of(const json::object& object, std::string_view name) {
    const auto* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string().c_str()) : "";
}

RunningProcess process_of(const json::value& value) {
    const auto& object = value.as_object();
    return {.name = text_of(object, "name"),
            .id = {.pid = object.at("pid").to_number<pid_t>(),
                   .start = object.at("start").to_number<std::uint64_t>()},
            .address = text_of(object, "address")};
}

}  // namespace

const RunningProcess* RunRecord::find(std::string_view name) const {
    const auto found = std::ranges::find(processes, name, &RunningProcess::name);
    return found == processes.end() ? nullptr : &*found;
}

std::string to_json(const RunRecord& record) {
    json::array processes;
    for (const auto& process : record.processes) {
        processes.push_back(json::object{{"name", process.name},
                                         {"pid", process.id.pid},
                                         {"start", process.id.start},
                                         {"address", process.address}});
    }
    return json::serialize(json::object{{"gateway", record.gateway_url},
                                        {"lab", record.lab_url},
                                        {"workspace", record.workspace},
                                        {"ready", record.ready},
                                        {"processes", std::move(processes)}}) +
           "\n";
}

Result<RunRecord> parse_run_record(std::string_view text) {
    try {
        const auto value = json::parse(json::string_view(text.data(), text.size()));
        const auto& object = value.as_object();
        RunRecord record{.gateway_url = text_of(object, "gateway"),
                         .lab_url = text_of(object, "lab"),
                         .workspace = text_of(object, "workspace"),
                         .ready = object.at("ready").as_bool()};
        for (const auto& process : object.at("processes").as_array()) {
            record.processes.push_back(process_of(process));
        }
        return record;
    } catch (const std::exception& error) {
        return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                     std::string("run.json is damaged: ") + error.what()};
    }
}

Status write_run_record(const std::filesystem::path& file, const RunRecord& record) {
    return write_small_file(file, to_json(record), kOwnerOnly);
}

Result<std::optional<RunRecord>> read_run_record(const std::filesystem::path& file) {
    auto text = read_small_file(file);
    if (!text) {
        return std::move(text).error();
    }
    if (!*text) {
        return std::optional<RunRecord>();
    }
    auto record = parse_run_record(**text);
    if (!record) {
        return std::move(record).error();
    }
    return std::optional(std::move(*record));
}

}  // namespace nbos::local
