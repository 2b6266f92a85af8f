#include "jupyter/json_field.h"

#include <boost/json.hpp>

namespace nbos::jupyter {
namespace {

// Null when there is no such field; the document lives as long as `parsed`.
const boost::json::value* find(std::string_view json, std::string_view field,
                               boost::json::value& parsed) {
    boost::system::error_code error;
    parsed = boost::json::parse({json.data(), json.size()}, error);
    if (error || !parsed.is_object()) {
        return nullptr;
    }
    return parsed.get_object().if_contains({field.data(), field.size()});
}

}  // namespace

std::string string_field(std::string_view json, std::string_view field) {
    boost::json::value parsed;
    const auto* value = find(json, field, parsed);
    if (value == nullptr || !value->is_string()) {
        return {};
    }
    const auto& text = value->get_string();
    return {text.data(), text.size()};
}

bool bool_field(std::string_view json, std::string_view field, bool otherwise) {
    boost::json::value parsed;
    const auto* value = find(json, field, parsed);
    return value != nullptr && value->is_bool() ? value->get_bool() : otherwise;
}

std::uint64_t uint_field(std::string_view json, std::string_view field) {
    boost::json::value parsed;
    const auto* value = find(json, field, parsed);
    if (value == nullptr) {
        return 0;
    }
    if (value->is_uint64()) {
        return value->get_uint64();
    }
    return value->is_int64() && value->get_int64() > 0
               ? static_cast<std::uint64_t>(value->get_int64())
               : 0;
}

}  // namespace nbos::jupyter
