#include "gateway/session_table.h"

#include <algorithm>
#include <boost/json.hpp>

namespace nbos::gateway {
namespace {

namespace json = boost::json;

std::string text_of(const json::object& object, std::string_view key) {
    const auto* value = object.if_contains({key.data(), key.size()});
    const auto* text = value == nullptr ? nullptr : value->if_string();
    return text == nullptr ? std::string() : std::string(text->data(), text->size());
}

const json::array* array_of(const json::object& object, std::string_view key) {
    const auto* value = object.if_contains({key.data(), key.size()});
    return value == nullptr ? nullptr : value->if_array();
}

bool parse_session(const json::value& value, SavedTables& tables) {
    const auto* object = value.if_object();
    if (object == nullptr) {
        return false;
    }
    const auto kernel = Uuid::parse(text_of(*object, "kernel"));
    Session session{.model = {.id = text_of(*object, "id"),
                              .path = text_of(*object, "path"),
                              .name = text_of(*object, "name"),
                              .type = text_of(*object, "type")},
                    .kernel = KernelId{kernel.value_or(Uuid{})}};
    if (!kernel || session.model.id.empty()) {
        return false;
    }
    const auto id = session.model.id;
    tables.sessions[id] = std::move(session);
    return true;
}

bool parse_kernel(const json::value& value, SavedTables& tables) {
    const auto* object = value.if_object();
    const auto id = object == nullptr ? std::nullopt : Uuid::parse(text_of(*object, "id"));
    if (!id) {
        return false;
    }
    tables.kernels[KernelId{*id}] = text_of(*object, "spec");
    const auto* until = object->if_contains("parked_until_us");
    if (until != nullptr && until->is_int64()) {
        tables.parked[KernelId{*id}] = {std::chrono::microseconds(until->get_int64()),
                                        text_of(*object, "parked_path")};
    }
    return true;
}

bool parse_deleted(const json::value& value, SavedTables& tables) {
    const auto* text = value.if_string();
    const auto id = text == nullptr ? std::nullopt : Uuid::parse({text->data(), text->size()});
    if (!id) {
        return false;
    }
    tables.deleted.insert(KernelId{*id});
    return true;
}

}  // namespace

Session& SessionTable::put(Session session) {
    const auto id = session.model.id;
    return sessions_[id] = std::move(session);
}

bool SessionTable::remove(const std::string& id) { return sessions_.erase(id) > 0; }

Session* SessionTable::find(const std::string& id) {
    const auto found = sessions_.find(id);
    return found == sessions_.end() ? nullptr : &found->second;
}

Session* SessionTable::find_path(const std::string& path) {
    const auto found = std::find_if(sessions_.begin(), sessions_.end(), [&](const auto& session) {
        return session.second.model.path == path;
    });
    return found == sessions_.end() ? nullptr : &found->second;
}

std::string SessionTable::path_of(KernelId kernel) const {
    const auto found = std::find_if(sessions_.begin(), sessions_.end(), [&](const auto& session) {
        return session.second.kernel == kernel;
    });
    return found == sessions_.end() ? std::string() : found->second.model.path;
}

std::size_t SessionTable::remove_kernel(KernelId kernel) {
    return std::erase_if(sessions_,
                         [&](const auto& session) { return session.second.kernel == kernel; });
}

std::string to_json(const SavedTables& tables) {
    json::array kernels;
    for (const auto& [id, spec] : tables.kernels) {
        json::object kernel{{"id", id.value.str()}, {"spec", spec}};
        if (const auto parked = tables.parked.find(id); parked != tables.parked.end()) {
            kernel["parked_until_us"] = parked->second.until.count();
            kernel["parked_path"] = parked->second.path;
        }
        kernels.push_back(std::move(kernel));
    }
    json::array deleted;
    for (const auto& id : tables.deleted) {
        deleted.push_back(json::string(id.value.str()));
    }
    json::array sessions;
    for (const auto& [id, session] : tables.sessions) {
        sessions.push_back(json::object{{"id", id},
                                        {"path", session.model.path},
                                        {"name", session.model.name},
                                        {"type", session.model.type},
                                        {"kernel", session.kernel.value.str()}});
    }
    return json::serialize(json::object{{"version", 1},
                                        {"kernels", std::move(kernels)},
                                        {"deleted", std::move(deleted)},
                                        {"sessions", std::move(sessions)}}) +
           "\n";
}

std::optional<SavedTables> parse_tables(std::string_view text) {
    SavedTables tables;
    if (text.empty()) {
        return tables;
    }
    json::error_code error;
    const auto value = json::parse({text.data(), text.size()}, error);
    const auto* object = value.if_object();
    if (error || object == nullptr) {
        return std::nullopt;
    }
    const auto parse_all = [&](std::string_view key, auto parse_one) {
        const auto* array = array_of(*object, key);
        return array != nullptr && std::all_of(array->begin(), array->end(), [&](const auto& one) {
                   return parse_one(one, tables);
               });
    };
    if (!parse_all("kernels", parse_kernel) || !parse_all("deleted", parse_deleted) ||
        !parse_all("sessions", parse_session)) {
        return std::nullopt;
    }
    return tables;
}

}  // namespace nbos::gateway
