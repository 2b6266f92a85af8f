// One string field of a JSON object, for routing: nothing else of the text is looked at by callers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nbos::jupyter {

// Empty when `json` is no object, or has no such string field at its top level.
std::string string_field(std::string_view json, std::string_view field);

// `otherwise` when there is no such boolean.
bool bool_field(std::string_view json, std::string_view field, bool otherwise);

// 0 when there is no such integer, or it is negative.
std::uint64_t uint_field(std::string_view json, std::string_view field);

}  // namespace nbos::jupyter
