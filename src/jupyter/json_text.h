// JSON as text: quoting, checking, and taking an object apart without rewriting its values.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace nbos::jupyter {

bool is_utf8(std::string_view text);

// `text` as a JSON string, quotes included. Bytes that are not UTF-8 become U+FFFD.
std::string json_quoted(std::string_view text);

// Puts \ufffd for every escape of half a surrogate pair without its other half: \ud800. JSON allows
// them in its grammar, and our parser does not take them. Nothing moves. False: there was none.
bool replace_lone_surrogates(std::string& text);

bool is_json_object(std::string_view text);  // whole, and nested at most 512 deep

// The values of the object's fields as they stand in `text`: views into it. A repeated field has
// its last value. nullopt unless is_json_object(text).
std::optional<std::map<std::string, std::string_view, std::less<>>> object_fields(
    std::string_view text);

// The text of a field that is an object itself.
std::optional<std::string_view> object_field_text(std::string_view text, std::string_view name);

}  // namespace nbos::jupyter
