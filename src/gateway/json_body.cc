#include "gateway/json_body.h"

#include <boost/json.hpp>

namespace nbos::gateway {

namespace json = boost::json;

Result<json::object> parse_body(std::string_view body) {
    if (body.find_first_not_of(" \t\r\n") == std::string_view::npos) {
        return json::object();
    }
    json::error_code error;
    auto value = json::parse({body.data(), body.size()}, error);
    if (!error && value.is_null()) {
        return json::object();
    }
    if (error || !value.is_object()) {
        return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                     error ? "the body is not JSON: " + error.message()
                           : std::string("the body is not a JSON object")};
    }
    return std::move(value.get_object());
}

std::string text_field(const json::object& object, std::string_view name) {
    const auto* value = object.if_contains({name.data(), name.size()});
    const auto* text = value == nullptr ? nullptr : value->if_string();
    return text == nullptr ? std::string() : std::string(text->data(), text->size());
}

Status texts_or_null(const json::object& object, std::initializer_list<std::string_view> names) {
    for (const auto name : names) {
        const auto* field = object.if_contains({name.data(), name.size()});
        if (field != nullptr && !field->is_string() && !field->is_null()) {
            return Error{Errc::kInvalid, Certainty::kDidNotHappen,
                         "\"" + std::string(name) + "\" must be a string"};
        }
    }
    return ok();
}

const json::object* object_field(const json::object& object, std::string_view name) {
    const auto* value = object.if_contains({name.data(), name.size()});
    return value == nullptr ? nullptr : value->if_object();
}

std::optional<std::map<std::string, std::string>> string_map(const json::object& object,
                                                             std::string_view name) {
    std::map<std::string, std::string> out;
    const auto* value = object.if_contains({name.data(), name.size()});
    if (value == nullptr || value->is_null()) {
        return out;
    }
    if (!value->is_object()) {
        return std::nullopt;
    }
    for (const auto& [key, entry] : value->get_object()) {
        if (!entry.is_string()) {
            return std::nullopt;
        }
        out[std::string(key.data(), key.size())] =
            std::string(entry.get_string().data(), entry.get_string().size());
    }
    return out;
}

}  // namespace nbos::gateway
