// The JSON object in a request's body.
#pragma once

#include <boost/json/object.hpp>
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
const boost::json::object* object_field(const boost::json::object& object, std::string_view name);
// Empty when it is absent; nullopt when it is no object of strings.
std::optional<std::map<std::string, std::string>> string_map(const boost::json::object& object,
                                                             std::string_view name);

}  // namespace nbos::gateway
