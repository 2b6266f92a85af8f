#include "jupyter/json_text.h"

#include <fmt/core.h>

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/parse.hpp>
#include <charconv>
#include <cstdint>

namespace nbos::jupyter {
namespace {

constexpr std::size_t kDepthMax = 512;

// Checks and keeps nothing but whether the outermost value is an object.
struct NullHandler {
    using Text = boost::json::string_view;
    using Code = boost::json::error_code;
    static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
    static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
    static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
    static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);

    bool on_document_begin(Code&) { return true; }
    bool on_document_end(Code&) { return true; }
    bool on_object_begin(Code&) { return true; }
    bool on_object_end(std::size_t, Code&) { return true; }
    bool on_array_begin(Code&) { return true; }
    bool on_array_end(std::size_t, Code&) { return true; }
    bool on_key_part(Text, std::size_t, Code&) { return true; }
    bool on_key(Text, std::size_t, Code&) { return true; }
    bool on_string_part(Text, std::size_t, Code&) { return true; }
    bool on_string(Text, std::size_t, Code&) { return true; }
    bool on_number_part(Text, Code&) { return true; }
    bool on_int64(std::int64_t, Text, Code&) { return true; }
    bool on_uint64(std::uint64_t, Text, Code&) { return true; }
    bool on_double(double, Text, Code&) { return true; }
    bool on_bool(bool, Code&) { return true; }
    bool on_null(Code&) { return true; }
    bool on_comment_part(Text, Code&) { return true; }
    bool on_comment(Text, Code&) { return true; }
};

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::size_t skip_space(std::string_view text, std::size_t at) {
    while (at < text.size() && is_space(text[at])) {
        ++at;
    }
    return at;
}

// Past the value that starts at `at`; the text is known to be valid JSON.
std::size_t skip_value(std::string_view text, std::size_t at) {
    int depth = 0;
    bool quoted_text = false;
    for (; at < text.size(); ++at) {
        const char c = text[at];
        if (quoted_text) {
            if (c == '\\') {
                ++at;
            } else if (c == '"') {
                quoted_text = false;
            }
        } else if (c == '"') {
            quoted_text = true;
        } else if (c == '{' || c == '[') {
            ++depth;
        } else if (c == '}' || c == ']') {
            if (depth == 0) {
                break;
            }
            --depth;
        } else if (c == ',' && depth == 0) {
            break;
        }
    }
    return at;
}

// The length of the UTF-8 sequence at `at`, or 0 where there is none.
std::size_t utf8_length(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[at + i]); };
    const std::uint8_t first = byte(0);
    const std::size_t length = first < 0x80   ? 1
                               : first < 0xC2 ? 0
                               : first < 0xE0 ? 2
                               : first < 0xF0 ? 3
                               : first < 0xF5 ? 4
                                              : 0;
    if (length == 0 || at + length > text.size()) {
        return 0;
    }
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0U) != 0x80U) {
            return 0;
        }
    }
    if ((first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) > 0x9F) ||
        (first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) > 0x8F)) {
        return 0;
    }
    return length;
}

// The code unit that the escape at `at` stands for; -1 where there is none.
int escaped_unit(std::string_view text, std::size_t at) {
    constexpr std::size_t kLength = 6;
    if (at + kLength > text.size() || text[at] != '\\' || text[at + 1] != 'u') {
        return -1;
    }
    unsigned unit = 0;
    const auto* end = text.data() + at + kLength;
    const auto parsed = std::from_chars(text.data() + at + 2, end, unit, 16);
    return parsed.ec == std::errc() && parsed.ptr == end ? static_cast<int>(unit) : -1;
}

bool is_high_half(int unit) { return unit >= 0xD800 && unit < 0xDC00; }
bool is_low_half(int unit) { return unit >= 0xDC00 && unit < 0xE000; }

}  // namespace

bool replace_lone_surrogates(std::string& text) {
    constexpr std::size_t kEscape = 6;
    bool found = false;
    for (std::size_t at = 0; at < text.size();) {
        const int unit = escaped_unit(text, at);
        if (unit < 0) {
            at += text[at] == '\\' ? 2 : 1;
        } else if (is_high_half(unit) && is_low_half(escaped_unit(text, at + kEscape))) {
            at += 2 * kEscape;
        } else {
            if (is_high_half(unit) || is_low_half(unit)) {
                text.replace(at, kEscape, "\\ufffd");
                found = true;
            }
            at += kEscape;
        }
    }
    return found;
}

bool is_utf8(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const auto length = utf8_length(text, at);
        if (length == 0) {
            return false;
        }
        at += length;
    }
    return true;
}

std::string json_quoted(std::string_view text) {
    std::string out = "\"";
    for (std::size_t at = 0; at < text.size();) {
        const char c = text[at];
        const std::size_t length = utf8_length(text, at);
        if (length == 0) {
            out += "\\ufffd";
        } else if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (c == '\n') {
            out += "\\n";
        } else if (length == 1 && static_cast<std::uint8_t>(c) < 0x20) {
            out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
            out.append(text.substr(at, length));
        }
        at += length == 0 ? 1 : length;
    }
    return out + '"';
}

bool is_json_object(std::string_view text) {
    const std::size_t first = skip_space(text, 0);
    if (first == text.size() || text[first] != '{') {
        return false;
    }
    boost::json::parse_options options;
    options.max_depth = kDepthMax;
    boost::json::basic_parser<NullHandler> parser(options);
    boost::json::error_code error;
    const auto used = parser.write_some(false, text.data(), text.size(), error);
    return !error && skip_space(text, used) == text.size();
}

std::optional<std::map<std::string, std::string_view, std::less<>>> object_fields(
    std::string_view text) {
    if (!is_json_object(text)) {
        return std::nullopt;
    }
    std::map<std::string, std::string_view, std::less<>> fields;
    std::size_t at = skip_space(text, 0) + 1;
    for (;;) {
        at = skip_space(text, at);
        if (at >= text.size() || text[at] == '}') {
            return fields;
        }
        if (text[at] == ',') {
            ++at;
            continue;
        }
        const std::size_t key_begin = at++;
        while (text[at] != '"') {
            at += text[at] == '\\' ? 2 : 1;
        }
        ++at;
        boost::json::error_code error;
        const auto key = boost::json::parse({text.data() + key_begin, at - key_begin}, error);
        at = skip_space(text, skip_space(text, at) + 1);  // over the colon
        const std::size_t begin = at;
        at = skip_value(text, at);
        std::size_t end = at;
        while (end > begin && is_space(text[end - 1])) {
            --end;
        }
        if (!error && key.is_string()) {
            const auto& name = key.get_string();
            fields[std::string(name.data(), name.size())] = text.substr(begin, end - begin);
        }
    }
}

std::optional<std::string_view> object_field_text(std::string_view text, std::string_view name) {
    const auto fields = object_fields(text);
    const auto found = fields ? fields->find(name) : decltype(fields->end()){};
    if (!fields || found == fields->end() || !found->second.starts_with('{')) {
        return std::nullopt;
    }
    return found->second;
}

}  // namespace nbos::jupyter
