// The JSON object in a request's body.
#pragma once

#include <boost/json/object.hpp>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace nbos::gateway {

// An empty body is an empty object. kInvalid: it is no JSON object.
Result<boost::json::object> parse_body(std::string_view body);
// Empty when it is absent, or no string.
std::string text_field(const boost::json::object& object, std::string_view name);
// kInvalid: a field of one of these names is neither a string nor null.
Status texts_or_null(const boost::json::object& object,
                     std::initializer_list<std::string_view> names);
const boost::json::object* object_field(const boost::json::object& object, std::string_view name);
// Empty when it is absent; nullopt when it is no object of strings.
std::optional<std::map<std::string, std::string>> string_map(const boost::json::object& object,
                                                             std::string_view name);

}  // namespace nbos::gateway
