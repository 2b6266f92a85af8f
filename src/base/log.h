// One line of log: time, level, component, message, on standard error. Secrets never go in here.
//
// Any thread may log; a line is one write(2), so lines never mix.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string_view>
#include <utility>

namespace nbos {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

void set_log_level(LogLevel level);
void set_log_name(std::string_view process);  // "agent host-1"; call before other threads start
void log_line(LogLevel level, std::string_view component, std::string_view message);

template <class... Args>
void log_debug(std::string_view component, fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::kDebug, component, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(std::string_view component, fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::kInfo, component, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(std::string_view component, fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::kWarning, component, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(std::string_view component, fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::kError, component, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace nbos
